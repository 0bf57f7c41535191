"""The rows of `skyshard_meta.queries`: jobs and the history, read and written on service connections."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from backend.connection import RawConnection
from backend.pool import Pool
from proxy.jobs import accounts
from proxy.jobs.history import HistoryEntry
from proxy.jobs.job import Job, SubmittedSettings
from shard.catalog.naming import JOBS_DATABASE, META_DATABASE, literal, quote
from shard.errors import ServerError
from shard.wire.packets import Ok

QUERIES = f"{quote(META_DATABASE)}.queries"
LOST_S = 10
"""Seconds without a sign of life of its proxy after which a job is another's."""
MOST_ATTEMPTS = 3
DEADLOCKS = frozenset({1205, 1213})
"""Errors of a statement that others' locks were in the way of."""
_DEADLOCKS = 5
_TABLE = re.compile(r"(running|result)_(\d+)(?:_\d+)?")
LONGEST_TEXT = 1 << 20
"""Characters of a query that the history keeps."""
LONGEST_ERROR = 10_000
"""The same of an error."""


_COLUMNS = "id, user, status, account, query, settings, attempts, stored, COALESCE(error, '')"


def _job(texts: Sequence[str]) -> Job:
    return Job(
        id=int(texts[0]),
        user=texts[1],
        status=texts[2],
        account=texts[3],
        query=texts[4],
        settings=msgspec.json.decode(texts[5] or "null", type=SubmittedSettings),
        attempts=int(texts[6]),
        stored=texts[7] == "1",
        error=texts[8],
    )


async def _settled(connection: RawConnection, sql: str) -> Ok:
    """Run a statement that other proxies' may deadlock with: they go on, and it comes again."""
    for _ in range(_DEADLOCKS):
        try:
            return await connection.run(sql)
        except ServerError as error:
            if error.errno not in DEADLOCKS:
                raise
    return await connection.run(sql)


