"""What runs in the other processes of one proxy, and whom they kill: tables in memory that they share.

A process writes its own queries only, and reads all. An entry is written between two steps of a counter,
which is odd meanwhile: who finds it odd, or changed, reads again, so that nothing is locked.

KILL goes by the home server, which forgets it if the session runs nothing there at that moment, as the session of a
distributed query does between two statements. So a process notes whom its clients kill, too.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

KILLS = 256
"""The last KILLs of a process that others see; they look five times a second."""
_KILL = np.dtype([("session", "<u8"), ("sent", "<f8")])
SLOTS = 256
"""Queries of one process that others see; more are seen by their own process alone."""
TEXT_BYTES = 16 << 10
"""Bytes of a query's text that others see."""
_HEAD = struct.Struct("<IQdBBfI")
_STATE = 64
_ENTRY = _HEAD.size + _STATE + TEXT_BYTES
_READS = 3


@dataclass(frozen=True, slots=True)
class Shown:
    """A distributed query as PROCESSLIST shows it.

    Attributes
    ----------
    started : float
        By the monotonic clock, which is the machine's.
    stage, stages : int
        The stage that it is in, from 1, and how many it has.
    percent : float
        How much of the stage is done.
    """

    session_id: int
    sql: str
    state: str
    started: float
    stage: int
    stages: int
    percent: float

    @property
    def overall(self) -> float:
        """How much of everything is done, in percent, as MariaDB reckons it for SHOW PROCESSLIST."""
        return (100 * (self.stage - 1) + self.percent) / self.stages


class RunningBoard:
    """The table; made before the processes are forked."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.memory = mmap.mmap(-1, processes * SLOTS * _ENTRY)
        kills = mmap.mmap(-1, processes * KILLS * _KILL.itemsize)
        self.kills = np.frombuffer(kills, dtype=_KILL).reshape(processes, KILLS)

    def clear(self, number: int) -> None:
        """Forget the queries and KILLs of a process that has ended."""
        self.kills[number] = np.zeros((), _KILL)
        for start in _starts(number):
            _HEAD.pack_into(self.memory, start, 0, 0, 0, 0, 0, 0, 0)

    def share(self, number: int) -> RunningShare:
        """Return a process's view."""
        return RunningShare(self, number)


class RunningShare:
    """The view of one process: it writes its own queries, and reads those of the others."""

    def __init__(self, board: RunningBoard, number: int) -> None:
        self._memory = board.memory
        self._others = [other for other in range(board.processes) if other != number]
        self._free = list(_starts(number))
        self._slots: dict[int, tuple[int, int]] = {}
        self._kills, self._own_kills, self._killed = board.kills, board.kills[number], 0

    def kill(self, session_id: int, sent: float) -> None:
        """Note a KILL that the home server has allowed.

        Parameters
        ----------
        sent : float
            When it was sent there, by the monotonic clock: what begins later is not meant.
        """
        entry = self._own_kills[self._killed % KILLS]
        self._killed += 1
        entry["sent"] = 0.0  # nobody finds the new session with the old time
        entry["session"] = session_id
        entry["sent"] = sent

    def killed(self, session_id: int, since: float) -> bool:
        """Whether a process has killed a session since then (monotonic clock)."""
        late = self._kills["sent"] >= since  # read first: it is written last
        return bool((late & (self._kills["session"] == session_id)).any())

    def show(self, query: Shown) -> None:
        """Let the others see a query, or how far it is now."""
        text = b""
        if query.session_id not in self._slots:
            if not self._free:
                return
            text = query.sql.encode()[:TEXT_BYTES]
            self._slots[query.session_id] = self._free.pop(), len(text)
        start, length = self._slots[query.session_id]
        turn = _HEAD.unpack_from(self._memory, start)[0] | 1
        _HEAD.pack_into(self._memory, start, turn, query.session_id, query.started, 0, 0, 0, 0)
        at = start + _HEAD.size
        self._memory[at : at + _STATE] = query.state.encode()[:_STATE].ljust(_STATE, b"\0")
        self._memory[at + _STATE : at + _STATE + len(text)] = text
        whole = (query.session_id, query.started, query.stage, query.stages, query.percent, length)
        _HEAD.pack_into(self._memory, start, turn + 1 & 0xFFFFFFFF, *whole)

    def hide(self, session_id: int) -> None:
        """Say that a query has ended."""
        start, _ = self._slots.pop(session_id, (None, 0))
        if start is not None:
            turn = _HEAD.unpack_from(self._memory, start)[0]
            _HEAD.pack_into(self._memory, start, (turn | 1) + 1 & 0xFFFFFFFF, 0, 0, 0, 0, 0, 0)
            self._free.append(start)

    def others(self) -> Iterator[Shown]:
        """Yield what the other processes show."""
        for number in self._others:
            for start in _starts(number):
                found = self._read(start)
                if found is not None:
                    yield found

    def _read(self, start: int) -> Shown | None:
        for _ in range(_READS):
            turn, session, started, stage, stages, percent, length = _HEAD.unpack_from(self._memory, start)
            if not session:
                return None
            at = start + _HEAD.size
            state = self._memory[at : at + _STATE]
            text = self._memory[at + _STATE : at + _STATE + min(length, TEXT_BYTES)]
            if not turn & 1 and _HEAD.unpack_from(self._memory, start)[0] == turn:
                words = (text.decode(errors="ignore"), state.rstrip(b"\0").decode(errors="ignore"))
                return Shown(session, *words, started, stage, stages, percent)
        return None


def _starts(number: int) -> range:
    """Return where the entries of a process begin."""
    return range(number * SLOTS * _ENTRY, (number + 1) * SLOTS * _ENTRY, _ENTRY)
