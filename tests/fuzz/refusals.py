"""The refusals that docs/sql.md lists: a generated query may be refused with one of these texts, and no other."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

REFUSED = 1235
_DOCS = Path(__file__).parents[2] / "docs" / "sql.md"
_ROW = re.compile(r"^\| `.*` \| (\d+) \| (.*) \|$", re.M)


@cache
def known() -> frozenset[str]:
    """Return the texts of the refusals that are listed."""
    _, _, rest = _DOCS.read_text().partition("<!-- refusals:")
    shown, _, _ = rest.partition("<!-- end of refusals -->")
    rows = [(int(errno), text.replace(r"\|", "|")) for errno, text in _ROW.findall(shown)]
    return frozenset(text for errno, text in rows if errno == REFUSED)
