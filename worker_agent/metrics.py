"""The agent's figures for Prometheus, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from worker_agent.scheduler import Scheduler


class AgentMetrics:
    """Counters and gauges of one agent."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._jobs = Counter("skyshard_agent_jobs", "Jobs ended", ["outcome"], registry=self.registry)
        self._outcomes: dict[str, Counter] = {}  # looking a label up costs more than counting
        self._chunks = Counter("skyshard_agent_chunks", "Chunk queries done", registry=self.registry)
        self.joint = Counter(
            "skyshard_agent_chunks_joint",
            "Chunk queries done by a statement over several chunks' tables",
            registry=self.registry,
        )
        self._bytes = Counter("skyshard_agent_bytes", "Bytes of rows sent", registry=self.registry)
        self._spooled = Gauge(
            "skyshard_agent_spool_bytes",
            "Bytes of rows that wait for readers",
            ["where"],
            registry=self.registry,
        )
        self.loaded_rows = Counter("skyshard_agent_loaded_rows", "Rows loaded", registry=self.registry)
        self.running = Gauge("skyshard_agent_running", "Chunk queries that run", registry=self.registry)
        self.queued = Gauge("skyshard_agent_queued", "Chunk queries that wait", registry=self.registry)
        self._lanes = Gauge(
            "skyshard_agent_lane",
            "Chunk queries that run or wait, and users whose chunk queries wait, by lane",
            ["lane", "what"],
            registry=self.registry,
        )
        self.mariadb_up = Gauge("skyshard_agent_mariadb_up", "1 if MariaDB answers", registry=self.registry)

    def job_done(self, outcome: str, chunks: int, size: int) -> None:
        """Count a job that has ended, its chunks and the bytes it has sent."""
        if outcome not in self._outcomes:
            self._outcomes[outcome] = self._jobs.labels(outcome)
        self._outcomes[outcome].inc()
        self._chunks.inc(chunks)
        self._bytes.inc(size)

    def scheduled(self, scheduler: Scheduler) -> None:
        """Note what runs and waits."""
        self.running.set(scheduler.running)
        self.queued.set(scheduler.queued)
        for name, lane in (("interactive", scheduler.quick_lane), ("scan", scheduler.scan_lane)):
            waiting, users = scheduler.waiting(name == "interactive")
            for what, number in (("running", lane.running), ("waiting", waiting), ("users waiting", users)):
                self._lanes.labels(name, what).set(number)

    def spooled(self, memory: int, disk: int) -> None:
        """Note how many bytes wait in spools."""
        self._spooled.labels("memory").set(memory)
        self._spooled.labels("disk").set(disk)
