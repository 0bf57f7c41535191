"""What could not be installed is named in the table of results."""

from tests.clients import table
from tests.clients.conftest import CLIENTS, NEVER_SKIPPED


def test_what_is_missing_is_named():
    listed = dict(line.split(": ", 1) for line in (CLIENTS / "missing").read_text().splitlines())
    for client, why in listed.items():
        table.note_missing(client, why)
    assert not set(listed) & set(NEVER_SKIPPED), listed
