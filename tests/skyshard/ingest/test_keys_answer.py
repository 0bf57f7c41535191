"""Keys that stand in several chunks, or are NULL, or are equal to a collation alone: groups and joins stay whole."""

from __future__ import annotations

import pytest

from tests.skyshard.conftest import Lab, Writer

STAR = "{name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [star.csv], "
VISIT = "{name: Visit, kind: dependent, director: Star, director_key: id, files: [visit.csv], "
PAIR = (
    "{name: Pair, kind: match, directors: [{table: Star, foreign_key: id}, {table: Ref, foreign_key: ref}], "
    "files: [pair.csv], columns: {id: BIGINT, ref: BIGINT}}"
)
REF = STAR.replace("Star", "Ref").replace("star.csv", "ref.csv").replace("key: id", "key: ref")


def answers(lab: Lab, database: str, table: str, key: str) -> list[list[tuple[str | None, ...]]]:
    return [
        lab.ask(sql.format(t=table, k=key), database)
        for sql in (
            "SELECT {k}, COUNT(*) FROM {t} GROUP BY {k} ORDER BY {k}",
            "SELECT DISTINCT {k} FROM {t} ORDER BY {k}",
            "SELECT COUNT(*) FROM (SELECT {k} FROM {t} GROUP BY {k}) g",
            "SELECT COUNT(*) FROM (SELECT DISTINCT {k} FROM {t}) d",
            "SELECT COUNT(*) FROM (SELECT {k} FROM {t} UNION SELECT {k} FROM {t}) u",
            "SELECT MAX(n) FROM (SELECT COUNT(*) OVER (PARTITION BY {k}) n FROM {t}) w",
        )
    ]


def expected(groups: dict[str | None, int]) -> list[list[tuple[str | None, ...]]]:
    keys = sorted(groups, key=lambda key: (key is not None, key or ""))
    size = [(str(len(keys)),)]
    rows = [(key, str(groups[key])) for key in keys]
    return [rows, [(key,) for key in keys], size, size, size, [(str(max(groups.values())),)]]


def test_null_keys_are_one_group(lab: Lab, write: Writer) -> None:
    tables = (
        f"- {STAR} columns: {{id: BIGINT, ra: DOUBLE, decl: DOUBLE}}}}\n"
        f"- {VISIT} longitude: ra, latitude: decl, columns: {{id: BIGINT, ra: DOUBLE, decl: DOUBLE}}}}"
    )
    places = ["10,10", "100,50", "200,-50"]
    visits = [f"{n},{place}" for n, place in enumerate(places)] + [f"\\N,{place}" for place in places]
    stars = [f"{n},{place}" for n, place in enumerate(places)]
    files = {
        "star.csv": "\n".join(["id,ra,decl", *stars]) + "\n",
        "visit.csv": "\n".join(["id,ra,decl", *visits]) + "\n",
    }
    lab.publish(write("nulls", tables, files))
    assert answers(lab, "nulls", "Visit", "id") == expected({None: 3, "0": 1, "1": 1, "2": 1})
    assert lab.ask("SELECT COUNT(*) FROM Star JOIN Visit USING (id)", "nulls") == [("3",)]
    assert lab.ask("SELECT COUNT(*) FROM Visit WHERE id = 1", "nulls") == [("1",)]


@pytest.mark.parametrize(("one", "other"), [("k", "K"), ("é", "E"), ("pad", "pad ")])
def test_texts_that_the_collation_holds_equal_are_one_group(
    lab: Lab, write: Writer, one: str, other: str
) -> None:
    tables = (
        f"- {STAR} columns: {{id: VARCHAR(8) NOT NULL, ra: DOUBLE, decl: DOUBLE}}}}\n"
        f"- {VISIT} columns: {{id: VARCHAR(8) NOT NULL, flux: DOUBLE}}}}"
    )
    files = {
        "star.csv": f"id,ra,decl\n{one},10,10\n{other},200,-50\nx,10,10\n",
        "visit.csv": f"id,flux\n{one},1\n{other},2\n{other},3\nx,4\n",
    }
    lab.publish(write("texts", tables, files), *_again(lab, "texts"))
    counted = answers(lab, "texts", "Visit", "id")
    assert [[row[-1] for row in rows] for rows in (counted[0], *counted[2:])] == [
        ["3", "1"], ["2"], ["2"], ["2"], ["3"],
    ]  # fmt: skip
    assert len(counted[1]) == 2
    assert lab.ask("SELECT COUNT(*) FROM Star JOIN Visit USING (id)", "texts") == [("7",)]
    assert lab.ask(f"SELECT COUNT(*) FROM Star WHERE id = '{one}'", "texts") == [("2",)]


def test_a_directors_key_may_stand_in_several_chunks(lab: Lab, write: Writer) -> None:
    tables = (
        f"- {STAR} columns: {{id: BIGINT, ra: DOUBLE, decl: DOUBLE}}}}\n"
        f"- {VISIT} columns: {{id: BIGINT, flux: DOUBLE}}}}"
    )
    files = {
        "star.csv": "id,ra,decl\n1,10,10\n1,200,-50\n2,100,50\n",
        "visit.csv": "id,flux\n1,1\n1,2\n2,3\n",
    }
    output = lab.publish(write("twins", tables, files))
    assert "note: equal keys 'id' lie in several chunks" in output
    assert answers(lab, "twins", "Star", "id") == expected({"1": 2, "2": 1})
    assert answers(lab, "twins", "Visit", "id") == expected({"1": 2, "2": 1})
    assert lab.ask("SELECT COUNT(*), SUM(flux) FROM Star JOIN Visit USING (id)", "twins") == [("5", "9")]


def test_a_pair_may_have_one_partner(lab: Lab, write: Writer) -> None:
    tables = (
        f"- {STAR} columns: {{id: BIGINT, ra: DOUBLE, decl: DOUBLE}}}}\n"
        f"- {REF} columns: {{ref: BIGINT, ra: DOUBLE, decl: DOUBLE}}}}\n- {PAIR}"
    )
    files = {
        "star.csv": "id,ra,decl\n1,10,10\n2,100,50\n3,20,80\n",
        "ref.csv": "ref,ra,decl\n1,10,10.1\n2,200,-50\n3,300,0\n",
        "pair.csv": "id,ref\n1,1\n\\N,2\n\\N,3\n2,\\N\n3,\\N\n",
    }
    lab.publish(write("single", tables, files))
    assert answers(lab, "single", "Pair", "id") == expected({None: 2, "1": 1, "2": 1, "3": 1})
    assert answers(lab, "single", "Pair", "ref") == expected({None: 2, "1": 1, "2": 1, "3": 1})
    assert lab.ask("SELECT COUNT(*) FROM Star JOIN Pair USING (id)", "single") == [("3",)]
    assert lab.ask("SELECT COUNT(*) FROM Ref JOIN Pair USING (ref)", "single") == [("3",)]
    joined = "SELECT s.id, r.ref FROM Star s JOIN Pair p ON s.id = p.id JOIN Ref r ON r.ref = p.ref"
    assert lab.ask(joined, "single") == [("1", "1")]


def _again(lab: Lab, database: str) -> list[str]:
    return ["--replace"] if (database,) in lab.home("SHOW DATABASES") else []
