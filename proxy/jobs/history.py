"""One line of the history of queries, on its way from the engine that has run it to the metadata."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.registry import RunningQuery


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A distributed query that has ended.

    Attributes
    ----------
    query : RunningQuery
        The query, which changes no more.
    seconds : float
        How long it took.
    outcome : str
        "ok", "cancelled" or "error".
    size : int
        Bytes of rows that workers sent.
    error : str
        What its client was told; empty unless it has failed.
    """

    query: RunningQuery
    seconds: float
    outcome: str
    size: int
    error: str


__all__ = ["HistoryEntry"]
