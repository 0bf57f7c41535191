"""Column definitions as clients want them, and what scanners make of MariaDB's own additions to replies."""

import pytest

from proxy.session.columns import dressed
from shard.wire.packets import ColumnDefinition, Eof, Ok, packet
from shard.wire.replies import (
    ColumnsEvent,
    EndEvent,
    OkEvent,
    ProgressEvent,
    ReplyKind,
    ReplyScanner,
    RowsEvent,
)
from tests.support.rawclient import RawClient


def definition(name, charset, kind=253):
    return ColumnDefinition(b"def", b"db", b"t", b"t", name, name, charset, 10, kind, 0, 0).encode()


def extended(plain, more):
    return plain[:-13] + bytes((len(more),)) + more + plain[-13:]


def test_collations_come_from_the_session():
    ours, like = (
        [definition(b"a", 45), definition(b"n", 63, 8)],
        [definition(b"x", 224), definition(b"y", 224)],
    )
    assert dressed(ours, like, False) == [definition(b"a", 224), definition(b"n", 63, 8)]
    assert dressed(ours, like[:1], False) == ours
    assert dressed(ours, (), False) == ours


def test_extended_metadata_is_there_only_for_those_who_read_it():
    plain, json = definition(b"j", 45), extended(definition(b"j", 45), b"\x00\x04json")
    assert dressed([plain], [json], True) == [json]
    assert dressed([plain], [json], False) == [plain]
    assert dressed([json], (), False) == [plain]
    assert dressed([json], (), True) == [json]
    assert dressed([plain], (), True) == [extended(plain, b"")]
    assert ColumnDefinition.decode(json) == ColumnDefinition.decode(plain)


def test_progress_reports_do_not_end_a_reply():
    report = packet(b"\xff\xff\xff\x01\x01\x02\x10\x00\x00\x04copy", 1)
    scanner = ReplyScanner(ReplyKind.QUERY, True)
    assert scanner.feed(report) == [ProgressEvent()]
    assert not scanner.done
    assert [type(event) for event in scanner.feed(packet(Ok().encode(), 2))] == [OkEvent]
    assert scanner.done
    among = ReplyScanner(ReplyKind.QUERY, False)
    data = packet(b"\x01", 1) + packet(definition(b"a", 45), 2) + packet(Eof(0, 2).encode(), 3)
    data += packet(b"\x01x", 4) + report + packet(b"\x01y", 6) + packet(Eof(0, 2).encode(), 7)
    kinds = [type(event) for event in among.feed(data)]
    assert kinds == [ColumnsEvent, RowsEvent, ProgressEvent, RowsEvent, EndEvent]


def test_prepare_tells_the_columns():
    scanner = ReplyScanner(ReplyKind.PREPARE, False)
    head = b"\0" + (7).to_bytes(4, "little") + b"\x02\0\x01\0\0\0\0"
    columns = [definition(b"a", 45), definition(b"b", 63)]
    eof = Eof(0, 2).encode()
    parts = [head, definition(b"?", 63), eof, *columns, eof]
    events = scanner.feed(b"".join(packet(part, number + 1) for number, part in enumerate(parts)))
    assert events[-1] == ColumnsEvent(tuple(columns))
    assert scanner.done


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1"])
def test_an_item_under_two_names_has_both(cluster, charset):
    """Over empty tables, from which definitions come, MariaDB gives both of them one name."""
    sql = (
        "SELECT t.a AS été, t.a AS two, COALESCE(SUM(DISTINCT t.a), 0) FROM (SELECT w.m - NULL AS a FROM (SELECT MAX(s.d) OVER () AS m "
        "FROM lab.Star s JOIN lab.StarRef r ON s.starId = r.starId) w WHERE NOT EXISTS (SELECT 1 FROM lab.Ref)) t GROUP BY t.a"
    )
    codec = {"utf8mb4": "utf-8", "latin1": "latin-1"}[charset]
    with RawClient(cluster.port) as client:
        client.connect()
        client.query(f"SET NAMES {charset}")
        found = client.query(sql.encode(codec)).columns
    assert [ColumnDefinition.decode(column).name for column in found[:2]] == ["été".encode(codec), b"two"]