class Store:
    """Jobs in the metadata.

    Parameters
    ----------
    pool : Pool
        Service connections.
    proxy : str
        A name of this process that no other one has had.
    """

    def __init__(self, pool: Pool, proxy: str) -> None:
        self._pool, self._proxy = pool, literal(proxy)

    async def add(self, user: str, account: str, query: str, settings: SubmittedSettings) -> int:
        """Write a new job; return its id."""
        said = msgspec.json.encode(settings).decode()
        async with self._pool.lease() as connection:
            await _settled(
                connection,
                f"INSERT INTO {QUERIES} (user, type, status, submitted, query, account, settings) VALUES "
                f"({literal(user)}, 'ASYNC', 'QUEUED', NOW(3), {literal(query)}, {literal(account)}, {literal(said)})",
            )
            return int((await connection.fetch("SELECT LAST_INSERT_ID()"))[0][0] or b"0")

    async def usage(self, user: str) -> tuple[int, int]:
        """Return how many jobs of a user wait or run, and the bytes of the results kept."""
        async with self._pool.lease() as connection:
            found = await connection.fetch(
                "SELECT COALESCE(SUM(status IN ('QUEUED', 'EXECUTING')), 0), COALESCE(SUM(IF(stored, bytes, 0)), 0) "
                f"FROM {QUERIES} WHERE user = {literal(user)} AND type = 'ASYNC'"
            )
        return int(found[0][0] or b"0"), int(found[0][1] or b"0")

    async def get(self, number: int, user: str) -> Job | None:
        """Return a user's job."""
        async with self._pool.lease() as connection:
            found = await connection.fetch_texts(
                f"SELECT {_COLUMNS} FROM {QUERIES} WHERE id = {number} AND type = 'ASYNC' AND user = {literal(user)}"
            )
        return _job(found[0]) if found else None

    async def claim(self, most: int, per_user: int) -> list[Job]:
        """Take jobs that wait, or whose proxy is gone; fail those that were lost too often.

        Parameters
        ----------
        most : int
            Jobs to take.
        per_user : int
            Jobs of one user that run at once in all proxies; 0 is any number.
        """
        lost = f"status = 'EXECUTING' AND alive_at < NOW(3) - INTERVAL {LOST_S} SECOND"
        async with self._pool.lease() as connection:
            await _settled(
                connection,
                f"UPDATE {QUERIES} SET status = 'FAILED', completed = NOW(3), "
                f"error = 'the proxy that ran it was lost {MOST_ATTEMPTS} times' "
                f"WHERE {lost} AND attempts >= {MOST_ATTEMPTS}",
            )
            if most <= 0:
                return []
            found = await connection.fetch(  # users take turns; whoever has fewer running comes first
                f"SELECT id FROM (SELECT q.id, ROW_NUMBER() OVER (PARTITION BY q.user ORDER BY q.id) + (SELECT COUNT(*) "
                f"FROM {QUERIES} r WHERE r.user = q.user AND r.type = 'ASYNC' AND r.status = 'EXECUTING' "
                f"AND r.alive_at >= NOW(3) - INTERVAL {LOST_S} SECOND) AS turn "
                f"FROM {QUERIES} q WHERE q.type = 'ASYNC' AND (q.status = 'QUEUED' OR {lost})) AS waiting "
                f"{f'WHERE turn <= {per_user} ' if per_user else ''}ORDER BY turn, id LIMIT {most}"
            )
            out = []
            for (number,) in found:
                ok = await _settled(
                    connection,
                    f"UPDATE {QUERIES} SET status = 'EXECUTING', proxy = {self._proxy}, alive_at = NOW(3), "
                    f"attempts = attempts + 1, chunks = 0, chunks_comp = 0 WHERE id = {int(number or b'0')} "
                    f"AND (status = 'QUEUED' OR {lost})",
                )
                if ok.affected_rows:
                    rows = await connection.fetch_texts(
                        f"SELECT {_COLUMNS} FROM {QUERIES} WHERE id = {int(number or b'0')}"
                    )
                    out.append(_job(rows[0]))
            return out

    async def states(self) -> dict[str, int]:
        """Return how many jobs there are in each state that is not their last, in all proxies."""
        async with self._pool.lease() as connection:
            found = await connection.fetch_texts(
                f"SELECT status, COUNT(*) FROM {QUERIES} WHERE type = 'ASYNC' AND status IN ('QUEUED', 'EXECUTING') "
                "GROUP BY status"
            )
        return {status: int(count) for status, count in found}

    async def alive(self, progress: dict[int, tuple[int, int]]) -> set[int]:
        """Say that jobs run here, and how far they are; return those that still are this proxy's."""
        if not progress:
            return set()
        async with self._pool.lease() as connection:
            for number, (chunks, done) in progress.items():
                await _settled(
                    connection,
                    f"UPDATE {QUERIES} SET alive_at = NOW(3), chunks = {chunks}, chunks_comp = {done} "
                    f"WHERE id = {number} AND status = 'EXECUTING' AND proxy = {self._proxy}",
                )
            listed = ", ".join(map(str, progress))
            found = await connection.fetch(
                f"SELECT id FROM {QUERIES} WHERE id IN ({listed}) AND status = 'EXECUTING' AND proxy = {self._proxy}"
            )
        return {int(row[0] or b"0") for row in found}

    async def finish(self, job: Job, rows: int, size: int) -> None:
        """Put an attempt's rows in the place of the result, if the job still is this proxy's."""
        mine = (
            f"id = {job.id} AND status = 'EXECUTING' AND proxy = {self._proxy} AND attempts = {job.attempts}"
        )
        async with self._pool.lease() as connection:
            if not await connection.fetch(f"SELECT 1 FROM {QUERIES} WHERE {mine}"):
                await connection.run(f"DROP TABLE IF EXISTS {job.running}")
                return
            await connection.run(f"DROP TABLE IF EXISTS {job.result}")
            await connection.run(f"RENAME TABLE {job.running} TO {job.result}")
            await connection.run(f"GRANT SELECT ON {job.result} TO {_account(job.account)}")
            ok = await _settled(
                connection,
                f"UPDATE {QUERIES} SET status = 'COMPLETED', completed = NOW(3), row_count = {rows}, bytes = {size}, "
                f"chunks_comp = chunks, stored = 1 WHERE {mine}",
            )
            if not ok.affected_rows:  # cancelled at this moment
                await _drop(connection, job.id)

    async def fail(self, job: Job, reason: str) -> None:
        """Note why a job failed."""
        async with self._pool.lease() as connection:
            await connection.run(f"DROP TABLE IF EXISTS {job.running}")
            ok = await _settled(
                connection,
                f"UPDATE {QUERIES} SET status = 'FAILED', completed = NOW(3), error = {literal(reason[:LONGEST_ERROR])} "
                f"WHERE id = {job.id} AND status = 'EXECUTING' AND proxy = {self._proxy}",
            )
            if ok.affected_rows:  # it may have failed behind RENAME: its account is gone, say
                await _drop(connection, job.id)

    async def drop_unfinished(self, job: Job) -> None:
        """Drop what this attempt and those before it have left."""
        async with self._pool.lease() as connection:
            await connection.run(f"DROP TABLE IF EXISTS {job.unfinished}")

    async def size(self, job: Job) -> int:
        """Return the bytes that an attempt has written."""
        async with self._pool.lease() as connection:
            found = await connection.fetch(
                f"SELECT DATA_LENGTH FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(JOBS_DATABASE)} "
                f"AND TABLE_NAME = 'running_{job.id}_{job.attempts}'"
            )
        return int(found[0][0] or b"0") if found else 0

    async def discard(self, job: Job) -> None:
        """Drop what an attempt has left; unless the job was cancelled or is another's, it waits again at once."""
        async with self._pool.lease() as connection:
            await connection.run(f"DROP TABLE IF EXISTS {job.running}")
            await _settled(
                connection,
                f"UPDATE {QUERIES} SET status = 'QUEUED', attempts = attempts - 1 WHERE id = {job.id} "
                f"AND status = 'EXECUTING' AND proxy = {self._proxy} AND attempts = {job.attempts}",
            )

    async def abort(self, number: int) -> bool:
        """Cancel a job; return whether it was not over yet."""
        async with self._pool.lease() as connection:
            ok = await _settled(
                connection,
                f"UPDATE {QUERIES} SET status = 'ABORTED', completed = NOW(3), error = 'cancelled' "
                f"WHERE id = {number} AND status IN ('QUEUED', 'EXECUTING')",
            )
        return bool(ok.affected_rows)

    async def delete(self, job: Job) -> None:
        """Drop a result."""
        async with self._pool.lease() as connection:
            await _drop(connection, job.id)

    async def expire(self, keep_s: float, history_s: float) -> None:
        """Drop results, and forget what was asked, after their time; drop what proxies that are gone have left."""
        async with self._pool.lease() as connection:
            found = await connection.fetch(
                f"SELECT id FROM {QUERIES} WHERE stored = 1 AND completed < NOW(3) - INTERVAL {keep_s:.3f} SECOND"
            )
            for (number,) in found:
                await _drop(connection, int(number or b"0"))
            await _settled(
                connection,
                f"DELETE FROM {QUERIES} WHERE stored = 0 AND completed < NOW(3) - INTERVAL {history_s:.3f} SECOND",
            )
            await _sweep(connection)
            await accounts.sweep(connection, f"SELECT id FROM {QUERIES} WHERE status = 'EXECUTING'")

    async def note(self, noted: Sequence[HistoryEntry]) -> None:
        """Write queries to the history."""
        lines = []
        for entry in noted:
            query, error = entry.query, entry.error
            status = {"ok": "COMPLETED", "cancelled": "ABORTED"}.get(entry.outcome, "FAILED")
            lines.append(
                f"({literal(query.user[:128])}, 'SYNC', '{status}', NOW(3) - INTERVAL {entry.seconds:.6f} SECOND, "
                f"NOW(3), {query.chunks_total}, {query.chunks_done}, {entry.size}, {query.rows}, "
                f"{literal(query.sql[:LONGEST_TEXT])}, {literal(error[:LONGEST_ERROR]) if error else 'NULL'})"
            )
        async with self._pool.lease() as connection:
            await connection.run("START TRANSACTION")  # all or none: what fails is tried again
            for some in _packed(lines):
                await connection.run(
                    f"INSERT INTO {QUERIES} (user, type, status, submitted, completed, chunks, chunks_comp, bytes, "
                    f"row_count, query, error) VALUES " + ", ".join(some)
                )
            await connection.run("COMMIT")


