"""Small steps in writing a draft for a chunk: chunk tables' names, further conditions, text."""

from __future__ import annotations

from sqlglot import exp

from shard.planner.branches import find
from shard.planner.emit import CHUNK_MARK, Writer
from shard.planner.nested import STORED_AS
from shard.planner.notes import noted
from shard.planner.plan import Sql
from shard.planner.scope import Scope, TableRef, from_items
from shard.planner.volatile import varies

LENIENT = "SET STATEMENT sql_mode=REPLACE(REPLACE(@@sql_mode, 'STRICT_TRANS_TABLES', ''), 'STRICT_ALL_TABLES', '') FOR "
"""Before a CREATE or INSERT … SELECT that stands for a piece of a SELECT: what is a warning there is no error."""


def sql_of(node: exp.Expression) -> Sql:
    """Return the SQL of a tree."""
    writer = Writer().write(node)
    return Sql(writer.text(), tuple(writer.parameters))


def add_condition(select: exp.Select, condition: exp.Expression) -> None:
    """Add a condition to WHERE, in place."""
    where = select.args.get("where")
    if where is None:
        select.set("where", exp.Where(this=condition))
    else:
        where.set("this", exp.And(this=exp.Paren(this=where.this), expression=condition))


def only(item: exp.Expression, scope: Scope, ref: TableRef) -> bool:
    """Whether a condition reads columns of `ref` alone and can be tested before the join."""
    columns = list(item.find_all(exp.Column))
    return bool(columns) and not varies(item) and all(scope.owner(column) is ref for column in columns)


def chunk_names(select: exp.Select, scope: Scope, suffixes: dict[str, str]) -> None:
    """Put chunk tables into FROM at every depth, in place, and drop database names from columns."""
    own = {id(node) for node, _ in from_items(select)}
    for node in find(select, exp.Table):
        stored = noted(node, STORED_AS)
        if stored is None:
            continue
        database, name, sharded = stored
        alias = node.alias or node.name
        if sharded:
            suffix = suffixes.get(alias, "") if id(node) in own else ""
            name = f"{name}{suffix}_{CHUNK_MARK}"
        node.set("this", exp.to_identifier(name, quoted=True))
        node.set("db", exp.to_identifier(database, quoted=True))
        node.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    for column in select.find_all(exp.Column):
        if column.args.get("db") is not None:
            column.set("db", None)
