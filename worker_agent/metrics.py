"""The agent's figures for Prometheus, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class AgentMetrics:
    """Counters and gauges of one agent."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Counter("skyshard_agent_jobs", "Jobs begun", registry=self.registry)
        self.chunks = Counter("skyshard_agent_chunks", "Chunk queries done", registry=self.registry)
        self.loaded_rows = Counter("skyshard_agent_loaded_rows", "Rows loaded", registry=self.registry)
        self.running = Gauge("skyshard_agent_running", "Chunk queries that run", registry=self.registry)
        self.queued = Gauge("skyshard_agent_queued", "Chunk queries that wait", registry=self.registry)
        self.mariadb_up = Gauge("skyshard_agent_mariadb_up", "1 if MariaDB answers", registry=self.registry)
