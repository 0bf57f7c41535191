"""What the handmade catalogue offers to FROM: its tables, and ways to join them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.fuzz.expressions import Col
from tests.fuzz.tree import Node

DATABASE = "lab"
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "Star": (
        ("starId", "I"), ("ra", "F"), ("decl", "F"), ("name", "S"), ("code", "S"), ("kind", "E"), ("flags", "T"), ("f", "F"),
        ("d", "N"), ("big", "U"), ("small", "I"), ("day", "D"), ("t", "M"), ("dt", "W"), ("y", "Y"), ("txt", "S"), ("b", "B"),
        ("g", "I"), ("chunkId", "I"), ("subChunkId", "I"),
    ),
    "Visit": (("visitId", "I"), ("starId", "I"), ("flux", "F"), ("band", "S"), ("n", "U"), ("chunkId", "I")),
    "Ref": (("refId", "S"), ("lon", "F"), ("lat", "F"), ("mag", "F"), ("chunkId", "I")),
    "StarRef": (("starId", "I"), ("refId", "S"), ("dist", "F")),
    "Band": (("band", "S"), ("label", "S")),
    "Lut": (("n", "I"), ("v", "N")),
}  # fmt: skip
REPLICATED = frozenset({"Band", "Lut"})
UNIQUE = {
    "Star": "starId",
    "Visit": "visitId",
    "Ref": "refId",
    "StarRef": "starId",
    "Band": "band",
    "Lut": "n",
}
NOT_NULL = frozenset(["starId", "visitId", "refId", "ra", "decl", "lon", "lat", "chunkId", "subChunkId"])
POSITIONS = {"Star": ("ra", "decl"), "Ref": ("lon", "lat")}
KEYS = frozenset({"starId", "refId"})


@dataclass(frozen=True, slots=True)
class Source:
    """A FROM clause: its text, its columns, a key of its rows, conditions that comma joins need."""

    node: Node
    cols: tuple[Col, ...]
    unique: tuple[str, ...]
    where: tuple[str, ...] = ()
    positioned: tuple[tuple[str, str], ...] = ()


def whole_key(alias: str, types: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return what orders the rows of a derived table: all of its columns, and the bytes of texts, of which equal ones differ."""
    names = [(f"{alias}.{name}", kind) for name, kind in types]
    return (*(name for name, _ in names), *(f"HEX({name})" for name, kind in names if kind[0] == "S"))


