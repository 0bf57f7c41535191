"""Whether a catalogue file describes tables as they are published, or new ones that can stand beside them."""

from __future__ import annotations

from shard.catalog.catalog_file import CatalogFile, SourceLines, TableSpec
from shard.catalog.model import Kind
from skyshard.errors import UserError
from skyshard.ingest.ingest import directors_of
from skyshard.ingest.replicated import check_can_grow
from skyshard.ingest.transactions import LONGEST_NAME, Published


def check_fits(file: CatalogFile, lines: SourceLines, base: Published) -> None:
    """Refuse a catalogue file that is not about tables as they are published.

    Raises
    ------
    UserError
        With file, line and what differs.
    """
    if file.grid() != base.partitioning:
        p = base.partitioning
        raise UserError(
            f"{lines.of('partitioning')}: partitioning: database '{base.name}' has stripes {p.stripes}, "
            f"sub_stripes {p.sub_stripes}, overlap_deg {p.overlap_deg}"
        )
    for index, spec in enumerate(file.tables):
        where = f"{lines.of('tables', index)}: table '{spec.name}': "
        table = base.table(spec.name)
        if table is None:
            _check_new(file, spec, where, base)
            continue
        if not table.is_sharded:
            check_can_grow(table)
        for field in ("kind", "key", "longitude", "latitude", "director", "director_key"):
            if getattr(spec, field) != getattr(table, field):
                raise UserError(
                    f"{where}{field}: '{getattr(spec, field)}' differs from the published '{getattr(table, field)}'"
                )
        if spec.sides() != table.sides:
            raise UserError(f"{where}directors: they differ from the published ones")
    names = [table.name for table in base.sharded]
    names += [
        spec.name
        for spec in file.tables
        if spec.kind is not Kind.REPLICATED or base.table(spec.name) is not None
    ]
    too_long = next((name for name in names if len(name) > LONGEST_NAME), None)
    if too_long is not None:
        raise UserError(
            f"table '{base.name}.{too_long}': rows can be added only to databases whose tables have names of "
            f"at most {LONGEST_NAME} characters"
        )


def _check_new(file: CatalogFile, spec: TableSpec, where: str, base: Published) -> None:
    """Refuse a new table that cannot stand beside the published ones."""
    if other := next((t.name for t in base.tables if t.name.lower() == spec.name.lower()), None):
        raise UserError(f"{where}the published table '{other}' differs from it only in case")
    known = {table.name for table in base.tables if table.kind is Kind.DIRECTOR}
    known |= {other.name for other in file.tables if other.kind is Kind.DIRECTOR}
    for director in directors_of(spec):
        if director not in known:
            raise UserError(
                f"{where}director: '{director}' is no director table of this file or of database '{base.name}'"
            )
