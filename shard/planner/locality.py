"""Decides whether all work of a SELECT is chunk-local, and how its tables are laid out in a chunk.

A row that joins another on the director key lies in the same chunk; a pair of a match table is
stored with both partners' chunks; a neighbour within the overlap lies in the chunk's overlap.
Anything else is refused here (1235), never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from shard.catalog.model import Kind, Partitioning
from shard.errors import RADIUS_TOO_WIDE, SkyError, not_supported
from shard.geometry.chunker import ChunkGrid
from shard.planner.conditions import separation
from shard.planner.constants import Value, conjuncts
from shard.planner.links import Links
from shard.planner.scope import Scope, TableRef, sql_type_of

NEAR = "near"
"""Key of the meta of the condition that makes a near-neighbour join."""
_HALF_TURN_DEG = 180.0
"""No two positions are farther apart."""
_ADVICE = "join them on the director key, through a match table, or by scisql_angSep(...) < radius"


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A near-neighbour join: rows of `near` within `radius` degrees of a row of `anchor`.

    `near` is taken from chunk and overlap; but if `anchor` is a user's own table, which has a copy of every
    row in each chunk that the row can have neighbours in, from the chunk alone. `own_position` then names the
    own table's position columns.
    """

    anchor: TableRef
    near: TableRef
    radius: float
    own_position: tuple[str, str] | None = None

    @property
    def position(self) -> tuple[str, str]:
        """Longitude and latitude columns of the anchor."""
        return self.own_position or (self.anchor.table.longitude or "", self.anchor.table.latitude or "")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tables of FROM lie in one chunk.

    Attributes
    ----------
    anchor : TableRef
        The table whose chunk it is.
    side : int
        For a match table: which side's director the chunk belongs to (0 or 1).
    owners : tuple of TableRef
        Match tables of which only the owner rows count.
    partner : TableRef or None
        Second director of a match join: read from chunk and overlap, in two arms.
    neighbours : Neighbours or None
        The near-neighbour join, if there is one.
    reach : float
        How far (degrees) rows of the partner may be from the chunk.
    keyed : tuple of str
        Aliases of users' own tables of which the chunk reads its own rows alone (`keyed`).
    """

    anchor: TableRef
    side: int = 0
    owners: tuple[TableRef, ...] = ()
    partner: TableRef | None = None
    neighbours: Neighbours | None = None
    reach: float = 0.0
    keyed: tuple[str, ...] = ()

    def is_elsewhere(self, ref: TableRef) -> bool:
        """Whether a table's rows may come from the overlap of the chunk."""
        near = (
            self.neighbours is not None
            and self.neighbours.near is ref
            and self.neighbours.own_position is None
        )
        return near or self.partner is ref


def chunk_links(ref: TableRef, layout: Layout) -> tuple[tuple[str, str], ...]:
    """Return (director, column) pairs of a table: rows with equal values in these columns lie in one chunk.

    Empty for the far side of a neighbour or match join, and where equal keys stand in several chunks.
    """
    if not ref.is_sharded or ref.table.key_spans_chunks:
        return ()
    if layout.is_elsewhere(ref):
        return ()
    if ref.table.kind is Kind.MATCH:
        return ref.links[layout.side : layout.side + 1]
    return ref.links


def group_links(ref: TableRef, layout: Layout) -> tuple[tuple[str, str], ...]:
    """Return those pairs of `chunk_links` for which NULL, too, is in one chunk only, so that groups do not span chunks."""
    return () if ref.table.null_keys else chunk_links(ref, layout)


def layout_of(scope: Scope, where: Sequence[exp.Expression], values: Sequence[Value]) -> Layout:
    """Return how the tables of a chunk-local SELECT lie in a chunk.

    Parameters
    ----------
    scope : Scope
        Its tables.
    where : sequence of Expression
        Top-level conjuncts of WHERE.
    values : sequence
        Parameter values.

    Raises
    ------
    SkyError
        1235 if its work is not chunk-local; an error that names the overlap if neighbours are wanted beyond it.
    """
    sharded = scope.sharded()
    solid = [ref for ref in sharded if not ref.nullable]
    if not solid:
        raise not_supported(
            "an outer join that keeps rows of a replicated table beside sharded ones",
            "put the sharded table on the side that is kept",
        )
    inner = [*where, *(part for item in scope.conditions for part in conjuncts(item))]
    links = Links(scope, where)
    groups = links.groups()
    matches = [ref for ref in sharded if ref.table.kind is Kind.MATCH]
    if len(matches) > 1:
        raise not_supported("a join of two match tables")
    if len(groups) == 1:
        if matches:
            return _match_layout(matches[0], sharded, links, scope.database.partitioning)
        if len(sharded) > 1:
            _refuse_spanning_keys(sharded)
        return Layout(anchor=solid[0], neighbours=_own_neighbours(scope, inner, values))
    if len(groups) == 2 and not matches:
        return _neighbour_layout(scope, groups, inner, values)
    names = " and ".join(f"'{group[0].alias}'" for group in groups)
    raise not_supported(f"a join of the sharded tables {names}", _ADVICE)


def _refuse_spanning_keys(joined: Sequence[TableRef]) -> None:
    """Refuse a join on a director key of which equal ones lie in several chunks."""
    for ref in joined:
        if ref.table.key_spans_chunks:
            raise not_supported(
                f"a join on the director key of '{ref.table.name}', whose equal keys lie in several chunks"
            )


