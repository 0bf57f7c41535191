"""Which statements would change a published catalogue, and which only look so."""

import pytest

from proxy.writes import Published, dynamic, refusal
from shard.catalog.model import Column, Database, Kind, Partitioning, Table
from shard.planner.lexer import LexerMode, tokenize

DATABASES = {
    "sky": Database(
        name="sky",
        partitioning=Partitioning(stripes=18, sub_stripes=10),
        tables=(
            Table(name="Object", kind=Kind.DIRECTOR, key="id", longitude="ra", latitude="decl"),
            Table(name="Filter", kind=Kind.REPLICATED, columns=(Column(name="band", sql_type="CHAR(1)"),)),
        ),
    )
}
SKY = Published(DATABASES, frozenset({("mine", "bands")}))
CHANGES = """
    INSERT INTO Object VALUES (1)
    INSERT IGNORE INTO `Filter` (band) SELECT 'r'
    REPLACE sky.Filter SET band = 'r'
    UPDATE Filter SET band = 'r'
    UPDATE mine.t JOIN Filter f USING (band) SET f.band = 'r'
    UPDATE (Filter) SET band = 'r'
    UPDATE (mine.t JOIN Filter f ON 1) SET F.band = 'r'
    UPDATE mine.t, (Filter) SET band = 'r'
    UPDATE mine.t JOIN sky.Filter ON 1 SET sky.Filter.band = 'r'
    UPDATE mine.t JOIN mine.bands ON 1 SET a = 1
    UPDATE mine.t JOIN Object ON 1 SET objectid = 1, `chunkId` = 2
    DELETE Filter.* FROM mine.t JOIN Filter
    DELETE t, f FROM mine.t JOIN (Filter AS f)
    DELETE FROM mine.t, sky.Filter USING mine.t JOIN sky.Filter
    DELETE FROM Filter WHERE band = 'r'
    DELETE f FROM Filter f
    DELETE FROM f USING sky.Filter AS f WHERE 1
    TRUNCATE Filter
    ALTER TABLE Filter ADD COLUMN x INT
    ALTER ONLINE TABLE IF EXISTS sky.Object ADD COLUMN x INT
    DROP TABLE IF EXISTS mine.t, Filter
    RENAME TABLE mine.t TO Filter
    LOAD DATA LOCAL INFILE 'f' INTO TABLE Filter
    CREATE UNIQUE INDEX i ON Filter (band)
    DROP INDEX i ON Object
    CREATE OR REPLACE TABLE Object (a INT)
    CREATE OR REPLACE TABLE sky.Filter AS SELECT 1
    CREATE TEMPORARY TABLE IF NOT EXISTS Filter (a INT)
    OPTIMIZE TABLE Object
    HANDLER Object OPEN
    DROP DATABASE sky
    /*!40000 DROP DATABASE IF EXISTS `sky`*/
    DROP SCHEMA IF EXISTS sky
    ALTER DATABASE sky CHARACTER SET latin1
    CREATE OR REPLACE DATABASE sky
    SET STATEMENT max_statement_time = 5 FOR DELETE FROM Filter
    ANALYZE FORMAT=JSON UPDATE Filter SET band = 'r'
    CREATE PROCEDURE mine.p() DROP TABLE sky.Object
    CREATE PROCEDURE mine.p() BEGIN SELECT 1; TRUNCATE Filter; END
    CREATE TRIGGER mine.g AFTER INSERT ON mine.t FOR EACH ROW UPDATE sky.Filter SET band = NEW.a
    CREATE EVENT mine.e ON SCHEDULE EVERY 1 DAY DO DELETE FROM Filter
    BEGIN NOT ATOMIC DROP DATABASE sky; END
    IF 1 THEN DROP TABLE Object; END IF
    UPDATE mine.bands SET band = 'r'
    INSERT INTO `mine`.`bands` VALUES ('r')
    SET STATEMENT max_statement_time = 5 FOR ANALYZE UPDATE Filter SET band = 'r'
    SET STATEMENT max_statement_time = 5 FOR SET STATEMENT sql_mode = '' FOR DELETE FROM Filter
    SET STATEMENT sql_mode = SUBSTR('x' FROM 1 FOR 0) FOR TRUNCATE Filter
    SET STATEMENT max_statement_time = 5 FOR BEGIN NOT ATOMIC SELECT 1; TRUNCATE Filter; END
    CREATE PROCEDURE mine.p() SET STATEMENT max_statement_time = 5 FOR UPDATE Filter SET band = 'r'
    CREATE PROCEDURE mine.p() BEGIN EXECUTE IMMEDIATE 'TRUNCATE Filter'; END
"""
HARMLESS = """
    SELECT REPLACE(band, 'a', 'b'), INSERT(band, 1, 1, 'x') FROM Filter
    INSERT INTO mine.t SELECT * FROM Object
    INSERT INTO mine.t (Filter) VALUES (1)
    INSERT INTO mine.t VALUES ((SELECT MAX(band) FROM Filter))
    UPDATE mine.t SET a = (SELECT MAX(band) FROM Filter)
    UPDATE mine.t JOIN (SELECT * FROM Filter) f USING (band) SET t.a = f.band
    UPDATE mine.t JOIN Filter f ON f.band = t.a SET t.a = f.band, x = (SELECT band FROM Filter)
    UPDATE mine.t, mine.bands SET t.a = bands.band
    DELETE FROM mine.t WHERE a IN (SELECT band FROM Filter)
    DELETE t FROM mine.t JOIN Filter f ON f.band = t.a
    DELETE FROM t USING mine.t, Object WHERE t.id = Object.id
    ALTER TABLE mine.t ADD COLUMN Filter INT
    ALTER VIEW mine.v AS SELECT * FROM Object
    DROP TABLE mine.Filter
    DROP DATABASE mine
    CREATE TABLE Object (a INT)
    CREATE TABLE mine.copy LIKE Filter
    CREATE TABLE mine.t AS SELECT Filter.band FROM Filter
    CREATE OR REPLACE TABLE mine.t AS SELECT * FROM mine.a JOIN Filter ON Filter.band = a.band
    CREATE OR REPLACE VIEW mine.v AS SELECT * FROM mine.a JOIN Object ON Object.id = a.id
    OPTIMIZE TABLE Filter
    DROP VIEW mine.bands
    INSERT INTO mine.t SELECT * FROM mine.bands
    UPDATE bands SET band = 'r'
    CREATE PROCEDURE mine.p() BEGIN INSERT INTO mine.t SELECT band FROM Filter; END
    CREATE TRIGGER mine.g BEFORE DELETE ON mine.t FOR EACH ROW INSERT INTO mine.l SELECT band FROM Filter
    SET STATEMENT max_statement_time = 5 FOR SELECT * FROM Filter
    CREATE PROCEDURE mine.p() BEGIN SELECT * FROM mine.t FOR UPDATE; SELECT * FROM Object; END
    CREATE PROCEDURE mine.p() BEGIN DECLARE EXIT HANDLER FOR NOT FOUND SELECT id FROM Object; EXECUTE IMMEDIATE mine.v; END
"""


