"""A distributed statement on its way: who asked, how, and what was planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.home.definitions import Shadow
from proxy.home.metadata import CatalogueSnapshot
from proxy.home.own_tables import Shipment, which
from proxy.home.settings import SessionSettings
from proxy.registry import RunningQuery
from proxy.session.cursor import Cursor
from proxy.session.session import Session
from shard.catalog.model import Kind
from shard.planner.change import Change
from shard.planner.envelope import Envelope, Stores
from shard.planner.plan import Plan, Ship, Sql
from shard.wire import frames


@dataclass(frozen=True, slots=True)
class Request:
    """A distributed statement on its way.

    Attributes
    ----------
    user : str
        Whose it is: the session's user, or who has submitted the job that it runs.
    contents : CatalogueSnapshot
        What it was planned with, and reads.
    binary, status
        Whether rows go in the binary protocol, and the status flags of the reply.
    variables : mapping
        The session's user variables that it reads, as SQL literals.
    shadows : tuple of Shadow
        All tables that it reads.
    now : str
        Seconds since 1970: the same now for all its pieces.
    gather_limit : int
        Bytes of rows that it may bring home.
    shipments : mapping
        Users' own tables as they go to the workers, by target.
    envelope, around : Envelope or None, tuple of Parameter
        What stores the rows, and its own parameters.
    change : Change or None
        What uses them to change the session's own tables.
    """

    session: Session
    user: str
    query: RunningQuery
    contents: CatalogueSnapshot
    plan: Plan
    parameters: tuple[frames.Parameter, ...]
    binary: bool
    status: int
    settings: SessionSettings
    variables: Mapping[str, str]
    shadows: tuple[Shadow, ...]
    now: str
    gather_limit: int
    shipments: Mapping[tuple[object, ...], Shipment] = field(default_factory=dict)
    envelope: Envelope | None = None
    around: tuple[frames.Parameter, ...] = ()
    change: Change | None = None

    @property
    def cursor(self) -> Cursor | None:
        """The cursor that its rows are for, if they are not for the client itself."""
        out = self.session.out
        return out if isinstance(out, Cursor) else None

    def shadows_at_home(self) -> tuple[Shadow, ...]:
        """Return the shadows of tables that a service connection at home does not read itself: all but replicated."""
        return tuple(shadow for shadow in self.shadows if shadow.table.kind is not Kind.REPLICATED)

    def catalogue(self) -> dict[str, int]:
        """Return the versions of the catalogue's databases that it reads."""
        return {
            shadow.database: shadow.version for shadow in self.shadows if shadow.table.kind is not Kind.OWN
        }

    @property
    def stores_into_columns(self) -> bool:
        """Whether the rows go into columns that exist, so that the query's own column names mean nothing."""
        return self.envelope is not None and self.envelope.stores is not Stores.CREATE

    def shipment(self, plan: Plan, ship: Ship) -> Shipment:
        """Return what the workers get of a user's own table for one plan of the statement."""
        return self.shipments[which(plan, ship)]

    def picked(self, sql: Sql) -> list[frames.Parameter]:
        """Return the parameters of `sql`, in its order."""
        return [self.parameters[index] for index in sql.parameters] if self.parameters else []

    def home_values(self) -> dict[str, str]:
        """Return the session's settings for a statement that runs at home: the same now for all pieces."""
        return {**self.settings.values, "timestamp": self.now}
