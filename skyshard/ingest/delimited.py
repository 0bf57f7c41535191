r"""Cuts delimited text files into blocks of whole lines, and parses a block into columns of raw bytes.

Arrow's CSV parser does the splitting. What it cannot do in MySQL's dialect (`\N`, `\t`, an escaped delimiter
or line end) is done around it, on whole blocks: escapes that would mislead the splitter are replaced by
control characters that the block does not have, and put back in the columns afterwards.
"""

from __future__ import annotations

import gzip
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shard.catalog.catalog_file import Format

BLOCK_BYTES = 8 << 20
LONGEST_RECORD = 256 << 20
_ESCAPES = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"0": b"\0", b"b": b"\b", b"Z": b"\x1a"}
_SPARE = [char for code in (*range(1, 9), *range(14, 32)) if (char := bytes([code])) not in _ESCAPES.values()]
_LONE_CR = re.compile(rb"\r(?!\n)")
_BOM = b"\xef\xbb\xbf"


Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Offsets = np.ndarray[Any, np.dtype[np.int64]]


class BadLine(ValueError):  # noqa: N818 - it is what was found
    """A line cannot be split into columns; `row` is its number among the block's rows, from 0."""

    def __init__(self, row: int, message: str) -> None:
        self.row = row
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file; `first_line` is the number of the first, from 1."""

    data: bytes
    first_line: int


def open_text(path: Path) -> BinaryIO:
    """Open a file, unpacking it if its name ends in .gz."""
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def blocks(stream: BinaryIO, form: Format, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield a stream in blocks of whole lines, about `size` bytes each.

    Raises
    ------
    BadLine
        If a quoted value does not end.
    """
    rest, line, start = b"", 1, True
    while True:
        data = stream.read(size)
        if start:
            data, start = data.removeprefix(_BOM), False
        if not data:
            break
        data = rest + data
        end = _last_end(data, form)
        if end == 0 and len(data) > LONGEST_RECORD:
            raise BadLine(
                0, f"line {line}: no line ends within {len(data)} bytes; is 'quote' or 'escape' right?"
            )
        block, rest = data[:end], data[end:]
        if block:
            yield Block(block, line)
            line += block.count(b"\n")
    if rest:
        if len(_quotes(_unescaped(rest, form), form)) % 2:
            raise BadLine(
                0, f"line {line}: a quoted value begins there, or on a line behind it, and does not end"
            )
        yield Block(rest, line)


def _last_end(data: bytes, form: Format) -> int:
    """Return the length of the part of `data` that holds whole lines: up to a line end outside quotes."""
    if form.escape is None and (form.quote is None or form.quote.encode() not in data):
        return data.rfind(b"\n") + 1
    ends = line_ends(data, form)
    return int(ends[-1]) + 1 if len(ends) else 0


def line_ends(data: bytes, form: Format) -> Offsets:
    """Return the offsets of the newlines that end a record: not escaped, and not inside quotes."""
    data = _unescaped(data, form)
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))
    if form.quote is not None:
        ends = ends[np.searchsorted(_quotes(data, form), ends) % 2 == 0]
    return ends.astype(np.int64)


def _unescaped(data: bytes, form: Format) -> bytes:
    """Return data as long, without the quotes, delimiters and line ends that are escaped."""
    if form.escape is not None:
        # An escaped backslash hides nothing; after that, a backslash hides the next byte.
        data = data.replace(b"\\\\", b"..").replace(b"\\\n", b"..")
        for special in (form.quote, form.delimiter if form.quote else None):
            data = data.replace(b"\\" + special.encode(), b"..") if special else data
    return data


def _quotes(data: bytes, form: Format) -> Offsets:
    """Return the offsets of the quotes that open or close a value, in turn."""
    if form.quote is None:
        return np.array([], dtype=np.int64)
    raw = np.frombuffer(data, dtype=np.uint8)
    return _real_quotes(raw, np.flatnonzero(raw == ord(form.quote)), form)


def _real_quotes(raw: Bytes, quotes: Offsets, form: Format) -> Offsets:
    """Return the quotes that open or close a value: one amid an unquoted value is a character like others."""
    starts = np.ones(len(raw) + 1, dtype=bool)
    starts[1:] = (raw == ord("\n")) | (raw == ord(form.delimiter))
    opens = quotes[::2]
    # A doubled quote closes and opens again, so it may also follow another quote.
    sound = starts[opens]
    sound[1:] |= quotes[1:-1:2][: len(opens) - 1] == opens[1:] - 1
    if sound.all():
        return quotes
    kept: list[int] = []
    for quote in quotes.tolist():
        if len(kept) % 2 or starts[quote] or (kept and kept[-1] == quote - 1):
            kept.append(quote)
    return np.array(kept, dtype=np.int64)


def line_of(block: Block, form: Format, row: int) -> int:
    """Return the number of the line on which row `row` of a block begins; empty lines are no rows."""
    ends = line_ends(block.data, form)
    starts = np.concatenate([[0], ends + 1])
    text = [block.data[a:b].strip(b"\r") for a, b in zip(starts, [*ends, len(block.data)], strict=True)]
    solid = [int(start) for start, line in zip(starts, text, strict=True) if line]
    at = solid[row] if row < len(solid) else len(block.data)
    return block.first_line + block.data.count(b"\n", 0, at)


