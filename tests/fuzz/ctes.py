"""WITH RECURSIVE: queries that read themselves."""

from __future__ import annotations

import random
from dataclasses import dataclass

# (name and types of columns, a key of its rows, the body): {k} and {m} are small numbers.
_RECURSIVE: tuple[tuple[tuple[tuple[str, str], ...], str, str], ...] = (
    ((("n", "I"),), "n", "SELECT 1 AS n UNION ALL SELECT n + 1 FROM q WHERE n < {k}"),
    ((("n", "I"),), "n", "SELECT {m} AS n UNION SELECT (n + {k}) % 11 FROM q"),
    (
        (("starId", "I"), ("g", "I"), ("step", "I")), "starId, step",
        "SELECT starId, g, 1 AS step FROM Star WHERE g > {m} UNION ALL "
        "SELECT s.starId, s.g, q.step + 1 FROM Star AS s JOIN q ON s.starId = q.starId + {k} WHERE q.step < 4",
    ),
    (
        (("visitId", "I"), ("starId", "I")), "visitId",
        "SELECT visitId, starId FROM Visit WHERE starId < {k} UNION "
        "SELECT v.visitId, v.starId FROM q JOIN Visit AS v ON v.starId = q.starId + {m}",
    ),
    (
        (("n", "I"), ("v", "N")), "n",
        "SELECT n, v FROM Lut WHERE n <= {m} UNION SELECT t.n, t.v FROM Lut AS t, q WHERE t.n = q.n + 1",
    ),
    (
        (("starId", "I"),), "starId",
        "SELECT MIN(starId) AS starId FROM Star UNION ALL SELECT starId + {k} FROM q WHERE starId < 90",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Body:
    """A recursive query: its text, its columns (name, type letter), and a key of its rows."""

    sql: str
    types: tuple[tuple[str, str], ...]
    key: tuple[str, ...]


def recursive(rng: random.Random) -> Body:
    """Return a query that reads itself as ``q``."""
    types, key, body = rng.choice(_RECURSIVE)
    return Body(body.format(k=rng.randint(2, 9), m=rng.randint(0, 4)), types, tuple(key.split(", ")))
