"""Copies of chunks: making missing ones, moving them, taking workers out of use."""
