"""Asynchronous queries: submitted, run by some proxy, their rows kept at home."""
