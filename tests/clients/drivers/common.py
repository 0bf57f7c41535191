"""What the Python drivers share: the script, the settings, and how answers are written.

A driver runs the script with one client and prints a line per step: its name, a tab, what came back as JSON.
The same lines must come from plain MariaDB and from skyshard.
"""

import datetime
import decimal
import json
import os
import resource
import threading
import time
from pathlib import Path

HOST, PORT = os.environ["HOST"], int(os.environ["PORT"])
USER, PASSWORD, DB = os.environ["DBUSER"], os.environ["PASSWORD"], os.environ["DB"]
CA = os.environ.get("CA") or None
MOST_GROWTH_KB = 80 << 10


def script():
    return dict(line.split("\t", 1) for line in Path(os.environ["SCRIPT"]).read_text().splitlines())


SQL = script()


def say(step, value):
    print(step + "\t" + json.dumps(value, default=shown, ensure_ascii=False), flush=True)


def shown(value):
    """Write what JSON lacks with its type."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes " + bytes(value).hex()
    if isinstance(value, decimal.Decimal):
        return f"decimal {value}"
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)):
        return f"{type(value).__name__} {value}"
    if isinstance(value, (set, frozenset)):
        return ["set", *sorted(value)]
    return f"{type(value).__name__} {value}"


def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Streamed:
    """Counts streamed rows; order does not matter."""

    def __init__(self):
        self.rows = self.keys = 0
        self.fluxes = 0.0
        self.before = peak_kb()

    def add(self, row):
        self.rows += 1
        self.keys += row[0]
        self.fluxes += float(row[3] or 0)

    def say(self, step="stream"):
        grown = peak_kb() - self.before
        say(
            step,
            [self.rows, self.keys, f"{self.fluxes:.9g}", grown < MOST_GROWTH_KB or f"grew by {grown} kB"],
        )


def interrupt(cancel, delay=0.3):
    """Call `cancel` in a moment, from another thread; return that thread."""

    def run():
        time.sleep(delay)  # let the statement begin: what is tested is its end
        cancel()

    thread = threading.Thread(target=run)
    thread.start()
    return thread
