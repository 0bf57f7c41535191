"""Chunk geometry: row to chunk and region to chunks."""
