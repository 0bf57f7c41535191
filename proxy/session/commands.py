"""The commands of the MySQL protocol, and those that are relayed home as they are."""

from __future__ import annotations

from shard.wire.replies import ReplyKind

COM_QUIT, COM_INIT_DB, COM_QUERY, COM_FIELD_LIST, COM_STATISTICS, COM_PROCESS_KILL = 1, 2, 3, 4, 9, 12
COM_REFRESH, COM_PROCESS_INFO, COM_DEBUG = 7, 10, 13
COM_PING, COM_CHANGE_USER, COM_PREPARE, COM_EXECUTE, COM_SET_OPTION, COM_RESET_CONNECTION = (
    14,
    17,
    22,
    23,
    27,
    31,
)
_SIMPLE = frozenset(
    {COM_INIT_DB, COM_REFRESH, COM_PROCESS_KILL, COM_DEBUG, COM_PING, COM_SET_OPTION, COM_RESET_CONNECTION}
)
RELAYED = {
    COM_FIELD_LIST: ReplyKind.FIELD_LIST, COM_STATISTICS: ReplyKind.STATISTICS, COM_PROCESS_INFO: ReplyKind.QUERY,
    **dict.fromkeys(_SIMPLE, ReplyKind.SIMPLE),
}  # fmt: skip
