# make demo: set up everything and take the tour.  make test: set up and pass the tests.
VENV ?= .venv
PY = $(VENV)/bin/python

.PHONY: setup demo test check bench

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