# (tables, FROM with {0} {1} … for "table alias", WHERE, which sides may be NULL)
JOINS: tuple[tuple[tuple[str, ...], str, str, tuple[int, ...]], ...] = (
    (("Star", "Visit"), "{T0} JOIN {T1} ON {0}.starId = {1}.starId", "", ()),
    (("Star", "Visit"), "{T0}, {T1}", "{0}.starId = {1}.starId", ()),
    (("Star", "Visit"), "{T0} JOIN {T1} USING (starId)", "", ()),
    (("Star", "Visit"), "{T0} NATURAL JOIN {T1}", "", ()),
    (("Star", "Visit"), "{T0} LEFT JOIN {T1} ON {0}.starId = {1}.starId", "", (1,)),
    (("Star", "Visit"), "{T0} LEFT JOIN {T1} ON {0}.starId = {1}.starId AND {1}.band = 'g'", "", (1,)),
    (("Star", "Visit"), "{T0} LEFT JOIN {T1} ON {0}.starId = {1}.starId AND {0}.g > 2", "", (1,)),
    (("Star", "Visit"), "{T0} LEFT JOIN {T1} USING (starId)", "", (1,)),
    (("Visit", "Star"), "{T0} RIGHT JOIN {T1} ON {0}.starId = {1}.starId", "", (0,)),
    (("Visit", "Star"), "{T0} LEFT JOIN {T1} ON {0}.starId = {1}.starId", "", (1,)),
    (("Visit", "Visit"), "{T0} JOIN {T1} ON {0}.starId = {1}.starId AND {0}.visitId < {1}.visitId", "", ()),
    (("Star", "Star"), "{T0} JOIN {T1} USING (starId)", "", ()),
    (("Visit", "Star", "Visit"), "{T0} JOIN {T1} USING (starId) LEFT JOIN {T2} USING (starId)", "", (2,)),
    (("Star", "StarRef"), "{T0} JOIN {T1} ON {0}.starId = {1}.starId", "", ()),
    (("Star", "StarRef"), "{T0} LEFT JOIN {T1} USING (starId)", "", (1,)),
    (("StarRef", "Ref"), "{T0} JOIN {T1} ON {0}.refId = {1}.refId", "", ()),
    (("Ref", "StarRef"), "{T0} LEFT JOIN {T1} ON {0}.refId = {1}.refId", "", (1,)),
    (("Star", "StarRef", "Ref"), "{T0} JOIN {T1} ON {0}.starId = {1}.starId JOIN {T2} ON {1}.refId = {2}.refId", "", ()),
    (("StarRef", "Star", "Ref"), "{T0}, {T1}, {T2}", "{0}.starId = {1}.starId AND {0}.refId = {2}.refId", ()),
    (("Star", "StarRef", "Ref"), "{T0} LEFT JOIN {T1} USING (starId) LEFT JOIN {T2} ON {1}.refId = {2}.refId", "", (1, 2)),
    (("Star", "Visit", "StarRef"), "{T0} JOIN {T1} USING (starId) JOIN {T2} USING (starId)", "", ()),
    (("Visit", "Band"), "{T0} JOIN {T1} ON {0}.band = {1}.band", "", ()),
    (("Visit", "Band"), "{T0} LEFT JOIN {T1} USING (band)", "", (1,)),
    (("Band", "Visit"), "{T0} LEFT JOIN {T1} ON {0}.band = {1}.band", "", (1,)),
    (("Visit", "Band"), "{T0} RIGHT JOIN {T1} ON {0}.band = {1}.band", "", (0,)),
    (("Star", "Lut"), "{T0} JOIN {T1} ON {0}.g = {1}.n", "", ()),
    (("Star", "Lut"), "{T0}, {T1}", "{0}.g < {1}.n", ()),
    (("Lut", "Star"), "{T0} LEFT JOIN {T1} ON {0}.n = {1}.small", "", (1,)),
    (("Star", "Visit", "Band"), "{T0} JOIN {T1} USING (starId) LEFT JOIN {T2} ON {1}.band = {2}.band", "", (2,)),
    (("Star", "Lut", "Visit"), "({T0}, {T1}) JOIN {T2} ON {0}.starId = {2}.starId", "{0}.g = {1}.n", ()),
    (("Lut", "Visit", "Star"), "({T0}, {T1}) RIGHT JOIN {T2} ON {1}.starId = {2}.starId AND {2}.small = {0}.n", "", (0, 1)),
    (("Star", "Star"), "{T0} JOIN {T1} ON {0}.g = {1}.small AND {0}.starId < {1}.starId", "{0}.starId < 60", ()),
    (("Star", "Ref"), "{T0} JOIN {T1} ON FLOOR({0}.ra) = FLOOR({1}.lon)", "", ()),
    (("Star", "Ref"), "{T0} LEFT JOIN {T1} ON {0}.f = {1}.mag", "", (1,)),
    (("Star", "Ref"), "{T0} RIGHT JOIN {T1} ON {0}.f = {1}.mag AND {0}.g = 2", "", (0,)),
    (("Star", "Ref"), "{T0}, {T1}", "{0}.starId = 7", ()),
    (("Star", "Visit"), "{T0}, {T1}", "{0}.starId = {1}.visitId", ()),
    (("Visit", "StarRef"), "{T0} JOIN {T1} ON {0}.starId = {1}.starId AND {1}.dist > 0.4", "", ()),
    (("Star", "Lut", "Visit"), "{T0} LEFT JOIN ({T1}, {T2}) ON {0}.g = {1}.n AND {0}.starId = {2}.starId", "", (1, 2)),
    (("Star", "Visit", "Band"), "{T0} LEFT JOIN ({T1} JOIN {T2} ON {1}.band = {2}.band) ON {0}.starId = {1}.starId", "", (1, 2)),
)  # fmt: skip

KEYED = {
    "Star": ("starId",),
    "Visit": ("starId",),
    "StarRef": ("starId", "refId"),
    "Ref": ("refId",),
    "Lut": ("n",),
    "Band": ("band",),
}
"""Of a table in a chain of joins: the columns by which it finds few rows."""
FEW = {
    "starId": (("Star", "starId"), ("Visit", "starId"), ("StarRef", "starId"), ("Lut", "n")),
    "refId": (("StarRef", "refId"), ("Ref", "refId")),
    "n": (("Star", "starId"), ("Star", "g"), ("Star", "small"), ("Visit", "n"), ("Lut", "n")),
    "band": (("Visit", "band"), ("Band", "band")),
}
"""What such a column may equal."""
MANY = (("Star", "g"), ("Star", "small"), ("Visit", "n"), ("Lut", "n"))
"""Columns by which a chain may find many rows, once."""


def columns(table: str, alias: str, nullable: bool, qualified: bool = True) -> list[Col]:
    """Return a table's columns as they are written."""
    prefix = f"{alias}." if qualified else ""
    return [
        Col(prefix + name, kind, name if name in KEYS else "", nullable or name not in NOT_NULL)
        for name, kind in TABLES[table]
    ]
