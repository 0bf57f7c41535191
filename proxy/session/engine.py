"""The contract between sessions and what answers distributed statements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from proxy.home.metadata import CatalogueSnapshot
from proxy.home.settings import SessionSettings
from proxy.home.watch_locks import WatchLocks
from proxy.session.limits import RowLimits
from shard.planner.change import Change
from shard.planner.envelope import Envelope
from shard.planner.statement import Statement
from shard.planner.views import Views
from shard.wire.frames import Parameter

if TYPE_CHECKING:
    from proxy.jobs.accounts import Lent
    from proxy.quick import Flight
    from proxy.session.prepared import Executed
    from proxy.session.session import Session
    from shard.errors import SkyError


@dataclass(frozen=True, slots=True)
class Home:
    """The home server answers; `sql` replaces the text if it is not None."""

    sql: bytes | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """An EXPLAIN instead of the statement itself: as JSON, or a row a step."""

    as_json: bool


@dataclass(frozen=True, slots=True)
class Distributed:
    """Agents answer.

    Attributes
    ----------
    statement : Statement
        The query on sharded tables.
    native : bytes
        What is prepared at home for the whole statement: MariaDB's own errors and the check of privileges come from it.
    envelope : Envelope or None
        The statement around a query, which stores its rows.
    prefix : bytes
        The statement's own ``SET STATEMENT … FOR``, if it has one.
    contents : CatalogueSnapshot
        The catalogue that the route was decided from.
    views : mapping
        The definitions of views that it was decided from.
    change : Change or None
        An UPDATE or DELETE of the user's own tables that uses the rows.
    explained : Explained or None
        The statement is to be explained, not run.
    limits : RowLimits or None
        What takes the place of the session's limits.
    settings : SessionSettings or None
        The session settings that the statement was routed under.
    """

    statement: Statement
    native: bytes
    envelope: Envelope | None = None
    prefix: bytes = b""
    contents: CatalogueSnapshot = field(default_factory=CatalogueSnapshot)
    views: Views = field(default_factory=dict)
    change: Change | None = None
    explained: Explained | None = None
    limits: RowLimits | None = None
    settings: SessionSettings | None = None

    @property
    def has_rows(self) -> bool:
        """Whether the client is sent rows; whatever stores them elsewhere is answered with OK."""
        return self.explained is not None or (self.envelope is None and self.change is None)

    def split(self, parameters: tuple[Parameter, ...]) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...]]:
        """Return (parameters of the inner query, parameters of the INSERT, CREATE or SET around it)."""
        if self.change is not None:
            return tuple(parameters[index] for index in self.change.order), ()
        if self.envelope is None:
            return parameters, ()
        first = self.envelope.before
        last = first + self.statement.parameters
        return parameters[first:last], parameters[:first] + parameters[last:]


@dataclass(frozen=True, slots=True)
class Local:
    """The proxy answers by itself.

    Attributes
    ----------
    answer : callable
        Writes the answer to the client; its argument says whether rows are binary.
    stand_in : bytes or None
        What is prepared at home in the statement's place, with as many parameters and the same columns; None:
        the statement itself.
    check : callable or None
        Raises what is wrong with the statement when it is prepared, as far as `stand_in` does not show it.
    at_home : bool
        The home server has run the client's own statement, or a part of it, and knows its warnings.
    """

    answer: Callable[[bool], Awaitable[None]]
    stand_in: bytes | None = None
    check: Callable[[], Awaitable[None]] | None = None
    at_home: bool = False


Route = Home | Distributed | Local
Version = tuple[int, int]
"""The version of the catalogue, and how often the views over it have changed."""


class Engine(Protocol):
    """Decides about statements and runs distributed ones."""

    @property
    def locks(self) -> WatchLocks:
        """What sessions wait for at home while their queries run."""

    @property
    def init_connect(self) -> bool:
        """Whether the home server begins users' sessions with statements of its own."""

    @property
    def longest_packet(self) -> int:
        """Bytes of the longest command that the home server takes."""

    def job_of(self, name: str) -> Lent | None:
        """Return what was lent to a job that logs in by this name; None if none does."""

    def concerns(self, session: Session, sql: bytes) -> bool:
        """Whether a statement could be one that is not the home server's to answer."""

    def take_off(
        self, session: Session, asked: bytes | Executed, landed: Callable[[Flight], bool]
    ) -> Flight | None:
        """Begin a look-up that needs no task, if the statement is one."""

    def landed(self, session: Session, flight: Flight) -> None:
        """Account for a look-up whose answer the client has."""

    def adopted(self, session: Session, flight: Flight) -> Coroutine[None, None, None]:
        """Return what a task has to do for a look-up that was begun."""

    async def settings(self, session: Session) -> SessionSettings:
        """Return a session's settings, read anew if they may have changed."""

    async def decide(self, session: Session, sql: bytes) -> Route:
        """Return who answers a statement; may raise SkyError."""

    def refused(self, session: Session, sql: bytes, error: SkyError) -> None:
        """Note a query that is not begun."""

    async def renew(self, session: Session, sql: bytes, route: Distributed) -> Distributed:
        """Return the route of a prepared statement, decided anew if what it was decided from has changed."""

    async def with_catalogue_rows(self, session: Session, sql: bytes, lasting: bool = False) -> bytes | None:
        """Return a statement on information_schema with the true rows of sharded tables in it; None if it needs none.

        `lasting`: it is prepared, and may run much later.
        """

    def shortcut(self, session: Session, asked: bytes | Executed) -> Coroutine[None, None, None] | None:
        """Return the work of answering a look-up whose shape is known, which needs no decision; None if it is none.

        Parameters
        ----------
        asked : bytes or Executed
            A packet's statement, or the execution of a prepared one.
        """

    async def shortcut_anew(
        self, session: Session, asked: bytes | Executed
    ) -> Coroutine[None, None, None] | None:
        """Like `shortcut`, but first re-reads the session's settings, which may have changed."""

    @property
    def version(self) -> Version:
        """What is known of the catalogue, and of the views over it."""

    async def refresh(self, known: Version) -> bool:
        """Read the catalogue and the views over it again; return whether they are others than in version `known`."""

    async def run(
        self,
        session: Session,
        statement: Distributed,
        parameters: tuple[Parameter, ...],
        binary: bool,
        status: int,
    ) -> None:
        """Write a distributed statement's whole answer to the client."""
