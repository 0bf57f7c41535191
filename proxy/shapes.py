"""Remembers the shapes of look-ups, and per session what the home server has allowed a moment ago.

A shape is found by the text before and behind the key, byte for byte, and by the key's number of digits, under the
same settings and catalogue: then every token but the key is the one that was proved. The key of a prepared statement is
a parameter: its shape is found by its text and, per parameter, the properties that affect column definitions (type,
NULL, length, digits).
"""

from __future__ import annotations

import itertools
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.home.definitions import form_of
from proxy.home.settings import SessionSettings
from proxy.session.engine import Distributed
from proxy.session.prepared import Executed
from shard.planner.shape import KEY
from shard.wire import frames
from shard.wire.protocol import INTEGER_SIZES, FieldType

ALLOWED_S = 1.0
"""Seconds for which the home server's check of names and privileges holds for a session."""
MOST_SHAPES = 1000
MOST_BYTES = 4096
"""A longer statement has no shape."""
MOST_PLACES = 6
"""Numbers of a statement that are tried as the key."""

_INTEGERS = {kind: size for kind, size in INTEGER_SIZES.items() if kind != FieldType.YEAR}
"""Type bytes of parameters that may be keys → bytes of their values."""
_LARGEST = 10**18

_Place = tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LookUpShape:
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
        The job without its number, fragment, parameters and chunk.
    columns, kinds : tuple of bytes, tuple of int
        Definitions of its columns, and their type bytes.
    limit : int or None
        Most rows.
    offset : int
        Rows that the worker passes over.
    answers_empty : bool
        Whether it has no rows where no chunk has any.
    chunk_tables : pattern or None
        What chunk tables look like in messages.
    mark : int or None
        The parameter that is the key; None: it stands in the text.
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
    offset: int
    answers_empty: bool
    chunk_tables: re.Pattern[str] | None
    mark: int | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """The home server's leave to run a statement, until when it holds (monotonic seconds), and its columns."""

    until: float
    home_columns: tuple[bytes, ...]


