"""Binary parameters as SQL literals of the same type and value."""

import struct

import pytest

from shard.wire.frames import Parameter
from shard.wire.immediate import immediate, literal


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (Parameter(8, False, None), "NULL"),
        (Parameter(8, False, struct.pack("<q", -5)), "-5"),
        (Parameter(8, True, b"\xff" * 8), "18446744073709551615"),
        (Parameter(1, False, b"\xff"), "-1"),
        (Parameter(1, True, b"\xff"), "255"),
        (Parameter(2, False, struct.pack("<h", -300)), "-300"),
        (Parameter(13, False, struct.pack("<H", 2024)), "2024"),
        (Parameter(5, False, struct.pack("<d", 0.1)), "0.1e0"),
        (Parameter(5, False, struct.pack("<d", 1e300)), "1e+300"),
        (Parameter(4, False, struct.pack("<f", 0.5)), "0.5e0"),
        (Parameter(246, False, b"\x051.250"), "1.250"),
        (Parameter(246, False, b"\x03300"), "300."),
        (Parameter(253, False, b"\x02a'"), "_utf8mb4 X'6127'"),
        (Parameter(252, False, b"\x02\x00\xff"), "X'00ff'"),
        (Parameter(10, False, b"\x04\xe8\x07\x02\x1d"), "DATE'2024-02-29'"),
        (Parameter(12, False, b"\x07\xe8\x07\x02\x1d\x01\x02\x03"), "TIMESTAMP'2024-02-29 01:02:03'"),
        (
            Parameter(12, False, b"\x0b\xe8\x07\x02\x1d\x01\x02\x03" + struct.pack("<I", 7)),
            "TIMESTAMP'2024-02-29 01:02:03.000007'",
        ),
        (Parameter(11, False, b"\x08\x01" + struct.pack("<I", 2) + b"\x03\x04\x05"), "TIME'-51:04:05'"),
        (Parameter(11, False, b"\x00"), "TIME'00:00:00'"),
    ],
)
def test_literals(parameter, text):
    assert literal(parameter) == text


def test_whole_numbers_are_as_long_as_they_must_be():
    given = [Parameter(8, False, struct.pack("<q", n)) for n in (300, -300)] + [Parameter(1, True, b"\x07")]
    assert immediate(b"SELECT ?, ?, ?", given).endswith(b" USING 300+0, -300, CAST(7 AS UNSIGNED)")


def test_a_decimal_is_digits():
    with pytest.raises(ValueError, match="DECIMAL"):
        literal(Parameter(246, False, b"\x081 OR 1=1"))


def test_the_statement_is_one_line_of_ascii():
    text = immediate("SELECT 'é', ?".encode(), [Parameter(253, False, b"\x02\xc3\xa9")])
    assert (
        text
        == b"EXECUTE IMMEDIATE CONVERT(X'53454c4543542027c3a9272c203f' USING utf8mb4) USING _utf8mb4 X'c3a9'"
    )
