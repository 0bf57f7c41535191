"""The skyshard command: local cluster, ingest, sample."""