@dataclass(slots=True)
class Memory:
    """What is known of a session until a statement of it goes to the home server, which may change its settings.

    Attributes
    ----------
    space : int
        Stands for its settings.
    allowed : dict
        Until when it may run statements of a shape without asking (monotonic seconds).
    """

    settings: SessionSettings
    space: int
    allowed: dict[LookUpShape, Allowed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class LookUp:
    """A statement of a known shape, of a session that has this memory.

    Attributes
    ----------
    asked : bytes or Executed
        The statement itself, or the execution of a prepared one.
    """

    memory: Memory
    shape: LookUpShape
    key: bytes
    asked: bytes | Executed

    @property
    def parameters(self) -> tuple[frames.Parameter, ...]:
        """The values that a prepared statement is executed with."""
        return () if isinstance(self.asked, bytes) else self.asked.parameters


class Shapes:
    """Shapes of look-ups under the present catalogue."""

    def __init__(self) -> None:
        self._version = -1
        self._shapes: OrderedDict[_Place, LookUpShape | None] = OrderedDict()
        self._latest: dict[_Place, LookUpShape] = {}
        self._spaces: dict[tuple[object, ...], int] = {}
        self._numbers = itertools.count()

    def memory(self, settings: SessionSettings) -> Memory:
        """Return a new memory for a session with these settings."""
        key = settings.meaning
        if len(self._spaces) > MOST_SHAPES:
            self._spaces.clear()
        space = self._spaces.get(key)
        if space is None:
            space = self._spaces[key] = next(self._numbers)
        return Memory(settings, space)

    def may_know(self, asked: bytes | Executed) -> bool:
        """Whether there are shapes at all, and a statement may be of one."""
        if isinstance(asked, bytes):
            return bool(self._shapes) and len(asked) <= MOST_BYTES and KEY.search(asked) is not None
        return bool(self._shapes) and _plain(asked.route)

    def find(self, memory: Memory, version: int, asked: bytes | Executed) -> LookUp | None:
        """Return the look-up that a statement is, if its shape is known under this version of the catalogue."""
        if version != self._version:
            return None
        if not isinstance(asked, bytes):
            return self._find_executed(memory, asked)
        if len(asked) > MOST_BYTES:
            return None
        for match in itertools.islice(KEY.finditer(asked), MOST_PLACES):
            place = (memory.space, asked[: match.start()], asked[match.end() :], len(match[0]))
            shape = self._shapes.get(place)
            if shape is not None:
                self._shapes.move_to_end(place)
                return LookUp(memory, shape, match[0], asked)
        return None

    def likely(self, version: int, asked: bytes | Executed) -> tuple[LookUpShape, bytes] | None:
        """Return shape and key of the look-up that a text was under the settings of the session that asked it last."""
        if version != self._version or not isinstance(asked, bytes):
            return None
        for match in itertools.islice(KEY.finditer(asked), MOST_PLACES):
            shape = self._latest.get((asked[: match.start()], asked[match.end() :], len(match[0])))
            if shape is not None:
                return shape, match[0]
        return None

    def _find_executed(self, memory: Memory, asked: Executed) -> LookUp | None:
        route, parameters = asked.route, asked.parameters
        if not parameters or not _plain(route) or not _same_meaning(route.settings, memory.settings):
            return None
        place = _marked(memory, route.statement.text, parameters)
        shape = self._shapes.get(place)
        if shape is None or shape.mark is None:
            return None
        key = _key(parameters[shape.mark])
        if key is None:
            return None
        self._shapes.move_to_end(place)
        return LookUp(memory, shape, key, asked)

    def tried(self, memory: Memory, version: int, sql: bytes, start: int, end: int) -> bool:
        """Whether a statement whose key stands there has been tried, or is too long to have a shape."""
        self._renew(version)
        return len(sql) > MOST_BYTES or (memory.space, sql[:start], sql[end:], end - start) in self._shapes

    def learn(self, memory: Memory, sql: bytes, start: int, end: int, shape: LookUpShape | None) -> None:
        """Remember a statement's shape, or that it has none."""
        self._keep((memory.space, sql[:start], sql[end:], end - start), shape)
        if shape is not None:
            if len(self._latest) > MOST_SHAPES:
                self._latest.clear()
            self._latest[sql[:start], sql[end:], end - start] = shape

    def tried_marked(
        self, memory: Memory, version: int, route: Distributed, parameters: Sequence[frames.Parameter]
    ) -> bool:
        """Whether there is nothing more to learn of a prepared statement with parameters of such types."""
        self._renew(version)
        if not _plain(route) or not _same_meaning(route.settings, memory.settings):
            return True
        return _marked(memory, route.statement.text, parameters) in self._shapes

    def learn_marked(
        self, memory: Memory, text: str, parameters: Sequence[frames.Parameter], shape: LookUpShape | None
    ) -> None:
        """Remember a prepared statement's shape, or that it has none."""
        self._keep(_marked(memory, text, parameters), shape)

    def _renew(self, version: int) -> None:
        if version != self._version:
            self._version = version
            self._shapes.clear()
            self._latest.clear()

    def _keep(self, place: _Place, shape: LookUpShape | None) -> None:
        self._shapes[place] = shape
        if len(self._shapes) > MOST_SHAPES:
            self._shapes.popitem(last=False)


def _same_meaning(first: SessionSettings | None, second: SessionSettings) -> bool:
    """Whether a statement means the same, and has the same answer, under two sessions' settings."""
    return first is second or (first is not None and first.meaning == second.meaning)


def _plain(route: Distributed) -> bool:
    """Whether a route is that of a query alone: nothing stores, changes or explains its rows, and it reads no view."""
    other = route.envelope or route.change or route.explained or route.limits
    statement = route.statement
    return not (other or route.prefix or statement.reads_views) and len(statement.text) <= MOST_BYTES


def _marked(memory: Memory, text: str, parameters: Sequence[frames.Parameter]) -> _Place:
    return memory.space, text, tuple([form_of(parameter) for parameter in parameters])


def _key(parameter: frames.Parameter) -> bytes | None:
    """Return the digits of a parameter's value, if it is such a number as `KEY` finds."""
    value = parameter.value
    if value is None or len(value) != _INTEGERS.get(parameter.type):
        return None
    number = int.from_bytes(value, "little", signed=not parameter.unsigned)
    return b"%d" % number if 0 < number < _LARGEST else None


def allowed(memory: Memory, shape: LookUpShape) -> Allowed | None:
    """Return the leave that a session still has to run statements of a shape; None if the home server must be asked."""
    found = memory.allowed.get(shape)
    return found if found is not None and found.until > time.monotonic() else None


def allow(memory: Memory, shape: LookUpShape, asked: float, home_columns: tuple[bytes, ...]) -> Allowed:
    """Keep the leave that the home server gave when it was asked at that time (monotonic seconds), and return it."""
    if len(memory.allowed) > MOST_SHAPES:
        memory.allowed.clear()
    found = memory.allowed[shape] = Allowed(asked + ALLOWED_S, home_columns)
    return found