def _packed(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield lines together, as many as one statement may have in a packet of any server's."""
    some: list[str] = []
    size = 0
    for line in lines:
        if some and (size + len(line) > LONGEST_TEXT or len(some) == 100):
            yield some
            some, size = [], 0
        some.append(line)
        size += len(line)
    if some:
        yield some


async def _drop(connection: RawConnection, number: int, wait: str = "") -> None:
    """Drop a job's result, and the right to read it."""
    name = f"result_{number}"
    await _settled(connection, f"UPDATE {QUERIES} SET stored = 0 WHERE id = {number}")
    for user, host in await connection.fetch(
        f"SELECT User, Host FROM mysql.tables_priv WHERE Db = {literal(JOBS_DATABASE)} AND Table_name = '{name}'"
    ):
        account = f"{literal((user or b'').decode())}@{literal((host or b'').decode())}"
        await connection.run(f"REVOKE SELECT ON {quote(JOBS_DATABASE)}.{quote(name)} FROM {account}")
    await connection.run(f"DROP TABLE IF EXISTS {quote(JOBS_DATABASE)}.{quote(name)}{wait}")


async def _sweep(connection: RawConnection) -> None:
    """Drop tables of jobs that are over, whose proxies went before they could; one that is in use goes another time.

    The tables are read first: a job that is over then has none that anybody fills.
    """
    found = await connection.fetch(
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(JOBS_DATABASE)}"
    )
    tables = [
        (match[0], match[1], int(match[2]))
        for (name,) in found
        if (match := _TABLE.fullmatch((name or b"").decode()))
    ]
    if not tables:
        return
    listed = ", ".join(str(number) for _, _, number in tables)
    goes_on, stored = set(), set()
    for row in await connection.fetch(
        f"SELECT id, status IN ('QUEUED', 'EXECUTING'), stored FROM {QUERIES} WHERE id IN ({listed})"
    ):
        job = int(row[0] or b"0")
        goes_on.update([job] if row[1] == b"1" else [])
        stored.update([job] if row[2] == b"1" else [])
    for name, kind, number in tables:
        if number in goes_on or (kind == "result" and number in stored):
            continue
        with suppress(ServerError):
            if kind == "result":
                await _drop(connection, number, " NOWAIT")
            else:
                await connection.run(f"DROP TABLE IF EXISTS {quote(JOBS_DATABASE)}.{quote(name)} NOWAIT")


def _account(account: str) -> str:
    """Return ``user@host`` in quotes."""
    user, _, host = account.rpartition("@")
    return f"{literal(user)}@{literal(host)}"
