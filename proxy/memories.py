"""What is known of sessions from one statement to the next: their settings, and what they may run without asking."""

from __future__ import annotations

import time

from proxy.home import settings as home_settings
from proxy.home.settings import SessionSettings
from proxy.registry import Registry
from proxy.session.session import Session
from proxy.shapes import LookUpShape, Memory, Shapes, allow

_SPARE = 64
"""Memories of sessions that have ended, besides as many as there are sessions, until they are forgotten."""


class Memories:
    """A memory for each session, until anything of the session goes home that may change its settings."""

    def __init__(self, registry: Registry, shapes: Shapes) -> None:
        self._registry, self._shapes = registry, shapes
        self._of: dict[int, Memory] = {}

    def known(self, session: Session) -> Memory | None:
        """Return a session's memory; None if its settings must be read before."""
        return None if session.settings_dirty else self._of.get(session.id)

    async def of(self, session: Session) -> Memory:
        """Return a session's memory, its settings read anew if they may have changed."""
        memory = self.known(session)
        return memory or self._begin(session, await home_settings.read(session.home))

    async def for_look_up(self, session: Session, likely: tuple[LookUpShape, bytes] | None) -> None:
        """Read a session's settings anew, and ask in the same exchange for leave to run what is likely a look-up."""
        if likely is None:
            await self.of(session)
            return
        shape, key = likely
        asked = time.monotonic()
        settings, columns = await home_settings.read_and_check(session.home, key.join(shape.prepared))
        memory = self._begin(session, settings)
        if columns is not None:
            allow(memory, shape, asked, columns)

    def _begin(self, session: Session, settings: SessionSettings) -> Memory:
        sessions = self._registry.sessions
        if len(self._of) > 2 * len(sessions) + _SPARE:
            self._of = {key: value for key, value in self._of.items() if key in sessions}
        memory = self._of[session.id] = self._shapes.memory(settings)
        session.mode = settings.mode
        session.settings_dirty = False
        return memory
