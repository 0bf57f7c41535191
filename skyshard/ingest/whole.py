"""`skyshard ingest CATALOG.yaml`: all steps of a first ingest by one command, which is simply run again if it was killed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import msgspec

from backend.connection import ConnectionLost
from shard.errors import SkyError
from skyshard.catalog.cluster import Cluster, opened, parted
from skyshard.catalog.drop import Drop
from skyshard.cluster.connect import ClusterAddress
from skyshard.errors import UserError
from skyshard.ingest.first import FirstIngest
from skyshard.ingest.order import fingerprint, order_of, owner, parsed, stamped
from skyshard.ingest.registering import first_order
from skyshard.ingest.steps import Steps, went_away
from skyshard.ingest.transactions import find, lock_database, published


class Whole:
    """One run.

    Parameters
    ----------
    steps : Steps
        The steps on the cluster.
    catalog : Path
        The catalogue file.
    replace : bool
        Swap a published database.
    replicas : int or None
        Copies of every chunk; None: as many as the cluster's default.
    batch_bytes : int
        Bytes of a table's files that are loaded at once.
    """

    def __init__(
        self, steps: Steps, catalog: Path, replace: bool, replicas: int | None, batch_bytes: int
    ) -> None:
        self._steps, self._catalog = steps, catalog
        self._replace, self._replicas, self._batch_bytes = replace, replicas, batch_bytes

    async def run(self) -> tuple[str, dict[str, int]]:
        """Do it all; return the database and the rows of its tables.

        Raises
        ------
        UserError
            If something is wrong with the file, the data or the cluster; nothing was published then.
        """
        order = await asyncio.to_thread(order_of, self._catalog, self._batch_bytes)
        async with opened(self._steps.address) as cluster:
            order, what = await first_order(cluster, order, self._replace, self._replicas)
            file, lines = parsed(order)
            now = await asyncio.to_thread(stamped, file, lines, order)
            there, _ = await parted(cluster)
            first = FirstIngest(cluster, file, there)
            await lock_database(cluster.home, file.database)
            mark = fingerprint(order)
            begun = await first.begun(mark, what, now, "running")
            # A run that was killed while it published is finished first; one of other files then replaces it, as it
            # would have if that had been killed earlier.
            finished = await first.staging.recover(begun)
            await Drop(cluster.home, cluster.agents, cluster.workers.values(), file.database).finish()
            if (finished or not self._replace) and await first.published(mark, now) is not None:
                return file.database, await self._rows(cluster, file.database)
            await first.staging.check_closed()
            names = [spec.name for spec in file.tables]
            await first.staging.check_free(self._replace or finished, names)
            if finished:
                what = msgspec.structs.replace(what, replace=True)
            if begun is None:
                detail = msgspec.json.encode(msgspec.structs.replace(order, first=what)).decode()
                begun = await first.open(owner(), detail, mark, what, now, "running")
            await self._load(cluster, first, begun)
            there, _ = await parted(cluster)  # loading may have taken long
            now_there = FirstIngest(cluster, file, there, self._steps.bars.say)
            tables = await now_there.publish(begun, what, lines)
        return file.database, {table.name: table.rows for table in tables}

    async def _load(self, cluster: Cluster, first: FirstIngest, number: int) -> None:
        """Load it; what is wrong ends the ingest, a server that is away does not."""
        try:
            await self._steps.load_in(cluster, await find(cluster.home, number))
        except BaseException as error:
            if not went_away(error) and not cluster.home.lost:
                with suppress(UserError, SkyError, ConnectionLost, ExceptionGroup):
                    await abandon(self._steps.address, cluster, first, number)
            raise

    @staticmethod
    async def _rows(cluster: Cluster, database: str) -> dict[str, int]:
        found = await published(cluster.home, database)
        return {table.name: table.rows for table in found.tables}


async def abandon(address: ClusterAddress, cluster: Cluster, first: FirstIngest, number: int) -> None:
    """Remove what was staged; if this cannot be done now, the next ingest of the database does it."""
    if not cluster.home.busy and not cluster.home.closed:
        await first.abandon(number, "failed")
        return
    # What failed, or Ctrl-C, came amid a statement at home: that connection is of no more use.
    cluster.home.abort()
    async with opened(address) as fresh:
        again = FirstIngest(fresh, first.file, (await parted(fresh))[0])
        await lock_database(fresh.home, first.file.database)
        await again.abandon(number, "failed")
