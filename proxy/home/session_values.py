"""Values that belong to the user's session, read there once and put into fragments as literals.

Workers and service connections have other users, connection ids and variables; what the statement
says of them is read on the session's own home connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.home.link import HomeLink
from shard.wire.packets import ColumnDefinition
from shard.wire.protocol import BINARY_CHARSET, DECIMAL_TYPES, INTEGER_TYPES, REAL_FORMATS, ColumnFlag


async def read(home: HomeLink, needs: Sequence[str]) -> dict[str, str]:
    """Return SQL literals with the values and types that expressions have in a session.

    Parameters
    ----------
    home : HomeLink
        The session's home connection.
    needs : sequence of str
        Variables (``@x``, ``@@y``) and calls without arguments (``USER()``), as they were written.
    """
    if not needs:
        return {}
    items = ", ".join(f"{text}, HEX(CONVERT({text} USING utf8mb4)), HEX({text})" for text in needs)
    found = await home.table(f"SELECT {items} LIMIT 1".encode())
    row = found.rows[0]
    literals: dict[str, str] = {}
    for index, text in enumerate(needs):
        value, characters, octets = row[3 * index : 3 * index + 3]
        column = ColumnDefinition.decode(found.columns[3 * index])
        literals[text] = _literal(column, value, characters, octets)
    return literals


def _literal(
    column: ColumnDefinition, value: bytes | None, characters: bytes | None, octets: bytes | None
) -> str:
    kind = "UNSIGNED" if column.flags & ColumnFlag.UNSIGNED else "SIGNED"
    if value is None:
        return _null(column, kind)
    if column.type in INTEGER_TYPES:
        return f"CAST({int(value)} AS {kind})"
    if column.type in DECIMAL_TYPES:
        return value.decode("ascii")
    if column.type in REAL_FORMATS:
        text = repr(float(value))
        return text if "e" in text else text + "e0"
    if column.charset == BINARY_CHARSET:
        return f"X'{(octets or b'').decode('ascii')}'"
    return f"_utf8mb4 X'{(characters or b'').decode('ascii')}'"


def _null(column: ColumnDefinition, kind: str) -> str:
    """Return NULL with a type: a variable keeps the one that it had before it was NULL."""
    if column.type in INTEGER_TYPES:
        return f"CAST(NULL AS {kind})"
    if column.type in DECIMAL_TYPES:
        return "CAST(NULL AS DECIMAL(65, 38))"
    if column.type in REAL_FORMATS:
        return "CAST(NULL AS DOUBLE)"
    return "CAST(NULL AS BINARY)" if column.charset == BINARY_CHARSET else "CONVERT(NULL USING utf8mb4)"
