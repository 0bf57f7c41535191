"""Prepared distributed statements: COM_STMT_EXECUTE's parameter block as values.

Layout: status flags and types as in the MySQL protocol's COM_STMT_EXECUTE.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from proxy.home.settings import SessionSettings
from proxy.session.cursor import Cursor
from proxy.session.engine import Distributed, Local
from shard.errors import PACKET_TOO_LARGE, SkyError
from shard.planner.constants import Value
from shard.wire.frames import Parameter
from shard.wire.packets import PacketError, lenenc_bytes, read_lenenc_bytes, read_lenenc_int
from shard.wire.protocol import (
    FIXED_SIZES,
    INTEGER_TYPES,
    REAL_FORMATS,
    STRING_TYPES,
    TEMPORAL_TYPES,
    FieldType,
)

_TEXTS = STRING_TYPES | {FieldType.BLOB}
_UNSIGNED = 0x80
"""The flag beside a parameter's type."""
_PLAIN = re.compile(rb"[A-Za-z0-9 _.:+-]{1,64}")


@dataclass(slots=True)
class Prepared:
    """One prepared statement of a session; `under` are the settings that it was prepared under."""

    text: bytes
    route: Distributed | Local
    parameters: int
    under: SessionSettings
    types: list[tuple[int, bool]] = field(default_factory=list)
    long_data: dict[int, bytearray] = field(default_factory=dict)
    cursor: Cursor | None = None
    overlong: bool = False
    renewed: bool = False
    """Whether the text names a skyshard setting, whose value may differ per execution: it is routed anew each time."""

    @property
    def long_bytes(self) -> int:
        """Bytes of long data that it keeps."""
        return sum(map(len, self.long_data.values()))

    def add_long_data(self, index: int, piece: bytes, most: int) -> None:
        """Keep a piece of a parameter, `most` bytes in all; what is more is refused when the statement is executed."""
        if self.long_bytes + len(piece) > most:
            self.overlong = True
        else:
            self.long_data.setdefault(index, bytearray()).extend(piece)

    def close_cursor(self) -> None:
        """Forget the rows of the last execution."""
        if self.cursor is not None:
            self.cursor.close()
            self.cursor = None

    def reset(self) -> None:
        """Forget long data and cursor (COM_STMT_RESET)."""
        self.close_cursor()
        self.long_data.clear()
        self.overlong = False

    def bind(self, payload: bytes) -> tuple[Parameter, ...]:
        """Return the parameters of a COM_STMT_EXECUTE payload.

        Raises
        ------
        PacketError
            If the payload is cut short or of an unknown type.
        SkyError
            If long data was too long.
        """
        if not self.parameters:
            return ()
        if self.overlong:
            self.reset()
            raise SkyError(PACKET_TOO_LARGE)
        at = 10
        size = (self.parameters + 7) // 8
        nulls = payload[at : at + size]
        at += size
        if at >= len(payload):
            raise PacketError("parameters missing")
        bound, at = payload[at], at + 1
        if bound:
            end = at + 2 * self.parameters
            if end > len(payload):
                raise PacketError("parameter types missing")
            self.types = [(payload[i], bool(payload[i + 1] & _UNSIGNED)) for i in range(at, end, 2)]
            at = end
        if len(self.types) != self.parameters:
            raise PacketError("parameter types were never sent")
        out = []
        for index, (kind, unsigned) in enumerate(self.types):
            if index in self.long_data:
                value: bytes | None = lenenc_bytes(bytes(self.long_data[index]))
            elif nulls[index // 8] >> (index % 8) & 1 or kind == FieldType.NULL:
                value = None
            else:
                end = _value_end(payload, at, kind)
                if end > len(payload):
                    raise PacketError("parameter value cut short")
                value, at = payload[at:end], end
            out.append(Parameter(kind, unsigned, value))
        self.long_data.clear()
        return tuple(out)


@dataclass(frozen=True, slots=True)
class Executed:
    """One execution of a prepared statement on sharded tables.

    Attributes
    ----------
    prepared : Prepared
        The statement, whose `route` is renewed where it has to be decided about anew.
    route : Distributed
        What was decided about it last.
    """

    prepared: Prepared
    route: Distributed
    parameters: tuple[Parameter, ...]

    @property
    def text(self) -> bytes:
        """The statement as it was prepared."""
        return self.prepared.text


def _value_end(payload: bytes, at: int, kind: int) -> int:
    if kind in FIXED_SIZES:
        return at + FIXED_SIZES[kind]
    if kind in TEMPORAL_TYPES:
        if at >= len(payload):
            raise PacketError("parameter value cut short")
        return at + 1 + payload[at]
    length, start = read_lenenc_int(payload, at)
    return start + length


def planner_values(parameters: tuple[Parameter, ...]) -> tuple[Value, ...]:
    """Return what the planner may know of parameter values: numbers and plain texts; anything else is unknown."""
    out: list[Value] = []
    for parameter in parameters:
        value = parameter.value
        if value is None:
            out.append(None)
        elif parameter.type in INTEGER_TYPES:
            out.append(int.from_bytes(value, "little", signed=not parameter.unsigned))
        elif parameter.type in REAL_FORMATS:
            out.append(float(struct.unpack(REAL_FORMATS[parameter.type], value)[0]))
        else:
            out.append(_plain_text(value) if parameter.type in _TEXTS else None)
    return tuple(out)


def _plain_text(value: bytes) -> str | None:
    """Return a parameter of text type if all character sets read it alike: many drivers send keys as texts."""
    body, _ = read_lenenc_bytes(value, 0)
    return body.decode("ascii") if _PLAIN.fullmatch(body) else None


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text of PREPARE as SQL, and what it was prepared under."""

    text: str
    under: SessionSettings

    def fits(self, now: SessionSettings) -> bool:
        """Whether it is read as it was; its database is seen to before."""
        then = self.under
        return (now.grammar, now.literals, now.database) == (then.grammar, then.literals, then.database)
