"""The commands of the MySQL protocol that are relayed home as they are, and those that name a prepared statement."""

from __future__ import annotations

from shard.wire.protocol import Command
from shard.wire.replies import ReplyKind

RELAYED = {
    Command.INIT_DB: ReplyKind.SIMPLE,
    Command.FIELD_LIST: ReplyKind.FIELD_LIST,
    Command.REFRESH: ReplyKind.SIMPLE,
    Command.STATISTICS: ReplyKind.STATISTICS,
    Command.PROCESS_INFO: ReplyKind.QUERY,
    Command.PROCESS_KILL: ReplyKind.SIMPLE,
    Command.DEBUG: ReplyKind.SIMPLE,
    Command.PING: ReplyKind.SIMPLE,
    Command.SET_OPTION: ReplyKind.SIMPLE,
    Command.RESET_CONNECTION: ReplyKind.SIMPLE,
}
"""Command → what its reply looks like."""
OF_STATEMENT = frozenset(
    {
        Command.STMT_EXECUTE,
        Command.STMT_LONG_DATA,
        Command.STMT_CLOSE,
        Command.STMT_RESET,
        Command.STMT_FETCH,
    }
)
"""The commands that name a prepared statement."""
