"""Several processes of one proxy, which share its port: each has an interpreter, and so a core, of its own.

The kernel gives every new connection to one of them. KILL reaches a query wherever it runs, because the home
server knows every session; limits hold for all together (`proxy.session.board`).
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from types import FrameType

from proxy.main import main
from proxy.session.board import Board

log = logging.getLogger("skyshard.proxy")
_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PAUSE_S = 0.5
"""Seconds before a process that died is started again."""


class Processes:
    """The parent: starts the processes, restarts those that die, ends all of them at a signal."""

    def __init__(self, config_path: str, number: int) -> None:
        self._config_path = config_path
        self._board = Board(number)
        self._numbers: dict[int, int] = {}
        self._stopping: signal.Signals | None = None

    def run(self) -> int:
        """Run until a signal, or until one of the processes cannot start; return the exit code.

        SIGTERM is passed on, a second one as SIGINT: the processes themselves take any number of the former for one, since
        whoever stops a service may send it to all of its processes.
        """
        for which in _SIGNALS:
            signal.signal(which, self._stop)
        for number in range(len(self._board.rows)):
            self._start(number)
        failed = 0
        while self._numbers:
            pid, status = os.wait()
            number = self._numbers.pop(pid)
            self._board.clear(number)
            code = os.waitstatus_to_exitcode(status)
            if code == 1 and self._stopping is None:  # it has said why it cannot run
                failed = 1
                self._stop(signal.SIGTERM, None)
            elif self._stopping is None:
                log.error("process %s ended with %s; it is started again", number + 1, code)
                time.sleep(_PAUSE_S)
                self._start(number)
        return failed

    def _start(self, number: int) -> None:
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # none comes before the child is known
        if self._stopping is not None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return
        pid = os.fork()
        if pid:
            self._numbers[pid] = number
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return
        code = 1
        try:
            for which in _SIGNALS:
                signal.signal(which, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            if sys.platform.startswith("linux"):
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT))
            if os.getppid() == parent:
                code = main(self._config_path, number, self._board.share(number))
        finally:
            logging.shutdown()
            os._exit(code)

    def _stop(self, which: int, frame: FrameType | None) -> None:
        del frame
        self._stopping = signal.Signals(which) if self._stopping is None else signal.SIGINT
        for pid in self._numbers:
            os.kill(pid, self._stopping)
