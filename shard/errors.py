"""The one table of errors that a client may see: errno, SQLSTATE and text.

Every user-visible failure is a `SkyError`. Texts name what is wrong, where and what to do,
and never a host, a path, another user's SQL or a chunk table. Errors of MariaDB itself
(syntax, unknown names, missing grants) are relayed with their own errno and are not listed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One row of the table: name, MySQL errno, SQLSTATE and a `str.format` text."""

    name: str
    errno: int
    sqlstate: str
    text: str


_TABLE: dict[str, ErrorCode] = {}


def _define(name: str, errno: int, sqlstate: str, text: str) -> ErrorCode:
    if name in _TABLE:
        raise ValueError(f"error {name} is defined twice")
    _TABLE[name] = ErrorCode(name, errno, sqlstate, text)
    return _TABLE[name]


NOT_SUPPORTED = _define(
    "NOT_SUPPORTED", 1235, "42000", "skyshard doesn't yet support {construct} on sharded tables{advice}"
)
TOO_DEEP = _define(
    "TOO_DEEP",
    1235,
    "42000",
    "this statement on sharded tables is nested too deeply for skyshard; write many alternatives as "
    "column IN (…), and inner queries as joins or into a table of your own",
)
TOO_LONG = _define(
    "TOO_LONG",
    1235,
    "42000",
    "this statement on sharded tables has more than {limit} words, signs and values; put long lists of values into "
    "a table of your own, and join it or write column IN (SELECT …)",
)
READ_ONLY = _define(
    "READ_ONLY",
    1290,
    "HY000",
    "Table '{table}' is sharded and read-only: {verb} cannot run on it; load data with 'skyshard ingest'",
)
CATALOGUE_READ_ONLY = _define(
    "CATALOGUE_READ_ONLY",
    1290,
    "HY000",
    "'{name}' belongs to a published catalogue and is read-only: {verb} cannot run on it; "
    "load data with 'skyshard ingest'",
)
UNKNOWN_TABLE = _define("UNKNOWN_TABLE", 1146, "42S02", "Table '{database}.{table}' doesn't exist")
RADIUS_TOO_WIDE = _define(
    "RADIUS_TOO_WIDE",
    1235,
    "42000",
    "near-neighbour radius {radius} deg exceeds the overlap of database '{database}' ({overlap} deg); "
    "use a smaller radius or ingest with a wider overlap",
)
BAD_ARGUMENT = _define("BAD_ARGUMENT", 1210, "HY000", "Incorrect arguments to {function}: {reason}")
WORKER_DOWN = _define(
    "WORKER_DOWN", 1429, "HY000", "worker {worker} cannot be reached; try again, or ask its operator"
)
WORKER_RELEASE = _define(
    "WORKER_RELEASE",
    1429,
    "HY000",
    "the agent of worker {worker} speaks version {theirs} of the protocol, and this program version {ours}: they are of "
    "two releases; the operator has to bring both to one",
)
WORKER_LOST = _define(
    "WORKER_LOST",
    1158,
    "08S01",
    "worker {worker} was lost while its rows were being read; run the query again",
)
WORKER_RESTARTED = _define(
    "WORKER_RESTARTED",
    1158,
    "08S01",
    "the agent of worker {worker} has restarted since rows were written there, so nobody knows that they are on disk; "
    "run the command again",
)
FRAGMENT_FAILED = _define("FRAGMENT_FAILED", 1105, "HY000", "worker {worker} failed: {message}")
SPOOL_FULL = _define("SPOOL_FULL", 1104, "42000", "worker {worker} has no room for the rows: {message}")
SHUTDOWN = _define("SHUTDOWN", 1053, "08S01", "Server shutdown in progress")
INTERRUPTED = _define("INTERRUPTED", 1317, "70100", "Query execution was interrupted")
TIMEOUT = _define("TIMEOUT", 1969, "70100", "Query execution was interrupted (max_statement_time exceeded)")
NO_SUCH_THREAD = _define("NO_SUCH_THREAD", 1094, "HY000", "Unknown thread id: {id}")
UNFIT = _define(
    "UNFIT",
    1406,
    "22001",
    "values do not fit the type that MariaDB gives an expression of the query when it stores it ({warnings} warnings); "
    "give it one with CAST, as CAST(x AS CHAR(64))",
)
LIMIT_EXCEEDED = _define("LIMIT_EXCEEDED", 1104, "42000", "{limit} exceeded ({value}); setting {setting}")
GATHER_LIMIT = _define(
    "GATHER_LIMIT",
    1104,
    "42000",
    "this query must bring rows together at home and {moved} bytes of {label} are past the limit of {limit}; "
    "restrict it ({label} by region, director key or columns), or raise skyshard_gather_limit",
)
SESSION_SETTING = _define("SESSION_SETTING", 1238, "HY000", "Variable '{name}' is a SESSION variable")
SESSION_SETTING_SET = _define(
    "SESSION_SETTING_SET",
    1228,
    "HY000",
    "Variable '{name}' is a SESSION variable and can't be used with SET GLOBAL",
)
WRONG_SETTING = _define(
    "WRONG_SETTING",
    1231,
    "42000",
    "Variable '{name}' can't be set to the value of '{value}'; give a whole number of bytes, or DEFAULT",
)
LOCAL_DISABLED = _define(
    "LOCAL_DISABLED",
    4166,
    "HY000",
    "The used command is not allowed because the MariaDB server or client has disabled the local infile capability",
)
SYSTEM_TABLE = _define(
    "SYSTEM_TABLE",
    1235,
    "42000",
    "a table of {database} cannot be joined with sharded tables; copy the rows you need into a table of your own",
)
QUOTIENT = _define(
    "QUOTIENT",
    1235,
    "42000",
    "quotients of constants, such as {quotient}, are not folded with div_precision_increment = {digits}; "
    "SET div_precision_increment = 4, or write their values",
)
SHIP_TYPE = _define(
    "SHIP_TYPE",
    1235,
    "42000",
    "column '{column}' of your own table has type {type}, which cannot be joined with sharded tables; "
    "leave it out by a view",
)
TOO_MANY_CONNECTIONS = _define("TOO_MANY_CONNECTIONS", 1040, "08004", "Too many connections")
BAD_HANDSHAKE = _define("BAD_HANDSHAKE", 1043, "08S01", "Bad handshake")
BLOCKED = _define(
    "BLOCKED", 1129, "HY000", "Too many failed logins from this address; try again in {seconds} s"
)
DENIED = _define(
    "DENIED", 1045, "28000", "Access denied for user '{user}'@'{host}' (using password: {using})"
)
REQUIRE_UNMET = _define(
    "REQUIRE_UNMET",
    1045,
    "28000",
    "Access denied for user '{user}'@'{host}': the account has REQUIRE {demand}: {remedy}",
)
DATABASE_DENIED = _define(
    "DATABASE_DENIED", 1044, "42000", "Access denied for user '{user}'@'{host}' to database '{database}'"
)
TABLE_DENIED = _define(
    "TABLE_DENIED",
    1142,
    "42000",
    "{right} command denied to user '{user}'@'{host}' for table `{database}`.`{table}`",
)
INSECURE = _define(
    "INSECURE",
    3159,
    "HY000",
    "Connections using insecure transport are prohibited while --require_secure_transport=ON.",
)
NO_SUCH_PLUGIN = _define("NO_SUCH_PLUGIN", 1524, "HY000", "Plugin '{plugin}' is not loaded")
UNKNOWN_STATEMENT = _define(
    "UNKNOWN_STATEMENT",
    1243,
    "HY000",
    "Unknown prepared statement handler ({id}) given to {command}",
)
NO_CURSOR = _define("NO_CURSOR", 1421, "HY000", "The statement ({id}) has no open cursor")
PACKET_TOO_LARGE = _define(
    "PACKET_TOO_LARGE", 1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes"
)
USER_LIMIT = _define(
    "USER_LIMIT",
    1226,
    "42000",
    "User '{user}' has exceeded the '{resource}' resource (current value: {value})",
)
HOME_DOWN = _define("HOME_DOWN", 1429, "HY000", "the home server cannot be reached; try again")
STATEMENT_TOO_LONG = _define(
    "STATEMENT_TOO_LONG", 1153, "08S01", "the statement is longer than the {limit} bytes that a worker takes"
)
UNKNOWN_COMMAND = _define("UNKNOWN_COMMAND", 1047, "08S01", "Unknown command")
CATALOGUE_CHANGED = _define(
    "CATALOGUE_CHANGED",
    1412,
    "HY000",
    "database '{database}' is being replaced, consolidated or dropped; run the query again",
)
NO_JOB = _define("NO_JOB", 1094, "HY000", "Unknown job id: {id}")
JOB_NOT_DONE = _define("JOB_NOT_DONE", 1105, "HY000", "job {id} has not finished: it is {status}")
JOB_NO_RESULT = _define("JOB_NO_RESULT", 1105, "HY000", "job {id} has no result: {reason}")
NO_JOB_RIGHTS = _define(
    "NO_JOB_RIGHTS", 1141, "42000", "the rights of '{account}' with role {role} are not there any more"
)
PROTOCOL = _define("PROTOCOL", 1835, "HY000", "Malformed communication packet")
INTERNAL = _define("INTERNAL", 1105, "HY000", "internal error, query id {query_id}")

