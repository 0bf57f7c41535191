# make demo: set up everything and take the tour.  make test: set up and pass the tests.
# make fuzz: compare generated queries with plain MariaDB.
VENV ?= .venv
PY = $(VENV)/bin/python

.PHONY: setup demo test check bench fuzz

setup:
	bash scripts/setup.sh $(VENV)

demo: setup
	bash scripts/demo.sh $(VENV)

test: setup check
	$(PY) -m pytest -q tests

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: setup
	$(PY) benchmarks/bench.py

# Generated queries on a cluster and on one plain MariaDB: make fuzz N=20000 SEED=3
N ?= 2000
SEED ?= 1
fuzz: setup
	$(PY) -m tests.fuzz.run --count $(N) --seed $(SEED)
