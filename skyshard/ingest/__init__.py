"""Partitioning and loading of catalogue files, client side."""