SERVER_LOST = 2013
"""Errno of a connection to a MariaDB server that broke while a statement ran."""
SERVER_GONE = frozenset({SHUTDOWN.errno, 1927, 2006, SERVER_LOST})
"""Errnos that say that a MariaDB server has ended the connection: it shuts down, killed it, or is not there any more."""
NETWORK_ERRORS = frozenset({1158, 1159, 1160, 1161})
"""Errnos of a MariaDB server that could not read from its client, or write to it."""
LOCK_TIMEOUT = 1205
"""Errno of a statement that has waited too long for a lock of another transaction."""


class SkyError(Exception):
    """A failure a client may see.

    Parameters
    ----------
    code : ErrorCode
        A row of the table.
    **facts : object
        What the row's text names.
    """

    def __init__(self, code: ErrorCode, **facts: object) -> None:
        self.code, self.facts = code, facts
        self.errno = code.errno
        self.sqlstate = code.sqlstate
        self.message = code.text.format(**facts)
        super().__init__(self.message)


class ServerError(SkyError):
    """An error packet of a MariaDB server, to be relayed with its own errno and SQLSTATE."""

    def __init__(self, errno: int, sqlstate: str, message: str) -> None:
        self.code, self.facts = ErrorCode("SERVER", errno, sqlstate, message), {}
        self.errno = errno
        self.sqlstate = sqlstate
        self.message = message
        Exception.__init__(self, message)


def table() -> tuple[ErrorCode, ...]:
    """Return the whole table in order of definition."""
    return tuple(_TABLE.values())


def not_supported(construct: str, advice: str = "") -> SkyError:
    """Return the 1235 error that names `construct` and, if given, a way round."""
    return SkyError(NOT_SUPPORTED, construct=construct, advice=f"; {advice}" if advice else "")


def too_long(limit: int) -> SkyError:
    """Return the 1235 error for a statement of more than `limit` words, signs and values."""
    return SkyError(TOO_LONG, limit=limit)
