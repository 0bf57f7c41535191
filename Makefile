# make demo: set up everything and take the tour.  make test: set up and pass the tests.
# make fuzz: compare generated queries with plain MariaDB.
# make bench: beside plain MariaDB and Spider; BENCH=--quick for a small one, BENCH=--large for a result of 10 GB, too.
# make chaos: kill, stop and restart workers, spoil connections, and kill proxies, under queries and jobs that are compared with
#   plain MariaDB, and all parts under ingests.
# make properties: the property tests on 100 times more random examples.
# make clients: install the SQL clients.  make test-clients: run them against skyshard and plain MariaDB.
# make test-load: a million hostile packets, 2,000 idle and 100 busy connections.
VENV ?= .venv
PY = $(VENV)/bin/python

.PHONY: setup demo test check bench fuzz chaos properties clients test-clients test-load docs-clients

setup:
	bash scripts/setup.sh $(VENV)

demo: setup
	bash scripts/demo.sh $(VENV)

test: setup check
	$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests

clients: setup
	bash scripts/clients.sh .clients

test-clients: clients
	$(PY) -m pytest -q tests/clients

test-load: setup
	SKYSHARD_IDLE=2000 SKYSHARD_BUSY=100 SKYSHARD_FUZZ_CASES=1000000 $(PY) -m pytest -q tests/proxy/test_connections.py tests/proxy/test_hostile.py

properties: setup
	SKYSHARD_PROPERTIES=search $(PY) -m pytest -q tests/shard tests/proxy/execute/test_core.py tests/skyshard/ingest/test_keys.py tests/skyshard/ingest/test_delimited.py

docs-clients: test-clients
	$(PY) -m tests.clients.table

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: setup
	bash scripts/bench.sh $(VENV)
	$(PY) benchmarks/bench.py --write benchmarks/runs $(BENCH)

# Generated queries on a cluster and on one plain MariaDB: make fuzz N=20000 SEED=3
N ?= 2000
SEED ?= 1
fuzz: setup
	$(PY) -m tests.fuzz.run --count $(N) --seed $(SEED)

# Faults of workers, one or two at a time, while queries run: make chaos N=200 SEED=3 (N of its own: 50)
chaos: N = 50
chaos: setup
	$(PY) -m tests.faults.chaos --count $(N) --seed $(SEED)
	$(PY) -m tests.faults.chaos --count $(N) --seed $(SEED) --workers 4 --replicas 3
	$(PY) -m tests.faults.network --count $(N) --seed $(SEED)
	$(PY) -m tests.faults.jobs --count 100 --seed $(SEED)
	$(PY) -m tests.faults.ingest --count $(N) --seed $(SEED)