def _match_layout(
    match: TableRef, refs: Sequence[TableRef], links: Links, partitioning: Partitioning
) -> Layout:
    first, second = match.table.sides
    columns = [side.foreign_key.lower() for side in (first, second)]
    sides: list[list[TableRef]] = [[], []]
    for ref in refs:
        if ref is match:
            continue
        on = [
            index
            for index, side in enumerate((first, second))
            for director, column in ref.links
            if director == side.table and links.alike(ref, column, match, columns[index])
        ]
        if len(on) != 1:
            raise not_supported(f"this join of '{ref.alias}' with match table '{match.alias}'")
        sides[on[0]].append(ref)
    _refuse_spanning_keys([ref for ref in refs if ref is not match])
    if sides[0] and sides[1]:
        return replace(_pair_layout(match, sides), reach=ChunkGrid.of(partitioning).reach)
    if sides[1]:
        if not match.nullable and any(ref.nullable for ref in sides[1]):
            raise not_supported(f"an outer join that keeps rows of match table '{match.alias}'")
        return Layout(anchor=next((ref for ref in sides[1] if not ref.nullable), match), side=1)
    if match.nullable:
        return Layout(anchor=next(ref for ref in sides[0] if not ref.nullable))
    return Layout(anchor=match, owners=(match,))


def _pair_layout(match: TableRef, sides: list[list[TableRef]]) -> Layout:
    everyone = [match, *sides[0], *sides[1]]
    if any(ref.nullable for ref in everyone):
        raise not_supported("an outer join of a match table with both directors")
    partner = sides[1][0]
    if len(sides[1]) > 1 or partner.table.kind is not Kind.DIRECTOR:
        raise not_supported(f"a dependent table of the second director of match table '{match.alias}'")
    if match.table.wide_pairs:
        raise not_supported(
            f"a join of '{match.alias}' with both directors: it has pairs wider than the overlap"
        )
    return Layout(anchor=sides[0][0], owners=(match,), partner=partner)


def _neighbour_layout(
    scope: Scope, groups: list[list[TableRef]], inner: Sequence[exp.Expression], values: Sequence[Value]
) -> Layout:
    refs = [ref for group in groups for ref in group]
    if any(ref.nullable for ref in refs):
        raise not_supported("an outer near-neighbour join")
    for item in inner:
        pair = neighbour_condition(scope, item, values)
        if pair is None:
            continue
        left, right, radius = pair
        overlap = scope.database.partitioning.overlap_deg
        if radius > overlap:
            raise SkyError(RADIUS_TOO_WIDE, radius=radius, database=scope.database.name, overlap=overlap)
        for anchor, near in ((left, right), (right, left)):
            alone = next((group for group in groups if near in group), [])
            if len(alone) == 1 and not any(anchor in group and near in group for group in groups):
                joined = [ref for ref in refs if ref is not near]
                if len(joined) > 1:
                    _refuse_spanning_keys(joined)
                item.meta[NEAR] = True
                return Layout(anchor=anchor, neighbours=Neighbours(anchor, near, radius))
    raise not_supported(f"a join of '{groups[0][0].alias}' with '{groups[1][0].alias}'", _ADVICE)


def _own_neighbours(
    scope: Scope, inner: Sequence[exp.Expression], values: Sequence[Value]
) -> Neighbours | None:
    """Return the near-neighbour join of a sharded table with a user's own table, if there is one."""
    for item in inner:
        found = separation(item, values)
        if found is None or found.radius >= _HALF_TURN_DEG:  # all pairs are as near as that
            continue
        for own, sharded in (found.positions, found.positions[::-1]):
            near = position_owner(scope, *sharded)
            anchor = scope.owner(own[0])
            if (
                near is None
                or not near.is_sharded
                or near.table.kind is Kind.MATCH
                or near.derived is not None
            ):
                continue
            if anchor is None or anchor is not scope.owner(own[1]) or anchor.table.kind is not Kind.OWN:
                continue
            if not (near.nullable or anchor.nullable) and all(_is_number(anchor, node) for node in own):
                item.meta[NEAR] = True
                return Neighbours(anchor, near, found.radius, (own[0].name, own[1].name))
    return None


_NUMBERS = ("double", "float", "decimal", "int", "bigint", "smallint", "mediumint", "tinyint")


def _is_number(ref: TableRef, column: exp.Expression) -> bool:
    return sql_type_of(ref.table, column.name).lower().startswith(_NUMBERS)


def neighbour_condition(
    scope: Scope, item: exp.Expression, values: Sequence[Value]
) -> tuple[TableRef, TableRef, float] | None:
    """Return (director, other director, radius in degrees) if `item` bounds the distance of their positions, else None."""
    found = separation(item, values)
    if found is None:
        return None
    owners = []
    for lon, lat in found.positions:
        ref = position_owner(scope, lon, lat)
        if ref is None or ref.table.kind is not Kind.DIRECTOR:
            return None
        owners.append(ref)
    return (owners[0], owners[1], found.radius) if owners[0] is not owners[1] else None


def position_owner(scope: Scope, lon: exp.Expression, lat: exp.Expression) -> TableRef | None:
    """Return the table whose own position columns these are, in order, or None."""
    ref = scope.owner(lon)
    if ref is None or ref is not scope.owner(lat) or not ref.table.longitude or not ref.table.latitude:
        return None
    same = lon.name.lower() == ref.table.longitude.lower() and lat.name.lower() == ref.table.latitude.lower()
    return ref if same else None
