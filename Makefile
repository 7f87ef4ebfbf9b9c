# Everything is run from here. `make help` lists the commands.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Most tests of whole processes wait more than they work: four run side by side on two cores. A
# file's tests stay together: they share its servers. Files run in the order of their names: unit
# tests, which are many and quick, come last and leave no process idle. By default the files with
# few tests come last: whole processes, each of which takes a minute.
SIDE_BY_SIDE := --numprocesses 4 --dist loadfile --no-loadscope-reorder
# The suite starts hundreds of Python processes. Where this variable is set, each would compile all
# of Tokenwire again.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest $(SIDE_BY_SIDE)

.DEFAULT_GOAL := help
.PHONY: help run llamacpp check format test test-all simulate chaos fuzz mutants bench lock clean

## help: list the commands
help:
	@sed -n -e 's/^## \([a-z-]*\): /make \1\t/p' -e 's/^##   /\t/p' $(MAKEFILE_LIST) | expand -t 16

## run: start Tokenwire here: web, worker, broadcaster, and an embedded Valkey without REDIS_URL
run: $(VENV)/run.stamp
	@exec $(BIN)/python -m tokenwire.launcher

## llamacpp: a real model on port 8080: llama.cpp with SmolLM2-135M, fetched once
llamacpp: $(VENV)/dev.stamp
	@exec $(BIN)/python -m tests.servers.llamacpp

## check: format, lint and types of Python and JavaScript (where there are Node and npm), who
##   imports whom, dead code
check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/python -m tests.js.check

## format: write the format, mend what ruff can mend
format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tests.js.check --write

## test: every test that is not long (under 10 minutes)
test: $(VENV)/dev.stamp
	QUICK=yes $(PYTEST) -m "not long"

## test-all: every test
test-all: $(VENV)/dev.stamp
	$(PYTEST)

## simulate: simulated schedules full of faults (SEED=first, N=how many), or one of them again
simulate: $(VENV)/dev.stamp
	$(BIN)/python -m tests.simulation --seed $(or $(SEED),1) --n $(or $(N),4000)

## chaos: real processes under random faults (KILLS=how many, SEED=order, CHAOS=further options);
##   see docs/chaos.md
chaos: $(VENV)/dev.stamp
	$(BIN)/python -m tests.chaos --kills $(or $(KILLS),50) --seed $(or $(SEED),1) $(CHAOS)

## fuzz: damage recorded provider bodies N times from SEED, and say what did not hold
fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.fuzzing --seed $(or $(SEED),1) --n $(or $(N),200000)

## mutants: plant bugs, each in a copy of the project, and say which check notices (MUTANTS=area
##   or area/name, JOBS=side by side)
mutants: $(VENV)/dev.stamp
	$(BIN)/python -m tests.mutants --jobs $(or $(JOBS),2) $(MUTANTS)

## bench: the benchmarks (BENCHMARKS=name for one), as Markdown tables
bench: $(VENV)/peers.stamp
	$(BIN)/python -m benchmarks $(BENCHMARKS)

## lock: pin what pyproject.toml asks for, with hashes, for every supported Python and system
##   (UPGRADE=no: change as little as possible)
lock: $(VENV)/dev.stamp
	$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra dev --constraint requirements.lock \
		--output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --extra dev --extra peers --constraint requirements-dev.lock \
		--output-file requirements-bench.lock pyproject.toml
	for client in agents langchain openai; do \
		$(COMPILE_CLIENT) --output-file tests/e2e/clients/$$client.lock \
			tests/e2e/clients/$$client.in || exit 1; done

COMPILE_CLIENT := $(BIN)/uv pip compile --quiet $(if $(filter no,$(UPGRADE)),,--upgrade) \
	--universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url \
	--no-emit-find-links
COMPILE := $(COMPILE_CLIENT) --extra server --extra embedded

## clean: remove what was installed, built or cached; the data in var/ stays
clean:
	rm -rf $(VENV) *.egg-info build dist
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/venv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Tokenwire needs Python 3.11 or newer (set PYTHON=python3.x)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "Tokenwire needs Python's venv module (on Debian: apt install python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/run.stamp: requirements.lock $(VENV)/venv.stamp
	@echo "Installing into $(VENV), which takes about a minute ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "Installing development tools into $(VENV), which takes a minute or two ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/peers.stamp: requirements-bench.lock $(VENV)/dev.stamp
	@echo "Installing what the benchmarks compare with into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements-bench.lock
	@touch $@
