"""Where the rows of a catalogue that is restored come from: the files of a backup, or another catalogue's workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from shard.errors import SkyError
from skyshard.catalog import manifest as manifests
from skyshard.catalog import published
from skyshard.catalog.cluster import Cluster
from skyshard.catalog.files import read_text
from skyshard.catalog.manifest import Description, Part, SavedPart
from skyshard.catalog.published import Published
from skyshard.errors import UserError
from skyshard.replicas.stream import checksums, read_rows


class Source(Protocol):
    """A catalogue's description, and its rows.

    Attributes
    ----------
    detail : str
        What stands in the metadata of the ingest that this becomes; the same for the same rows only.
    servers : tuple of str
        Versions of the servers that made the checksums.
    """

    detail: str
    description: Description
    servers: tuple[str, ...]

    def read(self, part: Part) -> AsyncGenerator[bytes, None]:
        """Yield a part's rows as LOAD DATA text, in pieces cut anywhere."""
        ...

    async def checksum(self, part: Part) -> str:
        """Return the CHECKSUM TABLE of a part."""
        ...

    async def unchanged(self) -> None:
        """Raise UserError if what was read is no longer what the description says."""


class BackupSource:
    """A backup; what its files are is found while they are read."""

    def __init__(self, directory: Path) -> None:
        made = manifests.read(directory)
        self._directory = directory
        self._parts: dict[str, SavedPart] = {part.path: part for part in made.parts}
        self.detail = f"restore {manifests.identity_of(made)}"
        self.description, self.servers = manifests.described(made), made.servers

    async def read(self, part: Part) -> AsyncGenerator[bytes, None]:
        """See `Source`."""
        pieces: Iterator[bytes] = read_text(self._directory, self._parts[part.path])
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

    async def checksum(self, part: Part) -> str:
        """See `Source`."""
        return self._parts[part.path].checksum

    async def unchanged(self) -> None:
        """See `Source`."""


class CatalogSource:
    """A published catalogue of this cluster; `there` are the workers that answer."""

    def __init__(self, cluster: Cluster, found: Published, there: set[int], servers: tuple[str, ...]) -> None:
        self._cluster, self._found, self._there = cluster, found, there
        self._holders = found.holders()
        self.detail = f"copy {found.identity}"
        self.description, self.servers = manifests.description_of(found), servers

    def _worker(self, part: Part) -> int:
        if part.chunk is None:
            held = {worker for ids in self._holders.values() for worker in ids} or self._there
        else:
            held = set(self._holders[part.chunk])
        fit = sorted(held & self._there)
        if not fit:
            raise UserError(f"nobody who answers has table {part.name} of database '{self._found.name}'")
        return fit[(part.chunk or 0) % len(fit)]

    async def read(self, part: Part) -> AsyncGenerator[bytes, None]:
        """See `Source`."""
        worker, sent = self._worker(part), [0]
        select, name = self._found.content.routes[part.table].select, part.stored(self._found)
        try:
            texts = read_rows(self._cluster.agents, worker, self._found.name, name, select, sent)
            async with aclosing(texts):
                async for text in texts:
                    yield text
        except SkyError as error:
            raise UserError(f"table {part.name} of database '{self._found.name}': {error}") from error
        if sent[0] != part.rows:
            raise UserError(
                f"table {part.name} of database '{self._found.name}': {sent[0]} rows at "
                f"{self._cluster.agents.name(worker)}, {part.rows} are counted"
            )

    async def checksum(self, part: Part) -> str:
        """See `Source`."""
        worker = self._worker(part)
        stored = part.stored(self._found)
        value = (await checksums(self._cluster.agents, worker, self._found.name, [stored]))[stored]
        if value is None:
            name = self._cluster.agents.name(worker)
            raise UserError(f"table {part.name} of database '{self._found.name}': {name} cannot read it")
        return value

    async def unchanged(self) -> None:
        """See `Source`."""
        try:
            same = (
                await published.read(self._cluster.home, self._found.name)
            ).identity == self._found.identity
        except UserError:
            same = False
        if not same:
            raise UserError(
                f"database '{self._found.name}' has changed while it was being copied; run it again"
            )
