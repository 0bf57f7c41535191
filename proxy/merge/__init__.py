"""Merging partial results at the home server."""
