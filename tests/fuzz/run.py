"""Runs generated queries on a real cluster and on one plain MariaDB, and cuts failing ones down.

``python -m tests.fuzz.run --count 2000 --seed 7`` starts both servers itself; ``--only I`` repeats one
query. Exit status 1: some answers differ, are internal errors, or refusals (1235) that docs/sql.md does not list. The others are
counted by text.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time

from backend.address import Address
from tests.fuzz.runner import LANES, Outcome, Runner
from tests.fuzz.servers import servers


async def _run(addresses: tuple[Address, Address], options: argparse.Namespace) -> int:
    outcome = Outcome()
    started = time.monotonic()
    first = options.first if options.only is None else options.only
    count = options.count if options.only is None else 1
    async with Runner(*addresses, options.lanes) as runner:
        await runner.run(options.seed, range(first, first + count), outcome, cut=not options.uncut)
    print(outcome.summary(options.seed, time.monotonic() - started))
    return 1 if outcome.failures else 0


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="index of the first query")
    parser.add_argument("--only", type=int, help="run this index alone")
    parser.add_argument("--lanes", type=int, default=LANES, help="queries that are asked at once")
    parser.add_argument("--uncut", action="store_true", help="do not cut failing queries down")
    parser.add_argument("--sky", help="port of a running cluster with the handmade catalogue")
    parser.add_argument("--plain", help="socket of its plain twin")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped then, too
    if options.sky:
        pair = (
            Address("root", "", host="127.0.0.1", port=int(options.sky)),
            Address("root", "", socket=options.plain),
        )
        return asyncio.run(_run(pair, options))
    with servers() as addresses:
        return asyncio.run(_run(addresses, options))


if __name__ == "__main__":
    sys.exit(main())
