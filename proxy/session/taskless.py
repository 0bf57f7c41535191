"""What a session answers from the event loop's call with the client's packet, without waking its task.

Two kinds: look-ups of known shapes, whose question goes on to an agent at once and whose answer is written when it
comes, and settings that are surely answered with OK (`promises`). What is unusual is left to the task, which goes on
with what has begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.quick import Flight, limited
from proxy.registry import Registry
from proxy.session.diagnostics import Diagnostics
from proxy.session.engine import Engine
from proxy.session.prepared import Executed
from proxy.session.promises import MOST, promised
from shard.errors import SkyError
from shard.wire.protocol import Command

if TYPE_CHECKING:
    from proxy.session.session import Session


class Taskless:
    """The look-up of a session that is on its way, and how many promises it may still be given."""

    def __init__(self, session: Session, engine: Engine, registry: Registry) -> None:
        self._session, self._engine, self._registry = session, engine, registry
        self._flight: Flight | None = None
        self._asked = b""
        self._promises = 0 if engine.init_connect else MOST

    @property
    def busy(self) -> bool:
        """Whether a look-up is on its way."""
        return self._flight is not None

    def answer(self) -> bool:
        """Begin to answer what has come while no command is served, if that needs no task; return whether it did."""
        if self._flight is not None:  # something else comes, and may have to end it
            self._flight.hand_over()
            return False
        session = self._session
        wire, home = session.client.wire, session.home
        asked = wire.whole()
        if asked is None or home.closed or not wire.ready:
            return False
        if asked[4] == Command.STMT_EXECUTE:
            return self._take_off(asked, session.prepared.executed(asked[4:]))
        if asked[4] != Command.QUERY:
            return False
        status = promised(asked[5:], home.status, session.client.capabilities) if self._promises else None
        if status is None:
            return self._take_off(asked, asked[5:])
        self._promises -= 1
        home.promise(asked[4:], status)
        session.settings_dirty, session.diagnostics = True, None
        session.client.post_ok(asked, status)
        return True

    def promise_no_more(self) -> None:
        """Let settings go home from now on: a command has come that is no setting."""
        self._promises = 0

    def _take_off(self, packet: bytes, asked: bytes | Executed | None) -> bool:
        """Begin to answer what a packet asks, if it is a look-up that needs no task; return whether it is."""
        session = self._session
        if asked is None or session.standing.limits.result_bytes:
            return False
        flight = self._engine.take_off(session, asked, self._landed)
        if flight is None:
            return False
        try:
            session.standing.begin_query()
        except SkyError:
            self._registry.end(flight.query)
            flight.abandon()
            return False
        self._flight, self._asked = flight, packet
        flight.adopt = session.client.wire.wake
        return True

    def _landed(self, flight: Flight) -> bool:
        """Give the client the answer of a look-up; return False if the task must."""
        session = self._session
        if not session.client.wire.ready or session.home.closed:
            return False
        query, shape = flight.query, flight.shape
        self._flight = None
        rows = limited(query, shape, flight.answer)
        end = query.warnings, session.home.status
        session.client.post_whole(self._asked, shape.columns, rows, *end, flight.home_columns)
        session.standing.end_query()
        self._engine.landed(session, flight)
        session.diagnostics = Diagnostics(query.found_rows, query.warnings, query.notes)
        return True

    def taken_over(self) -> Flight | None:
        """Return what is on its way, for the task to go on with."""
        flight, self._flight = self._flight, None
        return flight

    def end(self) -> None:
        """End a look-up whose session ends before its task could go on with it."""
        flight = self.taken_over()
        if flight is not None:
            flight.abandon()
            self._registry.end(flight.query)
            self._session.standing.end_query()
