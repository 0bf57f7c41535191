"""Pieces of files that several processes partition: the same rows, errors that cross, and no process left over."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from skyshard.ingest import delimited, processes
from skyshard.ingest.files import Piece
from skyshard.ingest.partition import Partitioner, Parts
from tests.skyshard.conftest import Lab, Rows, Writer
from tests.skyshard.held import Held, home_of

TABLES = """
- {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [star.csv],
   columns: {id: VARCHAR(16), ra: DOUBLE, decl: DOUBLE, mag: FLOAT}}
- {name: Ref, kind: director, key: ref, longitude: ra, latitude: decl, files: [ref.csv],
   columns: {ref: BIGINT, ra: DOUBLE, decl: DOUBLE}}
- {name: Visit, kind: dependent, director: Star, director_key: id, files: [visit.csv],
   columns: {id: VARCHAR(16), flux: DOUBLE}}
- {name: Pair, kind: match, directors: [{table: Star, foreign_key: id}, {table: Ref, foreign_key: ref}],
   files: [pair.csv], columns: {id: VARCHAR(16), ref: BIGINT}}
- {name: Band, kind: replicated, files: [band.csv], columns: {band: CHAR(1)}}
"""
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
from skyshard.cli import main
from skyshard.ingest import delimited, processes
processes.WORTHWHILE_BYTES, delimited.BLOCK_BYTES = 0, 4000
main()
"""


def written(stars: int, wrong: str | None = None) -> dict[str, str]:
    """Return the files of a catalogue; `wrong` is the magnitude of the last star but one."""
    places = [(n * 0.77 % 35, n * 0.33 % 25) for n in range(stars)]
    star = [f"s{n},{ra:.6f},{decl:.6f},{n % 20}.5" for n, (ra, decl) in enumerate(places)]
    if wrong is not None:
        star[-2] = star[-2].rpartition(",")[0] + "," + wrong
    ref = [f"{n},{ra + 0.4:.6f},{decl:.6f}" for n, (ra, decl) in enumerate(places)]
    return {
        "star.csv": "\n".join(["id,ra,decl,mag", *star]) + "\n",
        "ref.csv": "\n".join(["ref,ra,decl", *ref]) + "\n",
        "visit.csv": "\n".join(["id,flux", *(f"s{n * 13 % stars},{n}.25" for n in range(2 * stars))]) + "\n",
        "pair.csv": "\n".join(["id,ref", *(f"s{n},{n}" for n in range(stars))]) + "\n",
        "band.csv": "band\nu\ng\nr\n",
    }


