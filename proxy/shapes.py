"""Remembers the shapes of look-ups, and per session what the home server has allowed a moment ago.

A shape is found by what stands before and behind the key, byte for byte, and by the key's number of
digits, under the same settings and catalogue: then every token but the key is the one that was proved.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from proxy.home.settings import SessionSettings
from shard.planner.shape import KEY
from shard.wire import frames

ALLOWED_S = 1.0
"""Seconds for which the home server's check of names and privileges holds for a session."""
MOST_SHAPES = 1000
MOST_BYTES = 4096
"""A longer statement has no shape."""
MOST_PLACES = 6
"""Numbers of a statement that are tried as the key."""

_Place = tuple[int, bytes, bytes, int]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Everything of a look-up but its key.

    Attributes
    ----------
    database, version, director : str, int, str
        Whose key it is.
    prepared : tuple of bytes
        What the home server checks, cut where the key stands.
    main : tuple of tuple of bytes
        The fragment between chunk numbers, each part cut where the key stands.
    job : frames.Job
        The job without its number, fragment and chunk.
    columns, kinds : tuple of bytes, tuple of int
        Definitions of its columns, and their type bytes.
    limit : int or None
        Most rows.
    answers_empty : bool
        Whether it has no rows where no chunk has any.
    chunk_tables : pattern or None
        What chunk tables look like in messages.
    """

    database: str
    version: int
    director: str
    prepared: tuple[bytes, ...]
    main: tuple[tuple[bytes, ...], ...]
    job: frames.Job
    columns: tuple[bytes, ...]
    kinds: tuple[int, ...]
    limit: int | None
    answers_empty: bool
    chunk_tables: re.Pattern[str] | None


@dataclass(slots=True)
class Memory:
    """What is known of a session until anything of it goes home.

    Attributes
    ----------
    space : int
        Stands for its settings.
    allowed : dict
        Until when it may run statements of a shape without asking (monotonic seconds).
    """

    settings: SessionSettings
    space: int
    allowed: dict[Known, float] = field(default_factory=dict)


class Shapes:
    """Shapes of look-ups under the present catalogue."""

    def __init__(self) -> None:
        self._version = -1
        self._known: OrderedDict[_Place, Known | None] = OrderedDict()
        self._spaces: dict[tuple[object, ...], int] = {}
        self._numbers = itertools.count()

    def memory(self, settings: SessionSettings) -> Memory:
        """Return a new memory for a session with these settings."""
        key = (
            tuple(settings.values.items()), settings.database, settings.mode, settings.encoding,
            settings.charset, settings.limit, settings.timestamp,
        )  # fmt: skip
        if len(self._spaces) > MOST_SHAPES:
            self._spaces.clear()
        space = self._spaces.get(key)
        if space is None:
            space = self._spaces[key] = next(self._numbers)
        return Memory(settings, space)

    def may_know(self, sql: bytes) -> bool:
        """Whether there are shapes at all, and a text is short and has a number: it may be of one."""
        return bool(self._known) and len(sql) <= MOST_BYTES and KEY.search(sql) is not None

    def find(self, memory: Memory, version: int, sql: bytes) -> tuple[Known, bytes] | None:
        """Return the shape of a statement and its key, if it is known under this version of the catalogue."""
        if version != self._version or len(sql) > MOST_BYTES:
            return None
        for match in itertools.islice(KEY.finditer(sql), MOST_PLACES):
            place = (memory.space, sql[: match.start()], sql[match.end() :], len(match[0]))
            known = self._known.get(place)
            if known is not None:
                self._known.move_to_end(place)
                return known, match[0]
        return None

    def tried(self, memory: Memory, version: int, sql: bytes, start: int, end: int) -> bool:
        """Whether the statement with its key there was learnt, or could not be."""
        if version != self._version:
            self._version = version
            self._known.clear()
        return len(sql) > MOST_BYTES or (memory.space, sql[:start], sql[end:], end - start) in self._known

    def learn(self, memory: Memory, sql: bytes, start: int, end: int, known: Known | None) -> None:
        """Remember a statement's shape, or that it has none."""
        self._known[memory.space, sql[:start], sql[end:], end - start] = known
        if len(self._known) > MOST_SHAPES:
            self._known.popitem(last=False)


def allowed(memory: Memory, known: Known) -> bool:
    """Whether the home server has allowed a statement of this shape a moment ago."""
    return memory.allowed.get(known, 0.0) > time.monotonic()


def allow(memory: Memory, known: Known, asked: float) -> None:
    """Note that the home server, asked at that time (monotonic seconds), has allowed it."""
    if len(memory.allowed) > MOST_SHAPES:
        memory.allowed.clear()
    memory.allowed[known] = asked + ALLOWED_S
