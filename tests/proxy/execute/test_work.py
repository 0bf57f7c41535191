"""What each worker is asked of a query, and what its messages may say."""

import msgspec
import pytest

from proxy.execute import work as module
from proxy.execute.work import Work, chunk_tables
from shard.wire import frames

JOB = frames.Job(query_id=1, database="d", main=frames.Template((b"SELECT 1 FROM `Object_", b"`")), chunks=[])


def test_a_worker_gets_the_keys_and_rows_of_its_chunks():
    tables = tuple(frames.Shipped(b"create", b"load", data) for data in (b"all\n", b""))
    job = msgspec.structs.replace(JOB, shipped=tables)
    work = Work(
        1, job, {}, keys={3: b"30", 4: b"40, 41", 5: b"50"}, lines=(None, {3: b"x\t3\n", 4: b"y\t4\nz\t4\n"})
    )
    some, other = work.share([4, 5]), work.share([3])
    assert some.keys == {4: b"40, 41", 5: b"50"}
    assert [table.data for table in some.shipped] == [b"all\n", b"y\t4\nz\t4\n"]
    assert other.keys == {3: b"30"}
    assert [table.data for table in other.shipped] == [b"all\n", b"x\t3\n"]
    with pytest.raises(KeyError):  # a chunk without keys must not be asked
        work.share([6])


def test_only_names_of_chunk_tables_are_taken_out_of_messages():
    template = frames.Template(
        (b"SELECT 1 FROM `d`.`Ob-ject_", b"`, `skyshard_scratch`.`NearFullOverlap_", b"` WHERE c = ", b"")
    )
    pattern = chunk_tables(msgspec.structs.replace(JOB, main=template))
    message = "'`d`.`Ob-ject_33`.`flux_2`', 'seen_12', NearFullOverlap_7_19.x, Near_7_2, Near_united"
    assert pattern.sub(r"\g<table>", message) == "'`d`.`Ob-ject`.`flux_2`', 'seen_12', Near.x, Near, Near"
    bare = msgspec.structs.replace(JOB, main=frames.Template((b"SELECT 1",)))
    assert chunk_tables(bare) is None


@pytest.mark.parametrize(
    ("piece", "name"),
    [
        (b"SELECT * FROM `hip`.`Object_", "Object"),
        (b"SELECT '`' FROM `hip`.`O``b_", "O`b"),
        (b"`Object_", "Object"),
        (b"SELECT a_", ""),
        (b"SELECT * FROM `hip`.`Object", ""),
        (b"", ""),
    ],
)
def test_the_table_of_a_piece_is_found(piece, name):
    assert module._table_before(piece) == name
