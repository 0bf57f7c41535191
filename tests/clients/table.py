"""The table of results for docs/clients.md.

`python -m tests.clients.table` writes the last run's results into the page.
"""

import json
import os
import re
from pathlib import Path

RESULTS: dict[str, dict] = {}
PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
MODES = {"open": "no TLS, no password", "password": "no TLS, password", "tls": "TLS, password"}
START, END = "<!-- results -->", "<!-- end of results -->"


def entry_of(client):
    return RESULTS.setdefault(client, {"equal": 0, "steps": 0, "modes": [], "seconds": 0.0, "explained": {}})


def note(client, mode, plain, ours, explained, seconds):
    entry = entry_of(client)
    entry["modes"].append(mode)
    entry["steps"] += len(plain)
    entry["equal"] += sum(ours.get(step) == value for step, value in plain.items())
    entry["seconds"] = round(entry["seconds"] + seconds, 1)
    entry["explained"] |= {step: why for step, why in explained.items() if plain.get(step) != ours.get(step)}


def note_peaks(client, plain, ours):
    """Note the most memory of a client with either server, in KiB."""
    entry = entry_of(client)
    before = entry.get("peaks", (0, 0))
    entry["peaks"] = max(before[0], plain), max(before[1], ours)


def note_missing(client, why):
    RESULTS[client] = {"missing": why}


def note_tests(client, what):
    """Note a check that is not a comparison of steps."""
    entry = entry_of(client)
    if what not in entry.setdefault("checks", []):
        entry["checks"].append(what)


def render(results):
    if not results:
        return []
    lines = [
        "| client | run with | answers equal to plain MariaDB's | most memory of the client, MiB: plain, skyshard | also checked |",
        "|---|---|---|---|---|",
    ]
    for client, entry in sorted(results.items(), key=lambda item: item[0].lower()):
        if "missing" in entry:
            lines.append(f"| {client} | not installed: {entry['missing']} | | | |")
            continue
        modes = "; ".join(MODES[mode] for mode in entry["modes"])
        peaks = ", ".join(f"{peak / 1024:.0f}" for peak in entry.get("peaks", ()))
        checks = ", ".join(entry.get("checks", []))
        equal = f"{entry['equal']} of {entry['steps']}" if entry["steps"] else ""
        lines.append(f"| {client} | {modes} | {equal} | {peaks} | {checks} |")
    reasons = {}
    for client, entry in sorted(results.items(), key=lambda item: item[0].lower()):
        for step, why in entry.get("explained", {}).items():
            reasons.setdefault(why, []).append(f"{client} ({step.removesuffix(' --batch')})")
    differences = [f"- {why}: {', '.join(where)}" for why, where in reasons.items()]
    return lines + (["", "Differences:", "", *differences] if differences else [])


def main():
    clients = Path(os.environ.get("SKYSHARD_CLIENTS", PAGE.parents[1] / ".clients"))
    results = json.loads((clients / "results.json").read_text())
    text = PAGE.read_text()
    table = "\n".join([START, *render(results), END])
    PAGE.write_text(re.sub(re.escape(START) + ".*?" + re.escape(END), lambda _: table, text, flags=re.S))


if __name__ == "__main__":
    main()
