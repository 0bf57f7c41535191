"""SUBMIT, CANCEL, qserv_result and qserv_result_delete, and the view of queries: the statements about jobs.

A result is a table at home that its account may read; `qserv_result(7)` in a statement stands for it, so that all
of SQL can be used on it. `information_schema.queries` stands for a view that shows each user their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from proxy.home.settings import SessionSettings
from proxy.jobs.job import Job, SubmittedSettings
from proxy.jobs.runner import Jobs
from proxy.session import own_settings
from proxy.session.engine import Local
from proxy.words import Words
from shard.catalog.naming import JOBS_DATABASE, quote
from shard.errors import JOB_NO_RESULT, JOB_NOT_DONE, NO_JOB, USER_LIMIT, SkyError, not_supported
from shard.planner.lexer import Token, TokenKind, opening_word
from shard.wire.packets import ColumnDefinition
from shard.wire.protocol import BINARY_CHARSET, FieldType

if TYPE_CHECKING:
    from proxy.session.session import Session

_NAMES = Words(
    rb"(?i)qserv_result|information_schema\s*`?\s*\.\s*`?queries", (b"qserv_result", b"information_schema")
)
_OF_A_SESSION = frozenset(
    {"USER", "SESSION_USER", "SYSTEM_USER", "CONNECTION_ID", "LAST_INSERT_ID", "FOUND_ROWS", "ROW_COUNT"}
)
_WORDS_OF_A_SESSION = frozenset({"CURRENT_USER", "CURRENT_ROLE"})
"""Functions that need no parentheses."""
_VIEW = ["INFORMATION_SCHEMA", ".", "QUERIES"]
"""What shows each user their own queries: a job is a user of its own."""

Check = Callable[["Session", bytes], Awaitable[None]]


def may_be(sql: bytes) -> bool:
    """Whether a statement could be one about jobs."""
    return opening_word(sql) in ("SUBMIT", "CANCEL") or _NAMES.search(sql) is not None


class Statements:
    """Answers the statements about jobs.

    Parameters
    ----------
    jobs : Jobs
        The jobs.
    check : callable
        Raises what is wrong with a query that a session wants to submit: its errors, and its user's rights.
    """

    def __init__(self, jobs: Jobs, check: Check) -> None:
        self._jobs, self._check = jobs, check

    async def answer(
        self, session: Session, text: str, tokens: list[Token], settings: SessionSettings
    ) -> Local | str | None:
        """Return what answers a statement, or the statement to answer in its place; None if it is about no job."""
        words = [token.upper if token.kind is TokenKind.WORD else token.text for token in tokens]
        if words and words[-1] == ";":
            words.pop()
        if words[:1] == ["SUBMIT"]:
            return await self._submit(session, text, tokens, settings)
        if words[:1] == ["CANCEL"] and len(words) == 2:
            return _of_number(partial(self._cancel, session), words[1])
        if words[:2] == ["CALL", "QSERV_RESULT_DELETE"] and len(words) == 5:
            return _of_number(partial(self._delete, session), words[3])
        return await self._rewritten(session, text, tokens)

    async def _submit(
        self, session: Session, text: str, tokens: list[Token], settings: SessionSettings
    ) -> Local:
        rest = tokens[1:]
        first = next((token.upper for token in rest if token.text != "("), "")
        if first not in ("SELECT", "WITH"):
            raise not_supported("SUBMIT of a statement that is no SELECT")
        for token, behind in itertools.zip_longest(rest, rest[1:]):
            if token.kind is TokenKind.WORD and (
                token.upper in _WORDS_OF_A_SESSION
                or (token.upper in _OF_A_SESSION and behind is not None and behind.text == "(")
            ):
                raise not_supported(f"{token.upper} in a submitted query", "write the value itself")
            if token.text.startswith("@"):
                raise not_supported("variables in a submitted query", "write the values themselves")
            if token.kind is TokenKind.WORD and token.upper == "INTO":
                raise not_supported("SELECT … INTO in a submitted query")
        words = [_word(token) for token in rest]
        if any(words[at : at + 3] == _VIEW for at in range(len(words))):
            raise not_supported("information_schema.queries in a submitted query")
        if settings.limit is not None:
            raise not_supported("SUBMIT under sql_select_limit", "write LIMIT in the query")
        if session.temporaries:
            raise not_supported("SUBMIT in a session that may have temporary tables", "open a new connection")
        query = text[rest[0].start :].strip().rstrip(";")
        marks = sum(token.kind is TokenKind.PARAMETER for token in rest)
        return Local(
            _refuse_marks if marks else partial(self._add, session, query, settings),
            _submitted(marks),
            partial(self._check, session, query.encode(*settings.encoding)),
        )

    async def _add(self, session: Session, query: str, settings: SessionSettings, binary: bool) -> None:
        await self._check(session, query.encode(*settings.encoding))
        try:
            query.encode()
        except UnicodeEncodeError:
            raise not_supported("bytes that are no text in a submitted query") from None
        limits = self._jobs.settings
        waiting, size = await self._jobs.store.usage(session.standing.user)
        if limits.per_user and waiting >= limits.per_user:
            raise SkyError(
                USER_LIMIT, user=session.standing.user, resource="jobs.per_user", value=limits.per_user
            )
        if limits.user_bytes and size >= limits.user_bytes:
            raise SkyError(
                USER_LIMIT, user=session.standing.user, resource="jobs.user_bytes", value=limits.user_bytes
            )
        found = await session.home.table(
            b"SELECT CONVERT(CURRENT_USER() USING utf8mb4), CONVERT(CURRENT_ROLE() USING utf8mb4)"
        )
        account, role = ((value or b"").decode() for value in found.rows[0])
        values = dict(settings.values)
        if settings.timestamp is not None:
            values["timestamp"] = settings.timestamp
        said = SubmittedSettings(
            database=settings.database,
            values=values,
            charset=settings.charset,
            role=role or None,
            max_seconds=settings.max_seconds,
            own=own_settings.values(session.row_limits),
        )
        number = await self._jobs.store.add(session.standing.user, account, query, said)
        self._jobs.wake()
        columns = [_column("jobId", FieldType.LONGLONG), _column("resultLocation", FieldType.VAR_STRING)]
        row: list[bytes | None] = [b"%d" % number, b"table:result_%d" % number]
        await session.client.table(columns, [row], session.home.status, binary)

    async def _find(self, session: Session, number: int) -> Job:
        job = await self._jobs.store.get(number, session.standing.user)
        if job is None:
            raise SkyError(NO_JOB, id=number)
        return job

    async def _cancel(self, session: Session, number: int, binary: bool) -> None:
        del binary
        job = await self._find(session, number)
        if not await self._jobs.store.abort(job.id):
            job = await self._find(session, number)
            raise SkyError(JOB_NO_RESULT, id=number, reason=f"it is over ({job.status})")
        self._jobs.forget(job.id)
        await session.client.ok(session.home.status)

    async def _delete(self, session: Session, number: int, binary: bool) -> None:
        del binary
        job = await self._find(session, number)
        if job.status in ("QUEUED", "EXECUTING"):
            raise SkyError(JOB_NOT_DONE, id=number, status=job.status)
        await self._jobs.store.delete(job)
        await session.client.ok(session.home.status)

    async def _rewritten(self, session: Session, text: str, tokens: Sequence[Token]) -> str | None:
        """Return a statement with tables in the place of qserv_result(…) and information_schema.queries."""
        cuts: list[tuple[int, int, str]] = []
        for at, token in enumerate(tokens):
            words = [_word(other) for other in tokens[at : at + 4]]
            if (
                words[:2] == ["QSERV_RESULT", "("]
                and len(words) == 4
                and words[2].isdigit()
                and words[3] == ")"
            ):
                name = await self._result(session, int(words[2]))
                cuts.append((token.start, tokens[at + 3].start + 1, name))
            elif words[:3] == _VIEW:
                last = tokens[at + 2]
                cuts.append((token.start, last.start + len(last.text), f"{quote(JOBS_DATABASE)}.queries"))
        for start, end, name in reversed(cuts):
            text = text[:start] + name + text[end:]
        return text if cuts else None

    async def _result(self, session: Session, number: int) -> str:
        job = await self._find(session, number)
        if job.status in ("QUEUED", "EXECUTING"):
            raise SkyError(JOB_NOT_DONE, id=number, status=job.status)
        if job.status != "COMPLETED":
            raise SkyError(JOB_NO_RESULT, id=number, reason=f"{job.status}: {job.error}")
        if not job.stored:
            raise SkyError(JOB_NO_RESULT, id=number, reason="it has been deleted")
        return job.result


def _of_number(answer: Callable[[int, bool], Awaitable[None]], word: str) -> Local | None:
    """Return the answer to a statement about the job of a number; None if it names none."""
    if word == "?":
        return Local(_refuse_marks, b"DO ?")
    return Local(partial(answer, int(word)), b"DO 0") if word.isdigit() else None


async def _refuse_marks(binary: bool) -> None:
    """A statement with ``?`` in it was not prepared, but sent as text."""
    del binary
    raise not_supported("a parameter in a statement that is not prepared")


def _submitted(marks: int) -> bytes:
    """Return a statement with the columns of SUBMIT's answer, and so many parameters."""
    where = " WHERE " + " <=> ".join("?" * marks) if marks else ""
    return f"SELECT CAST(0 AS SIGNED) AS jobId, CAST('' AS CHAR(255)) AS resultLocation FROM DUAL{where}".encode()


def _word(token: Token) -> str:
    return token.text.strip("`").upper()


def _column(name: str, kind: int) -> bytes:
    charset, length = (BINARY_CHARSET, 20) if kind == FieldType.LONGLONG else (45, 255)
    return ColumnDefinition(b"def", b"", b"", b"", name.encode(), b"", charset, length, kind, 0, 0).encode()
