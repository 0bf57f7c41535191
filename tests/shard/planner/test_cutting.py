"""Where the statements of a packet end, and what stands around a statement."""

import pytest

from shard.planner.cutting import defines, has_statements, inner, split_statements
from shard.planner.lexer import LexerMode, text_of, tokenize

WHOLE = """
    BEGIN NOT ATOMIC TRUNCATE Filter; END
    begin /* a */ not atomic select 1; select 2; end; select 3
    IF 1 THEN SELECT 1; END IF
    CASE 1 WHEN 1 THEN SELECT 1; END CASE
    WHILE 0 DO SELECT 1; END WHILE
    FOR i IN 1..3 DO SELECT i; END FOR
    CREATE PROCEDURE p() BEGIN DECLARE errors INT; SET errors = 1; END
    CREATE OR REPLACE DEFINER=`root`@`localhost` PROCEDURE p() BEGIN SELECT 1; END
    CREATE DEFINER = CURRENT_USER() FUNCTION f() RETURNS INT BEGIN RETURN 1; END
    CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW BEGIN SET @a = 1; SET @b = 2; END
    /*!50003 CREATE*/ /*!50017 DEFINER='a'@'b'*/ /*!50003 TRIGGER g BEFORE DELETE ON t FOR EACH ROW BEGIN SET @a = 1; END */
    CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO BEGIN DELETE FROM t; END
    ALTER EVENT e DO BEGIN DELETE FROM t; DELETE FROM u; END
    SET STATEMENT max_statement_time = 5 FOR BEGIN NOT ATOMIC SELECT 1; END
"""
CUT = """
    BEGIN; SELECT 1
    BEGIN WORK; SELECT 1
    CREATE TABLE event (a INT); SELECT 1
    CREATE VIEW v AS SELECT IF(1, 2, 3); SELECT 1
    CREATE PROCEDURE p() SELECT 1; SELECT 2
    CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW SET @a = 1; SELECT 2
    SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 2
    SET STATEMENT max_statement_time = 5 FOR SELECT 1; SELECT 2
    TRUNCATE Filter; 'x
    TRUNCATE Filter; SELECT 1 /* x
    TRUNCATE Filter; /*! SELECT 1
"""


def lines(text):
    return [line.strip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("sql", lines(WHOLE))
def test_what_has_statements_within_is_one(sql):
    assert split_statements(sql.encode()) == [sql.encode()]
    assert split_statements(b"SELECT 0;" + sql.encode()) == [b"SELECT 0", sql.encode()]
    assert has_statements(inner(tokenize(sql)))


@pytest.mark.parametrize("sql", lines(CUT))
def test_others_end_at_the_semicolon(sql):
    before, _, behind = sql.encode().partition(b";")
    assert split_statements(sql.encode()) == [before, behind]


@pytest.mark.parametrize(
    ("sql", "plain", "verbatim"),
    [
        (r"SELECT '\'; TRUNCATE t -- '", 1, 2),
        (r"SELECT '\\'; SELECT 1", 2, 2),
        (r"SELECT 'a''\'; SELECT 1", 1, 2),
    ],
)
def test_backslashes_are_read_under_the_mode(sql, plain, verbatim):
    assert len(split_statements(sql.encode())) == plain
    assert len(split_statements(sql.encode(), LexerMode(no_backslash_escapes=True))) == verbatim


@pytest.mark.parametrize(
    ("sql", "run"),
    [
        ("DELETE FROM t", "DELETE FROM t"),
        ("ANALYZE FORMAT=JSON DELETE FROM t", "DELETE FROM t"),
        ("SET STATEMENT a = 1 FOR SET STATEMENT b = 2 FOR ANALYZE DELETE FROM t", "DELETE FROM t"),
        ("SET STATEMENT a = SUBSTR('x' FROM 1 FOR 1) FOR DELETE FROM t", "DELETE FROM t"),
        ("SET STATEMENT a = 1", "SET STATEMENT a = 1"),
        ("ANALYZE", ""),
    ],
)
def test_what_is_run_in_the_end(sql, run):
    assert text_of(inner(tokenize(sql))) == run


@pytest.mark.parametrize(
    ("sql", "does"),
    [
        ("CREATE OR REPLACE AGGREGATE FUNCTION f", True),
        ("CREATE DEFINER = current_role PROCEDURE p()", True),
        ("CREATE DEFINER = 'event'@`h` VIEW v AS SELECT 1", False),
        ("CREATE OR REPLACE", False),
        ("ALTER TABLE trigger_log ADD event INT", False),
        ("DROP PROCEDURE p", False),
    ],
)
def test_definitions(sql, does):
    assert defines(tokenize(sql)) is does
