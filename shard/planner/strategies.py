"""The strategies beside chunk-local work: a counted answer, rows gathered at home, whole tables gathered."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from shard.catalog.model import Database, Table
from shard.catalog.naming import CHUNK_COLUMN, OWNER_COLUMN, SUB_CHUNK_COLUMN
from shard.errors import RADIUS_TOO_WIDE, SkyError, not_supported
from shard.planner import gather as gathering
from shard.planner.constants import integer
from shard.planner.context import Context
from shard.planner.lexer import Token, TokenKind, unquote
from shard.planner.needs import has_no_rows
from shard.planner.plan import InChunks, Plan, Sql, Strategy
from shard.planner.planner import plan_select
from shard.planner.scope import column_names
from shard.planner.templates import fill


def gathered(
    tree: exp.Expression,
    context: Context,
    default_limit: int | None,
    native: Sql,
    tables: tuple[tuple[str, Table], ...],
    refusal: SkyError,
) -> Plan:
    """Return a plan that brings the rows home; `refusal` says why nothing less will do."""
    if _is_wide_neighbours(refusal):
        raise refusal
    if default_limit is not None and tree.args.get("limit") is None:
        tree.set("limit", exp.Limit(expression=fill(default_limit)))

    never = has_no_rows(tree, context)

    def plan_tree(select: exp.Select) -> Plan:
        return plan_select(select, context, None)

    return Plan(
        strategy=Strategy.GATHER,
        database=next(
            (database for database, table in tables if table.is_sharded), next(iter(context.catalogue))
        ),
        native=native,
        tables=tables,
        never=never,
        gather=gathering.gather(tree, context, plan_tree),
        notes=(f"gathered at home: {refusal.message}",),
    )


def _is_wide_neighbours(refusal: SkyError) -> bool:
    return refusal.code is RADIUS_TOO_WIDE


def whole_tables(tokens: list[Token], text: Sql, context: Context, default_limit: int | None) -> Plan:
    """Return the plan of a statement that only MariaDB can parse: its sharded tables are gathered whole."""
    if default_limit is not None:
        raise not_supported(
            "this statement's syntax under sql_select_limit", "SET sql_select_limit = DEFAULT"
        )
    found = mentioned(tokens, context.default, context.catalogue)

    def plan_table(database: str, name: str) -> Plan:
        table = context.catalogue[database].table(name)
        hidden = sorted(column_names(table) - {c.name.lower() for c in table.columns}) if table else []
        shown = [column.name for column in table.columns] if table else []
        names = [
            *shown,
            *(own for own in (CHUNK_COLUMN, SUB_CHUNK_COLUMN, OWNER_COLUMN) if own.lower() in hidden),
        ]
        select = exp.Select(expressions=[exp.column(column, table=name, quoted=True) for column in names])
        reference = exp.Table(
            this=exp.to_identifier(name, quoted=True), db=exp.to_identifier(database, quoted=True)
        )
        select.set("from_", exp.From(this=reference))
        return plan_select(select, context, None)

    tables = tuple(
        (database, table)
        for database, name in found
        if (table := context.catalogue[database].table(name)) is not None
    )
    return Plan(
        strategy=Strategy.GATHER,
        database=found[0][0],
        native=text,
        tables=tables,
        gather=gathering.whole_tables(found, text, plan_table),
        notes=("gathered at home: the statement's syntax",),
    )


def counter(
    tree: exp.Expression,
    context: Context,
    default_limit: int | None,
    native: Sql,
    tables: tuple[tuple[str, Table], ...],
) -> Plan | None:
    """Return the plan of a bare ``SELECT COUNT(*) FROM t``, answered from the catalogue's row counts."""
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1 or len(tables) != 1:
        return None
    if any(tree.args.get(key) for key in tree.args if key not in ("expressions", "from_", "limit", "order")):
        return None
    item = tree.expressions[0]
    call = item.this if isinstance(item, exp.Alias) else item
    source = tree.args["from_"].this if tree.args.get("from_") is not None else None
    if not (isinstance(call, exp.Anonymous) and call.name.lower() == "count" and len(call.expressions) == 1):
        return None
    if not isinstance(call.expressions[0], exp.Star) or not isinstance(source, exp.Table):
        return None
    if source.args.get("joins"):
        return None
    limit = tree.args.get("limit")
    most = default_limit if limit is None else integer(limit.expression, context.values) or 0
    if most is not None and most < 1:
        return None
    return Plan(
        strategy=Strategy.COUNTER,
        database=tables[0][0],
        native=native,
        tables=tables,
        restriction=InChunks(()),
        interactive=True,
        never=True,
    )


def mentioned(
    tokens: list[Token], database: str | None, catalogue: Mapping[str, Database]
) -> list[tuple[str, str]]:
    """Return the sharded tables that the words of a statement may name, each once."""
    found: dict[tuple[str, str], None] = {}
    for index, token in enumerate(tokens):
        if token.kind not in (TokenKind.WORD, TokenKind.QUOTED):
            continue
        qualified = index >= 2 and tokens[index - 1].text == "."
        home = unquote(tokens[index - 2]) if qualified else database
        entry = catalogue.get(home) if home is not None else None
        table = entry.table(unquote(token)) if entry is not None else None
        if entry is not None and table is not None and table.is_sharded:
            found[(entry.name, table.name)] = None
    return list(found)


__all__ = ["counter", "gathered", "mentioned", "whole_tables"]