def header(stream: BinaryIO, form: Format) -> list[str]:
    """Return the names in the first line of a file.

    Raises
    ------
    BadLine
        If the file is empty, its lines end as no line does, or a name stands twice or is no text.
    """
    first = next(blocks(stream, form, 1 << 16), None)
    if first is None:
        raise BadLine(0, "the file is empty; a header was expected")
    ends = line_ends(first.data, form)
    line = first.data[: int(ends[0])] if len(ends) else first.data
    line = line.removesuffix(b"\r")
    if not line:
        raise BadLine(0, "the first line is empty; a header was expected")
    if b"\r" in line:
        raise BadLine(0, "its lines end in CR, or a name of the header has one; lines end in LF or CR LF")
    table = _parse(line + b"\n", form, None)
    try:
        names = [
            ((column[0].as_py() if len(column) else b"") or b"").decode().strip() for column in table.columns
        ]
    except UnicodeDecodeError as error:
        raise BadLine(0, "the header is no UTF-8 text") from error
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadLine(0, f"the header has '{twice}' twice")
    return names


def without_header(block: Block, form: Format) -> Block:
    """Return a file's first block without the header line."""
    ends = line_ends(block.data, form)
    cut = int(ends[0]) + 1 if len(ends) else len(block.data)
    return Block(block.data[cut:], block.first_line + block.data.count(b"\n", 0, cut))


def columns(block: Block, form: Format, names: list[str], wanted: list[str]) -> pa.Table:
    """Return the wanted columns of a block as bytes; NULL where the value is `form.null`, unquoted.

    Parameters
    ----------
    names : list of str
        All columns of the file, in order.
    wanted : list of str
        Some of them.

    Raises
    ------
    BadLine
        For a line that has another number of columns.
    """
    if not block.data.strip(b"\r\n"):
        return pa.table({name: pa.array([], pa.binary()) for name in wanted})
    data, hidden = _hide(block.data, form)
    table = _parse(data, form, names, wanted)
    if form.escape is None and not hidden:
        return table
    return pa.table({name: _reveal(table.column(name), hidden, form) for name in wanted})


def _check_quotes(data: bytes, form: Format) -> None:
    """Raise BadLine if more of a value follows its closing quote: the splitter would glue both together."""
    if form.quote is None or form.quote.encode() not in data:
        return
    hidden = _unescaped(data, form) + b"\n\n"
    raw = np.frombuffer(hidden, dtype=np.uint8)
    behind = _quotes(hidden, form)[1::2] + 1
    ends = np.zeros(256, dtype=bool)
    ends[[ord(char) for char in ("\n", "\r", form.delimiter, form.quote)]] = True
    sound = ends[raw[behind]]
    sound &= (raw[behind] != ord("\r")) | (raw[behind + 1] == ord("\n"))
    if not sound.all():
        at = int(behind[~sound][0])
        starts = [0, *(line_ends(data[:at], form) + 1).tolist()]
        row = sum(1 for a, b in itertools.pairwise(starts) if data[a:b].strip(b"\r\n"))
        begun = data[starts[-1] : at + 1].decode(errors="replace")
        raise BadLine(row, f"a quoted value goes on behind its closing quote: {begun[-80:]}")


def _parse(data: bytes, form: Format, names: list[str] | None, wanted: list[str] | None = None) -> pa.Table:
    _check_quotes(data, form)
    bad: list[Any] = []

    def remember(row: Any) -> str:
        bad.append(row)
        return "error"

    try:
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=len(data) + 1,
                column_names=names,
                autogenerate_column_names=names is None,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=form.delimiter,
                quote_char=form.quote or False,
                newlines_in_values=form.quote is not None,
                invalid_row_handler=remember,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.binary() for name in wanted or _numbered(data, form)},
                include_columns=wanted or [],
                null_values=[form.null],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if not bad:
            raise BadLine(0, str(error)) from error
        row = bad[0]
        message = f"{row.expected_columns} columns expected, {row.actual_columns} found: {row.text[:80]}"
        raise BadLine((row.number or 1) - 1, message) from error


def _numbered(line: bytes, form: Format) -> list[str]:
    """Return Arrow's names for the columns of a line without names: at least as many as it has."""
    return [f"f{number}" for number in range(line.count(form.delimiter.encode()) + 1)]


def _hide(data: bytes, form: Format) -> tuple[bytes, dict[bytes, bytes]]:
    """Replace what misleads the splitter, escapes and lone carriage returns; return what stands for what."""
    hidden: dict[bytes, bytes] = {}
    spare = (char for char in _SPARE if char not in data)

    def stand_in(char: bytes) -> bytes:
        stands = next(spare, None)
        if stands is None:
            raise BadLine(0, "the block has every control character; its escapes cannot be read")
        hidden[stands] = char
        return stands

    if form.escape is not None:
        quote = (form.quote.encode(),) if form.quote else ()
        for char in (b"\\", form.delimiter.encode(), b"\n", *quote):
            if b"\\" + char in data:
                data = data.replace(b"\\" + char, stand_in(char))
    if b"\r" in data and _LONE_CR.search(data):
        data = _LONE_CR.sub(stand_in(b"\r"), data)
    return data, hidden


def _reveal(column: pa.ChunkedArray, hidden: dict[bytes, bytes], form: Format) -> pa.ChunkedArray:
    """Resolve the escapes of a column and put back what was hidden."""
    if form.escape is not None and pc.any(pc.match_substring(column, pattern=b"\\")).as_py():
        for letter, char in _ESCAPES.items():
            column = pc.replace_substring(column, pattern=b"\\" + letter, replacement=char)
        column = pc.replace_substring(column, pattern=b"\\", replacement=b"")
    for stands, char in hidden.items():
        column = pc.replace_substring(column, pattern=stands, replacement=char)
    return column
