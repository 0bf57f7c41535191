r"""Delimited text in every dialect: what is cut and parsed is what was written, and lines keep their numbers."""

from __future__ import annotations

import gzip
import io
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shard.catalog.catalog_file import Format
from skyshard.ingest import delimited

DIALECTS = [
    Format(delimiter=delimiter, quote=quote, escape=escape, null=null)
    for delimiter, quote, escape, null in itertools.product(
        [",", "\t", "|", ";"], ['"', "'", None], ["\\", None], ["\\N", "NULL"]
    )
]
CHARS = st.text(st.sampled_from(list("ab ,;|\t\"'\\\nNt0rZé\x01\x02\r\x1a")), max_size=6)


def written(value: str | None, form: Format, quoted: bool) -> str | None:
    """Return a value in a dialect, or None if the dialect cannot hold it."""
    if value is None:
        return form.null
    text, quoted = value, quoted and form.quote is not None
    if form.escape:
        text = text.replace("\\", "\\\\")
        if not quoted:
            text = text.replace(form.delimiter, "\\" + form.delimiter).replace("\n", "\\\n")
            text = text.replace("\r", "\\r")  # one before the line's end belongs to the end
        text = text.replace("\x1a", "\\Z")
    if form.quote and quoted:
        return form.quote + text.replace(form.quote, form.quote * 2) + form.quote
    if not form.escape and any(char in text for char in (form.delimiter, "\n", "\r")):
        return None
    if text.startswith(form.quote or "\0"):
        return "\\" + text if form.escape else None
    return None if text == form.null else text


def read(data: bytes, form: Format, names: list[str], size: int = 1 << 20) -> list[tuple[str | None, ...]]:
    rows: list[tuple[str | None, ...]] = []
    for block in delimited.blocks(io.BytesIO(data), form, size):
        table = delimited.columns(block, form, names, names)
        columns = [
            [None if v is None else v.decode() for v in column.to_pylist()] for column in table.columns
        ]
        rows += zip(*columns, strict=True)
    return rows


