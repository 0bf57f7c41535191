"""The proxy's figures for Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proxy.execute.admission import Admissions


class Metrics:
    """Counters and histograms of one proxy."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._queries = Counter(
            "skyshard_queries", "Distributed queries", ["strategy", "outcome"], registry=self.registry
        )
        self._seconds = Histogram(
            "skyshard_query_seconds", "Seconds per query", ["strategy"], registry=self.registry
        )
        self._rows = Counter("skyshard_rows", "Rows sent to clients", registry=self.registry)
        self._bytes = Counter("skyshard_bytes", "Bytes of rows read from agents", registry=self.registry)
        self._chunks = Counter("skyshard_chunks", "Chunks answered", registry=self.registry)
        self.short = Counter(
            "skyshard_look_ups", "Look-ups by key that took the short way", registry=self.registry
        )
        self.sessions = Gauge("skyshard_sessions", "Open sessions", registry=self.registry)
        self.running = Gauge(
            "skyshard_running_queries", "Distributed queries that run", registry=self.registry
        )
        self._lanes = Gauge(
            "skyshard_lane",
            "Distributed queries that run or wait for a slot, and users whose queries wait, by lane",
            ["lane", "what"],
            registry=self.registry,
        )
        self.waited = Histogram(
            "skyshard_admission_seconds",
            "Seconds that queries waited for a slot",
            ["lane"],
            registry=self.registry,
        )
        self._up = Gauge(
            "skyshard_worker_up", "1 if the agent and its MariaDB answer", ["worker"], registry=self.registry
        )
        self.budget = Gauge("skyshard_budget_bytes", "Bytes of rows in the process", registry=self.registry)
        self.bad_copies = Gauge(
            "skyshard_bad_copies", "Copies of chunks that queries have found bad", registry=self.registry
        )
        self.auto_repair = Gauge(
            "skyshard_auto_repair_seconds",
            "Seconds after which missing copies are made again by themselves; 0: that does not run",
            registry=self.registry,
        )
        self.missing_copies = Gauge(
            "skyshard_missing_copies",
            "Copies of chunks that the automatic repair misses",
            registry=self.registry,
        )
        self._jobs = Gauge(
            "skyshard_jobs",
            "Jobs that wait or run, in all proxies together",
            ["state"],
            registry=self.registry,
        )
        self.workers = Gauge("skyshard_workers", "Workers by state", ["state"], registry=self.registry)

    def query_done(
        self, strategy: str, outcome: str, seconds: float, rows: int, size: int, chunks: int
    ) -> None:
        """Count a finished query."""
        self._queries.labels(strategy, outcome).inc()
        self._seconds.labels(strategy).observe(seconds)
        self._rows.inc(rows)
        self._bytes.inc(size)
        self._chunks.inc(chunks)

    def admitted(self, admissions: Admissions) -> None:
        """Note who runs and who waits."""
        for name, lane in (("interactive", admissions.interactive), ("scan", admissions.scans)):
            for what, number in (
                ("running", lane.running),
                ("waiting", lane.waiting),
                ("users waiting", lane.users),
            ):
                self._lanes.labels(name, what).set(number)

    def jobs(self, states: Mapping[str, int]) -> None:
        """Note how many jobs there are in each state of theirs."""
        for state, status in (("waiting", "QUEUED"), ("running", "EXECUTING")):
            self._jobs.labels(state).set(states.get(status, 0))

    def worker(self, name: str, up: bool) -> None:
        """Note whether a worker answers."""
        self._up.labels(name).set(up)
