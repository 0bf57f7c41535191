"""`skyshard catalog backup`: a published catalogue as files, while it is queried.

Nothing is locked: the rows of a published table do not change, and whoever replaces or drops the catalogue meanwhile
changes its identity, which is compared at the end (and whenever something cannot be read). Every file that is whole has a
line in a journal, so that the same command goes on where it was interrupted; the manifest is written last.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from shard.errors import SkyError
from skyshard.catalog import manifest as manifests
from skyshard.catalog import published
from skyshard.catalog.cluster import Cluster, alive
from skyshard.catalog.files import UNFINISHED, TextWriter, sync_directory, write_whole
from skyshard.catalog.manifest import FORMAT, MANIFEST, Manifest, Part, SavedPart, plain
from skyshard.catalog.published import Published
from skyshard.errors import UserError
from skyshard.replicas.stream import checksums, read_rows

AT_ONCE = 3
"""Tables of one worker that are read at once."""
_JOURNAL = "unfinished.jsonl"
_LOCK = "unfinished.lock"
_OWN = (_JOURNAL, _JOURNAL + UNFINISHED, _LOCK)


async def servers_of(cluster: Cluster, workers: set[int]) -> tuple[str, ...]:
    """Return the versions of home's and workers' servers, major and minor number, without doubles."""
    sql = "SELECT VERSION()"
    found = await asyncio.gather(*(cluster.agents.admin(worker, [sql]) for worker in sorted(workers)))
    texts = [rows[0][0] or "" for rows in found]
    texts.append(((await cluster.home.fetch(sql))[0][0] or b"").decode())
    return tuple(sorted({".".join(text.split(".")[:2]) for text in texts}))


class Backup:
    """One run.

    Parameters
    ----------
    cluster : Cluster
        Where the catalogue is.
    database : str
        Its name.
    directory : Path
        Where the files go; it is made, or has an unfinished backup of the same catalogue.
    say : callable
        Takes one line of progress.
    """

    def __init__(
        self, cluster: Cluster, database: str, directory: Path, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._cluster, self._database, self._directory, self._say = cluster, database, directory, say
        self._done: dict[str, SavedPart] = {}

    async def run(self) -> Manifest:
        """Write what is missing; return the manifest.

        Raises
        ------
        UserError
            If the directory has something else, the catalogue changes, or rows cannot be read; what has been
            written stays for the next run.
        """
        found = await published.read(self._cluster.home, self._database)
        if (self._directory / MANIFEST).exists():
            return self._complete(found)
        there = await alive(self._cluster)
        servers = await servers_of(self._cluster, there)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with (self._directory / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # before anybody looks what is there
                return await self._locked(found, there, servers)
        except BlockingIOError as error:
            raise UserError(f"{self._directory}: another backup is being written there") from error
        except OSError as error:
            raise UserError(f"{error.filename or self._directory}: {error.strerror}") from error

    async def _locked(self, found: Published, there: set[int], servers: tuple[str, ...]) -> Manifest:
        """Do it while nobody else writes into the directory."""
        with self._journal(found) as journal:
            self._resume(journal, found)
            try:
                await self._write(journal, found, there)
            except (UserError, SkyError, ExceptionGroup):
                await self._unchanged(found)  # if it has changed, that is why
                raise
            await self._unchanged(found)
            return self._end(found, servers)

    async def _unchanged(self, found: Published) -> None:
        try:
            same = (await published.read(self._cluster.home, self._database)).identity == found.identity
        except UserError:
            same = False
        if not same:
            raise UserError(
                f"database '{self._database}' has changed while it was being backed up: what is in {self._directory} "
                "is of no use; remove it and begin anew"
            )

    # the directory -----------------------------------------------------------------------------------

    def _complete(self, found: Published) -> Manifest:
        """Return the manifest of the backup that is there already."""
        made = manifests.read(self._directory)
        if (made.database, made.identity) != (found.name, found.identity):
            raise UserError(
                f"{self._directory} has a whole backup of something else, or of database '{made.database}' as it was on "
                f"{made.made}; choose another directory"
            )
        for part in made.parts:
            path = self._directory / part.path
            if not path.is_file() or path.stat().st_size != part.size:
                raise UserError(f"{path}: the file is missing or damaged; choose another directory")
        return made

    def _journal(self, found: Published) -> IO[str]:
        """Open the journal of this backup, which is begun if the directory is empty."""
        path = self._directory / _JOURNAL
        if not path.exists():
            if strange := sorted(one.name for one in self._directory.iterdir() if one.name not in _OWN):
                (self._directory / _LOCK).unlink()
                raise UserError(f"{self._directory}: it is not empty ({strange[0]}) and has no backup")
            head = {"format": FORMAT, "database": found.name, "identity": found.identity}
            write_whole(path, json.dumps(head).encode() + b"\n")
        return path.open("r+")

    def _resume(self, journal: IO[str], found: Published) -> None:
        """Find out which files are whole."""
        lines = journal.read().split("\n")
        try:
            head = msgspec.json.decode(lines[0], type=dict[str, str | int])
            # A line without its end was being written when it was killed.
            parts = [msgspec.json.decode(line, type=SavedPart) for line in lines[1:-1]]
        except msgspec.MsgspecError as error:
            raise UserError(
                f"{self._directory / _JOURNAL} is damaged; remove {self._directory} and begin anew"
            ) from error
        if head != {"format": FORMAT, "database": found.name, "identity": found.identity}:
            raise UserError(
                f"{self._directory} has an unfinished backup of something else, or of database '{head['database']}' as it "
                "was before it changed; remove it, or choose another directory"
            )
        for part in parts:
            path = self._directory / part.path
            if path.is_file() and path.stat().st_size == part.size:
                self._done[part.path] = part
        good = sum(len(line.encode()) + 1 for line in lines[:-1])
        journal.seek(good)
        journal.truncate()

    def _end(self, found: Published, servers: tuple[str, ...]) -> Manifest:
        description = manifests.description_of(found)
        made = Manifest(
            format=FORMAT,
            database=found.name,
            identity=found.identity,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            servers=servers,
            partitioning=found.partitioning,
            chunks=description.chunks,
            tables=plain(found.tables),
            parts=tuple(self._done[part.path] for part in description.parts()),
        )
        for name in {part.table for part in made.parts}:
            sync_directory(self._directory / name)
        write_whole(
            self._directory / MANIFEST, msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"
        )
        (self._directory / _JOURNAL).unlink()
        (self._directory / _LOCK).unlink()
        return made

    # the rows ----------------------------------------------------------------------------------------

    async def _write(self, journal: IO[str], found: Published, there: set[int]) -> None:
        wanted = list(manifests.description_of(found).parts())
        left = [part for part in wanted if part.path not in self._done]
        holders = found.holders()
        by_worker: dict[int, list[tuple[Part, list[int]]]] = defaultdict(list)
        for number, part in enumerate(left):
            chunk = part.chunk
            held = (
                sorted({one for ids in holders.values() for one in ids}) if chunk is None else holders[chunk]
            )
            held = [worker for worker in held if worker in there] or sorted(there if chunk is None else ())
            if not held:
                raise UserError(f"nobody who answers has chunk {part.chunk}")
            turn = (part.chunk or number) % len(held)
            by_worker[held[turn]].append((part, held[turn:] + held[:turn]))

        async def some(shared: Iterator[tuple[Part, list[int]]]) -> None:
            for part, workers in shared:
                saved = await self._save(part, workers, found)
                try:
                    journal.write(msgspec.json.encode(saved).decode() + "\n")
                    journal.flush()
                    os.fsync(journal.fileno())
                except OSError as error:
                    raise UserError(f"{self._directory / _JOURNAL}: {error.strerror}") from error
                self._done[part.path] = saved
                self._say(f"{len(self._done):,} of {len(wanted):,} files")

        async with asyncio.TaskGroup() as group:
            for listed in by_worker.values():
                shared = iter(listed)
                for _ in range(AT_ONCE):
                    group.create_task(some(shared))

    async def _save(self, part: Part, workers: list[int], found: Published) -> SavedPart:
        """Write one file from the first worker that can be read."""
        problem = ""
        for worker in workers:
            try:
                saved = await self._save_from(worker, part, found)
            except SkyError as error:
                problem = str(error)
                continue
            if isinstance(saved, SavedPart):
                return saved
            problem = saved
        raise UserError(
            f"table {part.name}: {problem}; 'skyshard catalog verify {self._database}' tells what is wrong"
        )

    async def _save_from(self, worker: int, part: Part, found: Published) -> SavedPart | str:
        """Return the part as it was saved, or what is wrong with this copy."""
        sent, agents = [0], self._cluster.agents
        select, name = found.content.routes[part.table].select, part.stored(found)
        with TextWriter(self._directory / part.path) as file:
            async with aclosing(read_rows(agents, worker, self._database, name, select, sent)) as texts:
                async for text in texts:
                    await asyncio.to_thread(file.write, text)
            checksum = (await checksums(agents, worker, self._database, [name]))[name]
            if sent[0] != part.rows:
                return f"{sent[0]} rows at {agents.name(worker)}, {part.rows} are counted"
            if checksum is None:
                return f"{agents.name(worker)} cannot read it"
            sha = await asyncio.to_thread(file.finish)
            return SavedPart(
                table=part.table,
                chunk=part.chunk,
                overlap=part.overlap,
                rows=part.rows,
                checksum=checksum,
                size=file.size,
                sha256=sha,
            )
