"""What is known of one job: who submitted it, what it asks, and the names of the tables that it fills."""

from __future__ import annotations

import msgspec

from shard.catalog.naming import JOBS_DATABASE, quote


class SubmittedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the session that submitted a job was set to.

    Attributes
    ----------
    values : dict
        Setting → SQL literal, of the server's and of skyshard's own.
    role : str or None
        The role that was active.
    max_seconds : float
        max_statement_time; 0 is none.
    own : dict
        skyshard's own settings.
    """

    database: str | None
    values: dict[str, str]
    charset: str
    role: str | None = None
    max_seconds: float = 0.0
    own: dict[str, int] = {}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job as it stands in the metadata."""

    id: int
    user: str
    status: str
    account: str
    query: str
    settings: SubmittedSettings
    attempts: int
    stored: bool
    error: str

    @property
    def result(self) -> str:
        """The quoted name of its result."""
        return f"{quote(JOBS_DATABASE)}.{quote(f'result_{self.id}')}"

    @property
    def running(self) -> str:
        """The quoted name of what this attempt fills."""
        return self._filled(self.attempts)

    @property
    def unfinished(self) -> str:
        """The quoted names of what this attempt and those before it fill."""
        return ", ".join(map(self._filled, range(1, self.attempts + 1)))

    def _filled(self, attempt: int) -> str:
        return f"{quote(JOBS_DATABASE)}.{quote(f'running_{self.id}_{attempt}')}"
