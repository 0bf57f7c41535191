"""Row packets in blocks: the compiled scanner where it was built, else its pure-Python twin."""

from __future__ import annotations

try:
    from shard.wire._rows import (
        count,
        prepared_reply,
        renumber,
        rows_to_load,
        scan,
        small_replies,
        small_reply,
        split,
        take,
    )

    COMPILED = True
except ImportError:  # no compiler at installation
    from shard.wire._rows_py import (
        count,
        prepared_reply,
        renumber,
        rows_to_load,
        scan,
        small_replies,
        small_reply,
        split,
        take,
    )

    COMPILED = False

__all__ = [
    "COMPILED",
    "count",
    "prepared_reply",
    "renumber",
    "rows_to_load",
    "scan",
    "small_replies",
    "small_reply",
    "split",
    "take",
]
