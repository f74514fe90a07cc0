# channels-trunk. Each command makes what it needs, in .venv, on its first run.
.DEFAULT_GOAL := help
.PHONY: help demo test lint types imports bench clean format prepare-demo prepare-dev

# find_python.sh says what is missing when there is no suitable Python. PYTHON=/path/to/python names one.
prepare = python="$$(PYTHON='$(PYTHON)' sh tools/find_python.sh)" && "$$python" -m tools.bootstrap
venv := .venv/bin

help:
	@echo "make demo    a chat in two server processes over one SQLite file; prints its address"
	@echo "make test    everything: format, lint, types, import rules, all tests; installs the servers that tests need"
	@echo "make lint    format check and lint          make types    mypy, strict"
	@echo "make imports import rules                   make format   rewrites the files as lint wants them"
	@echo "make bench   every layer beside its peers: half an hour; BENCH_ARGS=--quick: three minutes"
	@echo "make clean   removes what the others made"

prepare-demo prepare-dev: prepare-%:
	@$(prepare) $*

demo: prepare-demo
	@echo "==> starting the chat"
	@exec $(venv)/python examples/chat/run.py

test: lint types imports
	@echo "==> servers that the tests use"
	@$(venv)/python -m tools.ensure_servers
	@echo "==> tests"
	@$(venv)/python -m tools.run_tests $(PYTEST_ARGS)
	@echo "==> all of it passed"

lint: prepare-dev
	@echo "==> format"
	@$(venv)/ruff format --check .
	@echo "==> lint"
	@$(venv)/ruff check .

types: prepare-dev
	@echo "==> types"
	@$(venv)/mypy

imports: prepare-dev
	@echo "==> import rules"
	@$(venv)/lint-imports --no-logo --no-cache

format: prepare-dev
	@$(venv)/ruff format .
	@$(venv)/ruff check --fix .

bench: prepare-dev
	@$(venv)/python -m tools.ensure_servers redis postgres rabbitmq
	@$(venv)/python benchmarks/run.py --out benchmarks/results/latest $(BENCH_ARGS)

clean:
	rm -rf .venv .venv-peers .servers build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis examples/chat/var
	find . -path ./.git -prune -o -name __pycache__ -type d -exec rm -rf {} +