@settings(max_examples=400, deadline=None)
@given(
    form=st.sampled_from(DIALECTS),
    rows=st.lists(
        st.tuples(*[st.tuples(st.none() | CHARS, st.booleans()) for _ in range(3)]), min_size=1, max_size=8
    ),
    size=st.integers(1, 80),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_values_come_back_from_every_dialect(form, rows, size, end, last) -> None:
    kept, lines = [], []
    for row in rows:
        texts = [written(value, form, quoted) for value, quoted in row]
        if None not in texts:
            kept.append(tuple(value for value, _ in row))
            lines.append(form.delimiter.join(text for text in texts if text is not None))
    data = end.join(lines) + (end if last else "")
    assert read(data.encode(), form, ["a", "b", "c"], size) == kept


@settings(max_examples=200, deadline=None)
@example(
    form=Format(delimiter=",", quote="'", escape="\\", null="\\N"),
    values=[(",'", False), ("", False)],
    size=1,
)
@given(
    form=st.sampled_from([f for f in DIALECTS if f.quote or f.escape]),
    values=st.lists(st.tuples(CHARS, st.booleans()), min_size=1, max_size=12),
    size=st.integers(1, 60),
)
def test_rows_know_their_lines(form: Format, values: list[tuple[str, bool]], size: int) -> None:
    lines = [
        f"{n}{form.delimiter}{text}"
        for n, (v, q) in enumerate(values)
        if (text := written(v, form, q)) is not None
    ]
    starts, line = {}, 1
    for text in lines:
        starts[text.split(form.delimiter)[0]] = line
        line += text.count("\n") + 1
    data = "".join(text + "\n" for text in lines).encode()
    for block in delimited.blocks(io.BytesIO(data), form, size):
        table = delimited.columns(block, form, ["n", "v"], ["n"])
        for row, name in enumerate(table.column("n").to_pylist()):
            assert delimited.line_of(block, form, row) == starts[name.decode()]


def test_quotes_amid_unquoted_values_are_characters() -> None:
    form = Format()
    data = b'1,5" wide\n2,"two\nlines"\n3,a"b"c"\n4,"x""y\n""z"\n'
    expected = [("1", '5" wide'), ("2", "two\nlines"), ("3", 'a"b"c"'), ("4", 'x"y\n"z')]
    for size in range(1, len(data) + 1):
        assert read(data, form, ["a", "b"], size) == expected


def test_nulls_and_empty_values_differ() -> None:
    form = Format(escape="\\", null="\\N")
    assert read(b'\\N,,"\\N",\\\\N\n', form, list("abcd")) == [(None, "", "N", "\\N")]
    assert read(b"NA,,x\n", Format(null="NA"), list("abc")) == [(None, "", "x")]
    assert read(b",x\n", Format(null=""), list("ab")) == [(None, "x")]


def test_a_byte_order_mark_and_empty_lines_are_no_data() -> None:
    assert read(b"\xef\xbb\xbf1,2\n\n\r\n3,4\n", Format(), ["a", "b"]) == [("1", "2"), ("3", "4")]


def test_wanted_columns_alone_are_parsed() -> None:
    [block] = delimited.blocks(io.BytesIO(b"1,2,3\n4,5,6\n"), Format())
    table = delimited.columns(block, Format(), ["a", "b", "c"], ["c", "a"])
    assert table.to_pydict() == {"c": [b"3", b"6"], "a": [b"1", b"4"]}


@pytest.mark.parametrize(
    ("data", "row", "found"), [(b"1,2\n3\n5,6\n", 1, "1 found"), (b"1,2\n\n3,4\n5,6,7\n", 2, "3 found")]
)
def test_a_line_with_other_columns_is_named(data: bytes, row: int, found: str) -> None:
    [block] = delimited.blocks(io.BytesIO(data), Format())
    with pytest.raises(delimited.BadLine, match=found) as caught:
        delimited.columns(block, Format(), ["a", "b"], ["a"])
    assert caught.value.row == row


@pytest.mark.parametrize(
    ("data", "row", "found"),
    [
        (b'1,"abc"d,3\n', 0, '1,"abc"d'),
        (b'1,2,3\n\n1,"a,\n""b",3\n1,2,"abc" \n', 2, '1,2,"abc" '),
        (b'1,2,3\n1,2,"abc"d', 0, '1,2,"abc"d'),
        (b'1,"abc"\rd,3\r\n', 0, '1,"abc"'),
        (b'1,2,"a"\r\n1,2,"a""b"c\r\n', 1, '"a""b"c'),
    ],
)
@pytest.mark.parametrize("escape", ["\\", None])
def test_nothing_follows_a_closing_quote(data: bytes, row: int, found: str, escape: str | None) -> None:
    form = Format(delimiter=",", quote='"', escape=escape)
    with pytest.raises(delimited.BadLine, match=re.escape(found)) as caught:
        read(data, form, ["a", "b", "c"])
    assert caught.value.row == row


def test_headers_are_names(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(b'\xef\xbb\xbfid,"ra, deg", decl \r\n1,2,3\r\n')
    with delimited.open_text(path) as stream:
        assert delimited.header(stream, Format()) == ["id", "ra, deg", "decl"]
    many = [f"column_with_a_long_name_{number}" for number in range(5000)]
    assert delimited.header(io.BytesIO(",".join(many).encode()), Format()) == many


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"\r\n\n", "the first line is empty"),
        (b"a,b,a\n", "'a' twice"),
        (b"a,\xff\n", "no UTF-8"),
        (b"a,b\r1,2\r3,4\r", "its lines end in CR"),  # else a header, and no rows
        (b'a,"b\n1,2\n', "line 1: a quoted value begins there"),
    ],
)
def test_wrong_headers_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(delimited.BadLine, match=message):
        delimited.header(io.BytesIO(data), Format())


@pytest.mark.parametrize(("escape", "size"), [(None, 1), (None, 1 << 20), ("\\", 1), ("\\", 1 << 20)])
def test_a_quoted_value_that_does_not_end_is_no_value(escape: str | None, size: int) -> None:
    """It would be all lines behind it."""
    form = Format(escape=escape)
    for text in (b'1,"a"\n2,"b\n3,c\n', b'1,"a"\n2,"b', b'1,a\n2,"b""\n'):
        with pytest.raises(delimited.BadLine, match="line 2: a quoted value begins there"):
            read(text, form, ["x", "y"], size)
    assert read(b'1,"a"\n2,"b"', form, ["x", "y"], size) == [("1", "a"), ("2", "b")]
    assert read(b'1,"a"\n2,b"c', form, ["x", "y"], size)[1] == ("2", 'b"c')
