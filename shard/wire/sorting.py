"""Sort keys and the merge of sorted streams: the compiled modules where they were built, else their twins."""

from __future__ import annotations

from shard.wire._sort_keys_py import DOUBLE, FIXED, MOMENT, NUMBER, SIGNED, UNSIGNED, Key

try:
    from shard.wire._merging import Merger
    from shard.wire._sort_keys import Keyer

    COMPILED = True
except ImportError:  # no compiler at installation
    from shard.wire._merging_py import Merger  # type: ignore[assignment]
    from shard.wire._sort_keys_py import Keyer  # type: ignore[assignment]

    COMPILED = False

__all__ = [
    "COMPILED", "DOUBLE", "FIXED", "MOMENT", "NUMBER", "SIGNED", "UNSIGNED", "Key", "Keyer", "Merger",
]  # fmt: skip
