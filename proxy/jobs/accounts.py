"""The account that a job runs as: the rights of who submitted it, under a name that exists while it runs.

Nobody's password is kept, so a job cannot log in as its user; the service account could run it, but may read
everything, and functions, views of the server's own tables and LOAD_FILE() go by who runs them. So each attempt has an
account of its own, with what SHOW GRANTS says of the user at that moment, and the right to make its result.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from backend.tasks import to_the_end
from proxy.jobs.job import Job
from proxy.session.limits import Limits
from shard.catalog.naming import literal, quote
from shard.errors import NO_JOB_RIGHTS, ServerError, SkyError

PREFIX = "skyshard_job_"
_NO_COLUMN = 1054
_GONE = frozenset({_NO_COLUMN, 1146, 1305})
"""Rights on columns, tables and routines that are no more: nothing to be lent."""
_NAME = "`(?:[^`]|``)+`"
_RIGHT = re.compile(rf"([A-Z]+(?: [A-Z]+)*)(?: \(({_NAME}(?:, {_NAME})*)\))?")
_RIGHTS = re.compile(rf"({_RIGHT.pattern}(?:, {_RIGHT.pattern})*) ON (?P<place>.+)", re.S)
"""What SHOW GRANTS lists of one table: rights, some with the columns that they are on, and the table."""
_ROLE = re.compile(r"GRANT `((?:[^`]|``)+)` TO ")
_TO_MAKE = "SELECT, INSERT, CREATE, DROP"


@dataclass(frozen=True, slots=True)
class Lent:
    """What an attempt logs in with.

    Attributes
    ----------
    user : str
        Who submitted the job: it counts as theirs.
    limits : Limits
        What it may use.
    """

    name: str
    password: str
    user: str
    limits: Limits


@asynccontextmanager
async def lent(pool: Pool, job: Job, limits: Limits) -> AsyncIterator[Lent]:
    """Lend an attempt the rights of its user until it ends.

    Raises
    ------
    SkyError
        NO_JOB_RIGHTS if the user's account, or the role that was active, is not theirs any more.
    """
    try:
        async with pool.lease() as connection:
            found = await _lend(connection, job, limits)
        yield found
    finally:
        await to_the_end(_take_back(pool, job))


async def _lend(connection: RawConnection, job: Job, limits: Limits) -> Lent:
    name, password = f"{PREFIX}{job.id}_{job.attempts}", secrets.token_urlsafe(24)
    grants = await _grants(connection, job)
    digest = hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()  # noqa: S324 - the plugin's
    await connection.run(
        f"CREATE OR REPLACE USER {literal(name)}@'%' IDENTIFIED VIA mysql_native_password USING '*{digest}'"
    )
    for what in grants:
        if await _grant(connection, what, name) == _NO_COLUMN:  # of several, and nothing was granted
            for one in apart(what):
                await _grant(connection, one, name)
    await connection.run(f"GRANT {_TO_MAKE} ON {job.running} TO {literal(name)}@'%'")
    return Lent(name, password, job.user, limits)


async def _grant(connection: RawConnection, what: str, name: str) -> int:
    """Grant something to a lent account; return 0, or the error's number if what is granted does not exist any more."""
    try:
        await connection.run(f"GRANT {what} TO {literal(name)}@'%'")
    except ServerError as error:
        if error.errno not in _GONE:
            raise
        return error.errno
    return 0


def apart(what: str) -> list[str]:
    """Return rights on columns of a table, as SHOW GRANTS lists them, one by one.

    >>> apart("SELECT (`a`, `b`), UPDATE ON `d`.`t`")
    ['SELECT (`a`) ON `d`.`t`', 'SELECT (`b`) ON `d`.`t`', 'UPDATE ON `d`.`t`']
    """
    found = _RIGHTS.fullmatch(what)
    if found is None:
        return []
    out = []
    for right, columns in _RIGHT.findall(found[1]):
        parts = [f" ({column})" for column in re.findall(_NAME, columns)] or [""]
        out += [f"{right}{part} ON {found['place']}" for part in parts]
    return out


async def _take_back(pool: Pool, job: Job) -> None:
    """Remove the accounts of a job's attempts."""
    names = (literal(f"{PREFIX}{job.id}_{attempt}") for attempt in range(1, job.attempts + 1))
    with suppress(ServerError, ConnectionLost, OSError):  # `sweep` does it later
        async with pool.lease() as connection:
            await connection.run("DROP USER IF EXISTS " + ", ".join(f"{name}@'%'" for name in names))


async def sweep(connection: RawConnection, running: str) -> None:
    """Remove accounts whose proxy has gone; `running` selects the ids of the jobs that run."""
    pattern = PREFIX.replace("_", r"\_")
    found = await connection.fetch(
        f"SELECT User FROM mysql.global_priv WHERE User LIKE '{pattern}%' AND "
        f"CAST(SUBSTRING_INDEX(SUBSTR(User, {len(PREFIX) + 1}), '_', 1) AS UNSIGNED) NOT IN ({running})"
    )
    for (user,) in found:
        await connection.run(f"DROP USER IF EXISTS {literal((user or b'').decode())}@'%'")


async def _grants(connection: RawConnection, job: Job) -> list[str]:
    """Return what the user, and the role that was active, may do: what stands between GRANT and TO."""
    user, _, host = job.account.rpartition("@")
    try:
        own, roles = await _shown(
            connection, f"{literal(user)}@{literal(host)}", f"{quote(user)}@{quote(host)}"
        )
        if job.settings.role is None:
            return own
        if job.settings.role not in roles:
            raise SkyError(NO_JOB_RIGHTS, account=job.account, role=job.settings.role)
        waiting, seen = [job.settings.role], {job.settings.role}
        while waiting:
            role = waiting.pop()
            more, inner = await _shown(connection, literal(role), quote(role))
            own += more
            waiting += [name for name in inner if name not in seen]
            seen.update(inner)
    except ServerError as error:
        if error.errno in (1133, 1141):  # no such user, no such grant
            raise SkyError(NO_JOB_RIGHTS, account=job.account, role=job.settings.role or "NONE") from None
        raise
    return own


async def _shown(connection: RawConnection, grantee: str, shown: str) -> tuple[list[str], list[str]]:
    """Return the rights and the roles that were granted to an account or a role."""
    rights, roles = [], []
    for (text,) in await connection.fetch_texts(f"SHOW GRANTS FOR {grantee}"):
        end = text.rfind(f" TO {shown}")
        role = _ROLE.match(text)
        if role is not None:
            roles.append(role[1].replace("``", "`"))
        elif text.startswith("GRANT ") and not text.startswith("GRANT PROXY ") and end >= 0:
            rights.append(text[len("GRANT ") : end])
    return rights, roles
