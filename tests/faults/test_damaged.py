"""Tables whose files were cut or spoilt, as a failing disk leaves them: queries go elsewhere, the check names them, a repair copies them."""

import os
from pathlib import Path

from skyshard.catalog.cluster import opened
from skyshard.catalog.verify import verify
from skyshard.cluster.connect import from_dir
from skyshard.replicas.repair import Repairer
from tests.faults.test_repair import tables
from tests.support.agents import until

UNREADABLE = (
    "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab' AND TABLE_ROWS IS NULL "
    "AND TABLE_NAME REGEXP '_[0-9]+$'"
)
ALL = "SELECT starId, ra, name FROM Star", "SELECT visitId, n FROM Visit"


async def files(field, names, end):
    """Return files of worker 1's tables, which its server has closed."""
    ((data,),) = await field.worker(1, "SELECT @@datadir")
    await field.worker(1, f"FLUSH TABLES {', '.join(f'lab.`{name}`' for name in names)}")
    return [Path(data.decode()) / "lab" / f"{name}.{end}" for name in names]


async def cut(field, names, end, size):
    """Cut files of worker 1's tables."""
    for file in await files(field, names, end):
        assert file.stat().st_size > size
        os.truncate(file, size)


async def zero(field, names):
    """Let the rows of worker 1's tables be zeros, as blocks that were never written."""
    for file in await files(field, names, "MYD"):
        size = file.stat().st_size
        os.truncate(file, 0)
        os.truncate(file, size)


async def test_damaged_tables_are_read_elsewhere_found_and_copied_anew(field):
    names = [name for name in await tables(field, 1) if name.startswith(("Star_", "Visit_"))]
    rows, keys, spoilt = names[::12], names[4::12], names[8::12]
    assert min(len(rows), len(keys), len(spoilt)) > 1
    await cut(field, rows, "MYD", 10)
    await cut(field, keys, "MYI", 1500)
    for sql in ALL:
        await field.compare(sql)

    async def marked():
        return await field.worker(1, UNREADABLE)

    await zero(field, spoilt)  # no statement notices that in rows of fixed length
    await until(marked, 10, pause=0.05)  # the agent has looked at what failed: now who counts rows finds it
    async with opened(from_dir(field.cluster.directory)) as cluster:
        told = {
            (one.kind, f"{one.table}_{one.chunk}", one.worker)
            for one in (await verify(cluster, "lab")).faults
        }
        assert {("damaged", name, "worker1") for name in (*rows, *keys, *spoilt)} <= told
        assert {name for _, name, _ in told} == {*rows, *keys, *spoilt}
        unreadable = {name.decode() for (name,) in await field.worker(1, UNREADABLE)}
        assert unreadable == {
            *rows,
            *keys,
            *spoilt,
        }  # the server mends nothing on its own: a row might be lost
        outcome = await Repairer(cluster).run("lab")
        assert (
            outcome.damaged
            == outcome.copied
            == len({name.rpartition("_")[2] for name in (*rows, *keys, *spoilt)})
        )
        assert (outcome.failed, outcome.lost) == ([], ())
        assert (await verify(cluster, "lab", quick=True)).faults == ()
