"""Sort keys and the merge of sorted streams: the compiled module where it was built, else its pure-Python twin."""

from __future__ import annotations

from shard.wire._sorting_py import DOUBLE, FIXED, MOMENT, NUMBER, SIGNED, UNSIGNED, Key

try:
    from shard.wire._sorting import Keyer, Merger

    COMPILED = True
except ImportError:  # no compiler at installation
    from shard.wire._sorting_py import Keyer, Merger  # type: ignore[assignment]

    COMPILED = False

__all__ = [
    "COMPILED", "DOUBLE", "FIXED", "MOMENT", "NUMBER", "SIGNED", "UNSIGNED", "Key", "Keyer", "Merger",
]  # fmt: skip
