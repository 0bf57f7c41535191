"""`skyshard catalog verify`: whether all parts of a published catalogue agree with each other.

Nothing is locked and nothing is changed, but that servers mark tables which they find damaged; queries go on. What is compared, each fault named by table, chunk and worker:

- the metadata with themselves: rows of a table with those of its chunks; copies that are missing or out of use;
- the tables on every worker, and at home, with what the metadata count: missing, too many, other rows;
- every table with itself, by CHECK TABLE, and its copies with each other, by CHECKSUM TABLE, which reads every row;
- the rows of chunks with the grid, overlap tables with the neighbours' rows, the director index with the chunks
  (see places).

A catalogue that changes meanwhile cannot be judged: that is an error, not a fault.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from shard.catalog.model import Kind, Table, Worker, whole_name
from shard.catalog.naming import (
    TEMPLATE_CHUNK,
    chunk_table,
    index_table,
    literal,
    namers,
    overlap_table,
    quote,
    split_chunk_name,
)
from shard.errors import ServerError, SkyError
from skyshard.catalog import published
from skyshard.catalog.cluster import Cluster
from skyshard.catalog.faults import Fault, Report
from skyshard.catalog.places import Places, parts_of_index
from skyshard.catalog.published import Published
from skyshard.errors import UserError
from skyshard.home.guard import holds
from skyshard.replicas.stream import checksums, damaged

AT_ONCE = 2
"""Chunks of one worker that are read at once."""


async def verify(
    cluster: Cluster, database: str, quick: bool = False, say: Callable[[str], None] = lambda _: None
) -> Report:
    """Check a catalogue.

    Parameters
    ----------
    quick : bool
        Compare tables and their numbers of rows alone, without reading rows.
    say : callable
        Takes one line of progress.

    Raises
    ------
    UserError
        If it is not published, or changes meanwhile.
    """
    before = await published.read(cluster.home, database)
    check = _Check(cluster, before, say)
    problem: UserError | None = None
    try:
        await check.run(quick)
    except UserError as error:
        problem = error
    try:
        same = await published.read(cluster.home, database) == before
    except UserError:
        same = False
    if not same:  # whatever went wrong, this is why
        raise UserError(f"database '{database}' has changed while it was being checked; run it again")
    if problem is not None:
        raise problem
    faults = tuple(sorted(check.faults, key=lambda fault: (fault.table, fault.chunk or 0, fault.worker)))
    return Report(
        database=database,
        quick=quick,
        chunks=len(before.holders()),
        tables=check.looked_at,
        workers=len(check.there),
        rows=sum(table.rows for table in before.tables),
        faults=faults,
    )


class _Check:
    """One check; `there` are the workers that answer, `looked_at` the tables that were found on them."""

    def __init__(self, cluster: Cluster, found: Published, say: Callable[[str], None]) -> None:
        self._cluster, self._found, self._say = cluster, found, say
        self.faults: list[Fault] = []
        self.there: dict[int, Worker] = {}
        self.looked_at = 0
        self._readable: dict[int, dict[str, bool]] = {}  # worker → tables → whether rows are as counted
        self._rows = found.rows()
        self._places: dict[str, tuple[str, int | None]] = {}  # tables on workers → logical table and chunk

    def _fault(
        self, kind: str, text: str, table: str = "", chunk: int | None = None, worker: int | str = ""
    ) -> None:
        name = self._cluster.workers[worker].name if isinstance(worker, int) else worker
        self.faults.append(Fault(kind=kind, table=table, chunk=chunk, worker=name, text=text))

    async def run(self, quick: bool) -> None:
        """Do all of it."""
        self._metadata()
        await self._workers()
        await self._home()
        if quick:
            return
        await self._checksums()
        places = Places(self._cluster, self._found, self._readable, self._fault, self._say)
        await places.run()

    # what the metadata say ---------------------------------------------------------------------------

    def _metadata(self) -> None:
        found = self._found
        sums: Counter[str] = Counter()
        for (name, _), (rows, _) in self._rows.items():
            sums[name] += rows
        for table in found.tables:
            # A match table's rows stand in both partners' chunks; who owns them is seen in the rows.
            right = sums[table.name] == table.rows or table.kind is Kind.MATCH
            if table.is_sharded and not right:
                text = f"the metadata count {table.rows} rows, and {sums[table.name]} in its chunks"
                self._fault("metadata", text, table.name)
        holders, active = found.holders(), self._cluster.workers
        for chunk in sorted({chunk for _, chunk in self._rows} - set(holders)):
            self._fault("metadata", "its rows are counted, and no worker has it", chunk=chunk)
        fit = sum(worker.state == "active" for worker in active.values())
        for chunk, workers in sorted(holders.items()):
            good = [worker for worker in workers if worker in active and active[worker].state == "active"]
            if len(good) < min(found.replicas, fit):
                text = (
                    f"{len(good)} of {found.replicas} copies are in use ('skyshard repair' makes the others)"
                )
                self._fault("copies", text, chunk=chunk)
        for (chunk, worker), state in sorted(found.copies.items()):
            if state == "stale":
                name = active[worker].name if worker in active else f"worker {worker}"
                self._fault("copies", "this copy was found damaged and is not used", chunk=chunk, worker=name)

    # the tables that there are -----------------------------------------------------------------------

    async def _workers(self) -> None:
        numbers = list(self._cluster.workers)
        answers = await asyncio.gather(*(self._listed(number) for number in numbers), return_exceptions=True)
        for number, answer in zip(numbers, answers, strict=True):
            if isinstance(answer, SkyError):
                self._fault(
                    "worker", f"it does not answer, its tables are not known: {answer}", worker=number
                )
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self.there[number] = self._cluster.workers[number]
                self._tables(number, answer)

    async def _listed(self, worker: int) -> dict[str, int | None]:
        """Return table → rows of a worker; None for one that cannot be opened."""
        rows = await self._cluster.agents.admin(
            worker,
            [
                "SELECT TABLE_NAME, CAST(TABLE_ROWS AS CHAR) FROM information_schema.TABLES "
                f"WHERE TABLE_SCHEMA = {literal(self._found.name)}"
            ],
        )
        return {name or "": None if count is None else int(count) for name, count in rows}

    def _expected(self, worker: int) -> tuple[dict[str, tuple[str, int | None, int]], set[str]]:
        """Return the tables that a worker must have, and those that it may have besides.

        The first are name → (table, chunk, rows).
        """
        must: dict[str, tuple[str, int | None, int]] = {}
        for table in self._found.tables:
            if not table.is_sharded:
                (first, *_) = self._found.content.whole_items(table)
                must[table.name] = table.name, None, first.rows
                must[table.stored] = table.name, None, table.rows
                continue
            must[chunk_table(table.name, TEMPLATE_CHUNK)] = table.name, None, 0
            if table.kind is Kind.DIRECTOR:
                must[overlap_table(table.name, TEMPLATE_CHUNK)] = table.name, None, 0
        mine = {chunk: state for (chunk, holder), state in self._found.copies.items() if holder == worker}
        if not mine:  # it has come after the ingest: the first chunk will bring what it needs
            return {}, set(must)
        may = {  # an undo goes back to these
            whole_name(name, self._found.commits[number])
            for number, names in self._found.content.whole.items()
            for name in names
        }
        for chunk, state in mine.items():
            may |= set(self._earlier(chunk))
            tables = {name: (self._logical(name, chunk), chunk, rows) for name, rows in self._chunk(chunk)}
            if state == "ok":
                must |= tables
            else:
                may |= set(tables)
        return must, may

    def _chunk(self, chunk: int) -> Iterator[tuple[str, int]]:
        """Yield the tables of a chunk in the database's name, and their rows; unions have those of transactions, too."""
        content = self._found.content
        yield from (
            (item.name, item.rows) for item in content.items(chunk) if item.database == content.database
        )
        yield from ((name, rows) for name, (rows, _) in content.unions(chunk).items())

    def _logical(self, name: str, chunk: int) -> str:
        """Return which table a table of a chunk belongs to."""
        return next(
            table.name
            for table in self._found.tables
            for namer in (namers(table) if table.is_sharded else ())
            if name in (namer(table.name, chunk), self._found.stored(namer, table.name, chunk))
        )

    def _earlier(self, chunk: int) -> Iterator[str]:
        """Yield what a chunk was before its last commit, to which an undo goes back."""
        for number, counted in self._found.content.added.items():
            if any(of == chunk for _, of in counted):
                for table in self._found.tables:
                    for namer in namers(table) if table.is_sharded else ():
                        yield namer(table.name, chunk, self._found.commits[number])

    def _whole(self, chunk: int) -> list[str]:
        """Return the tables that together have a chunk's visible rows, each once."""
        unions = list(self._found.content.unions(chunk))
        return unions or [item.name for item in self._found.content.items(chunk)]

    def _tables(self, worker: int, stored: dict[str, int | None]) -> None:
        must, may = self._expected(worker)
        good: dict[str, bool] = {}
        self._readable[worker] = good
        for name, (table, chunk, rows) in must.items():
            if name not in stored:
                self._fault("missing", f"table {name} is missing", table, chunk, worker)
                continue
            self.looked_at += 1
            have = stored[name]
            if have is None:
                self._fault("damaged", f"table {name} cannot be opened", table, chunk, worker)
                continue
            good[name] = have == rows
            if have != rows:
                self._fault("rows", f"table {name} has {have} rows, {rows} are counted", table, chunk, worker)
        for name in sorted(set(stored) - set(must) - may):
            parts = split_chunk_name(name)
            if parts and (earlier := split_chunk_name(parts[0])):  # Star_6630_17
                parts = earlier
            self._fault(
                "extra",
                f"table {name} belongs to nothing",
                parts[0] if parts else name,
                parts[2] if parts else None,
                worker,
            )

    async def _home(self) -> None:
        home, found = self._cluster.home, self._found
        for table in found.tables:
            where = f"{quote(found.name)}.{quote(table.name)}"
            if table.is_sharded:
                if not await holds(home, found.name, table.name):
                    text = "its table at home is missing or can be read ('skyshard home init' mends that)"
                    self._fault("home", text, table.name, worker="home")
                if table.kind is Kind.DIRECTOR:
                    name = index_table(found.name, table.name)
                    parts = await parts_of_index(home, found, table.name)
                    await self._count(table, "index", f"director index {name}", parts)
            else:
                await self._count(table, "rows", f"table {table.name}", [where])

    async def _count(self, table: Table, kind: str, what: str, parts: list[str]) -> None:
        """Compare the rows of a replicated table at home, or of a director's index."""
        have = 0
        try:
            for part in parts:
                have += int((await self._cluster.home.fetch(f"SELECT COUNT(*) FROM {part}"))[0][0] or b"0")
        except ServerError as error:
            self._fault("home", f"{what} cannot be read: {error.message}", table.name, worker="home")
            return
        if have != table.rows:
            text = f"{what} has {have} rows, {table.rows} are counted"
            self._fault(kind, text, table.name, worker="home")

    # the copies --------------------------------------------------------------------------------------

    async def _checksums(self) -> None:
        """Read every table, and compare its copies."""
        sums: dict[str, dict[int, str | None]] = defaultdict(dict)
        whole = [table.stored for table in self._found.tables if not table.is_sharded]
        self._places |= {table.stored: (table.name, None) for table in self._found.tables if table.state}
        wanted: dict[int, list[list[str]]] = {worker: [whole] for worker in self.there}
        for chunk, workers in self._found.holders().items():
            names = self._whole(chunk)
            self._places |= {name: (self._logical(name, chunk), chunk) for name in names}
            for worker in workers:
                wanted.get(worker, []).append(names)

        async def some(worker: int, shared: Iterator[list[str]]) -> None:
            for names in shared:
                good = [name for name in names if self._readable[worker].get(name)]
                if good:
                    spoilt = await self._damaged(worker, good)
                    for name, value in (await self._sums(worker, good)).items():
                        sums[name][worker] = None if name in spoilt else value
                self._say(f"checksums of {len(sums):,} tables")

        async with asyncio.TaskGroup() as group:
            for worker, listed in wanted.items():
                shared = iter(listed)
                for _ in range(AT_ONCE):
                    group.create_task(some(worker, shared))
        for name, found in sorted(sums.items()):
            self._compare(name, found)
        for table in self._found.tables:
            if not table.is_sharded and sums.get(table.stored):
                await self._compare_home(table, sums[table.stored].values())

    async def _sums(self, worker: int, names: list[str]) -> dict[str, str | None]:
        try:
            found = await checksums(self._cluster.agents, worker, self._found.name, names)
            if all(value is None for value in found.values()) and len(names) > 1:  # one of them is at fault
                for name in names:
                    found |= await checksums(self._cluster.agents, worker, self._found.name, [name])
        except SkyError as error:
            raise UserError(f"{error}: what it holds cannot be checked; run it again") from error
        return found

    async def _damaged(self, worker: int, names: list[str]) -> set[str]:
        """Return those of a chunk's tables that are damaged, unions with a damaged part among them; CHECKSUM reads no index."""
        content, chunk = self._found.content, self._places.get(names[0], ("", None))[1]
        parts = {f"{content.database}.{name}": f"{quote(content.database)}.{quote(name)}" for name in names}
        unions: Mapping[str, tuple[int, str]] = {}
        if chunk is not None:
            unions = content.unions(chunk)
            parts = {f"{item.database}.{item.name}": item.place for item in content.items(chunk)}
        try:
            bad = await damaged(self._cluster.agents, worker, list(parts.values()))
        except SkyError as error:
            raise UserError(f"{error}: what it holds cannot be checked; run it again") from error
        return {
            name
            for name in names
            if f"{content.database}.{name}" in bad
            or any(parts[one] in unions.get(name, (0, ""))[1] for one in bad & parts.keys())
        }

    def _compare(self, name: str, found: dict[int, str | None]) -> None:
        table, chunk = self._places.get(name, (name, None))
        for worker, value in found.items():
            if value is None:
                del self._readable[worker][name]
                self._fault("damaged", f"table {name} is damaged or cannot be read", table, chunk, worker)
        counted = Counter(value for value in found.values() if value is not None)
        if len(counted) < 2:
            return
        best, votes = counted.most_common(1)[0]
        if votes * 2 > sum(counted.values()):
            for worker, value in found.items():
                if value not in (None, best):
                    text = f"table {name} has other rows than the {votes} other copies"
                    self._fault("checksum", text, table, chunk, worker)
            return
        names = ", ".join(
            self._cluster.workers[worker].name for worker, value in sorted(found.items()) if value
        )
        self._fault("checksum", f"the copies of table {name} have different rows", table, chunk, names)

    async def _compare_home(self, table: Table, sums: Iterable[str | None]) -> None:
        name = f"{quote(self._found.name)}.{quote(table.name)}"
        try:
            rows = await self._cluster.home.fetch(f"CHECKSUM TABLE {name} EXTENDED")
        except ServerError:
            return  # told already
        if rows[0][1] is not None and rows[0][1].decode() not in sums:
            text = f"table {table.name} has other rows than on the workers"
            self._fault("checksum", text, table.name, worker="home")
