"""Bytes in, values out: frames between proxy and agent, MySQL row packets."""
