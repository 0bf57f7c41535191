"""How a process is told to end: SIGTERM lets it finish what it does, a second one, or SIGINT, ends it at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine

from backend.tasks import ended


class Stopping:
    """What signals have said.

    Attributes
    ----------
    asked : asyncio.Event
        The process is to end.
    at_once : asyncio.Event
        It is not to wait for what it does.
    """

    def __init__(self) -> None:
        self.asked, self.at_once = asyncio.Event(), asyncio.Event()

    def heed(self, repeated: bool = False) -> None:
        """Listen to signals.

        Parameters
        ----------
        repeated : bool
            A second SIGTERM says nothing new: a parent passes on the one that whoever stops a service sends to all of
            its processes.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ask if repeated else self.urge)
        loop.add_signal_handler(signal.SIGINT, self.hurry)

    def ask(self) -> None:
        """Let the process finish what it does."""
        self.asked.set()

    def urge(self) -> None:
        """Let the process finish what it does; the second time, end it at once."""
        if self.asked.is_set():
            self.at_once.set()
        self.asked.set()

    def hurry(self) -> None:
        """End the process at once."""
        self.at_once.set()
        self.asked.set()

    async def patiently(self, work: Coroutine[None, None, None]) -> None:
        """Do what is to be done before the end; cut short as soon as there is a hurry."""
        if self.at_once.is_set():
            work.close()
            return
        task = asyncio.ensure_future(work)
        hurry = asyncio.ensure_future(self.at_once.wait())
        try:
            await asyncio.wait({task, hurry}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended([task, hurry])
        if not task.cancelled():
            task.result()