class Watch:
    """What was partitioned by which process, and processes to kill before a piece."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pids: set[int] = set()
        self.pieces: dict[str, set[str]] = {}
        self.kill_before = 0
        self._begun = 0
        start, partition = processes.Processes.start, processes.Processes.partition

        def started(owner: processes.Processes) -> None:
            start(owner)
            self.pids |= set(owner.pids)

        def partitioned(
            owner: processes.Processes, partitioner: Partitioner, piece: Piece, directory: Path
        ) -> Parts:
            self._begun += 1
            if self._begun == self.kill_before:
                os.kill(owner.pids[0], signal.SIGKILL)
            parts = partition(owner, partitioner, piece, directory)
            texts = {text.path for text, _ in parts.main.values()}  # type: ignore[union-attr]
            self.pieces.setdefault(piece.file.path.name, set()).update(texts)
            return parts

        monkeypatch.setattr(processes.Processes, "start", started)
        monkeypatch.setattr(processes.Processes, "partition", partitioned)

    def all_ended(self) -> bool:
        return not any(psutil.pid_exists(pid) for pid in self.pids) and not multiprocessing.active_children()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(processes, "WORTHWHILE_BYTES", 0)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 4000)
    return Watch(monkeypatch)


def stored(lab: Lab, name: str) -> list[Rows]:
    """Return the rows of every table and how they are spread."""
    return [
        *(lab.ask(f"SELECT *, chunkId, subChunkId FROM {table} ORDER BY 1, 2", name)
          for table in ("Star", "Ref", "Visit", "Pair")),
        lab.ask("SELECT * FROM Band ORDER BY 1", name),
        lab.workers("SELECT TABLE_NAME, TABLE_ROWS FROM information_schema.TABLES "
                    f"WHERE TABLE_SCHEMA = '{name}' ORDER BY 1"),
        lab.home(f"SELECT * FROM skyshard_index.{name}__Star ORDER BY 1"),
    ]  # fmt: skip


def test_processes_store_what_one_process_stores(lab: Lab, write: Writer, watch: Watch) -> None:
    lab.publish(write("alone", TABLES, written(900)), "--processes", "1")
    assert not watch.pids
    lab.publish(write("several", TABLES, written(900)), "--processes", "3")
    assert len(watch.pids) == 3
    assert os.getpid() not in watch.pids
    assert watch.all_ended()
    # Every piece but the small tables' single ones was one of several, and each has a file of its own.
    assert {name: len(found) > 1 for name, found in watch.pieces.items()} == {
        "star.csv": True, "ref.csv": True, "visit.csv": True, "pair.csv": True, "band.csv": False,
    }  # fmt: skip
    alone, several = stored(lab, "alone"), stored(lab, "several")
    assert len(alone[0]) == 900
    assert alone == several


def test_a_bad_row_is_named_across_processes(lab: Lab, write: Writer, watch: Watch) -> None:
    catalog = write("badrow", TABLES, written(900, wrong="bright"))
    done = lab.ingest(catalog, "--processes", "2")
    assert done.exit_code == 1
    assert (
        f"{write.directory / 'star.csv'}:900: table 'Star': column 'mag': 'bright' is no value of FLOAT"
        in (done.output)
    )
    assert watch.pids
    assert watch.all_ended()
    assert lab.traces("badrow") == []


def test_a_row_that_a_worker_refuses_is_found_again(lab: Lab, write: Writer, watch: Watch) -> None:
    tables = """
    - {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [star.csv],
       columns: {id: VARCHAR(16), ra: DOUBLE, decl: DOUBLE, mag: "ENUM('1','2')"}}
    """
    star = "".join(f"s{n},{n % 35},{n % 25},{3 if n == 700 else 1}\n" for n in range(900))
    done = lab.ingest(write("refused", tables, {"star.csv": "id,ra,decl,mag\n" + star}), "--processes", "2")
    assert done.exit_code == 1
    assert "star.csv:702: table 'Star': column 'mag': '3' is no value of" in done.output
    assert watch.all_ended()
    assert lab.traces("refused") == []


@pytest.mark.parametrize("piece", [1, 4])
def test_a_killed_process_ends_the_ingest(lab: Lab, write: Writer, watch: Watch, piece: int) -> None:
    """Whoever waits for it, or comes to it later, hears of it; nothing is seen, and it can be run again."""
    watch.kill_before = piece
    catalog = write(f"childless{piece}", TABLES, written(900))
    done = lab.ingest(catalog, "--processes", "2")
    assert done.exit_code == 1
    assert "a process that partitions has ended: signal 9" in done.output
    assert watch.all_ended()
    assert lab.traces(f"childless{piece}") == []
    watch.kill_before = 0
    lab.publish(catalog, "--processes", "2")
    assert lab.ask("SELECT COUNT(*) FROM Star", f"childless{piece}") == [("900",)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_owner(lab: Lab, write: Writer, how: signal.Signals) -> None:
    name = f"owner{how}"
    catalog = write(name, TABLES, written(6000))
    command = [sys.executable, "-c", START, "ingest", str(catalog), "--dir", str(lab.directory),
               "--processes", "2"]  # fmt: skip
    held = Held(
        home_of(lab), "LOCK TABLES skyshard_meta.chunk_rows READ"
    )  # it may not end before it is ended
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        children = asyncio.run(_until_busy(psutil.Process(process.pid)))
        if how is signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does: to all
        else:
            process.send_signal(how)
        held.close()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "Traceback" not in output
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert len(gone) >= 2
    lab.publish(catalog)
    assert lab.ask("SELECT COUNT(*) FROM Star", name) == [("6000",)]
    assert lab.traces("none") == []


async def _until_busy(owner: psutil.Process) -> list[psutil.Process]:
    """Return an ingest's processes once two of them have a file of rows before them or behind them."""
    async with asyncio.timeout(60):
        while True:
            children = owner.children()
            serving = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            if len(serving) == 2 and all(child.cpu_times().user > 0.1 for child in serving):
                return children
            await asyncio.sleep(0.02)