def lines(text):
    return [line.strip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("sql", lines(CHANGES))
def test_changes_are_refused(sql):
    found = refusal(tokenize(sql), "sky", SKY)
    assert found is not None
    assert found.errno == 1290


@pytest.mark.parametrize("sql", lines(HARMLESS))
def test_what_only_reads_is_not(sql):
    assert refusal(tokenize(sql), "sky", SKY) is None


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE mine.k (a BIGINT, FOREIGN KEY (a) REFERENCES sky.Object (id))",
        "ALTER TABLE mine.k ADD FOREIGN KEY (a) REFERENCES Filter (band)",
    ],
)
def test_a_foreign_key_would_hold_the_catalogue_fast(sql):
    found = refusal(tokenize(sql), "sky", SKY)
    assert found is not None
    assert found.errno == 1235


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("PREPARE s FROM 'DROP TABLE Object'", 1290),
        ("PREPARE s FROM 'DELETE FROM Filter WHERE band = \\'r\\''", 1290),
        ("EXECUTE IMMEDIATE 'UPDATE Filter SET band = ?' USING 'r'", 1290),
        ("EXECUTE IMMEDIATE CONCAT('DROP TABLE Ob', 'ject')", 1290),
        ("EXECUTE IMMEDIATE 'INSERT INTO mine.t SELECT * FROM Filter'", None),
        ("PREPARE s FROM 'DELETE FROM mine.t WHERE a IN (SELECT band FROM Filter)'", None),
    ],
)
def test_dynamic_sql_is_looked_into(sql, number):
    found = dynamic(tokenize(sql), LexerMode(), "sky", SKY)
    assert (None if found is None else found.errno) == number
