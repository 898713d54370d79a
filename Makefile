# Each target does its own set-up in .venv, with nothing but Python 3.11 or newer and make on the machine.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test lint types check pytest pictures coverage format bench clean

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq install

# Lets a message of pyright's wrapper about its own newer versions out of the log.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

help:                                ## shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.runtime               ## kills an order half-way, and sees it completed by the next process
	@$(BIN)/python examples/demo.py

# Types are checked while tests wait for a disk, a clock or another process; what is said of them is shown in the end.
# The tests are compiled before: each worker would compile all of them, and wait for itself.
test: lint $(VENV)/.browser          ## everything that must hold before a commit
	@$(MAKE) --no-print-directory types >$(VENV)/types.log 2>&1 & types=$$!; \
	$(BIN)/pytest -q --collect-only >/dev/null; \
	$(MAKE) --no-print-directory pytest; tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/types.log; exit $$((tests || types))

lint: $(VENV)/.dev                   ## ruff: rules and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(VENV)/.dev                  ## mypy strict on src, pyright strict on code as users write it
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python

# Twice as many as processors, since many tests wait for a disk, a clock or another process; but no crowd.
WORKERS := $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? 2 * n : 8)))

pytest: $(VENV)/.dev $(VENV)/.browser  ## the tests alone
	@$(BIN)/pytest -q -p no:cov -n $(WORKERS) --dist worksteal

pictures: $(VENV)/.dev $(VENV)/.browser  ## the pictures of the page in docs/images, drawn anew
	@$(BIN)/pytest -q tests/page/pictures.py

# Every line and branch of these was executed; what is not there yet is shown by `make coverage` above them.
COVERED := $(addprefix _codec/,__init__ annotations belonging choices classes conversion exact exceptions fitting hooks \
    json_text leaves misfit plain records shapes tagged tuples typed untyped) __init__ __main__ _active _aftermath _ancestry _arguments _attempts _batch \
    _beginning _branches _claims _clock _commits _database _decorated _drive _drive_async _effects _engine _entries \
    _execution _fork _format _going_back _identity _inherited _journal _limits _listing _logger _loop_hooks _lost _model \
    _new_outcomes _operations _outcome _owner _parallel _past_order _patience _pauses _place _port _progress _reading \
    _records _rehearsal _replay _requests _rests _results _retention _retry _run_task _running _running_async _runtime \
    _scheduler _scopes _set_back _signature _stand_ins _steering _steps _suspension _task_inspection _telling _thread_pool \
    _threads _timeouts _timer _transaction _waits _wal _watching _workflows aio errors run
empty :=
space := $(empty) $(empty)
comma := ,

# Not tests/crash and tests/faults: a process that is killed tells nothing of what it executed, and they kill thousands.
# It takes twice as long as the tests alone. The warnings in the end are of data that a process could not write, since it
# was killed or had a limit on the size of its files.
coverage: $(VENV)/.dev $(VENV)/.browser  ## the tests with branch coverage
	@$(BIN)/pytest -q -n auto --dist worksteal -m "not unwatched" --ignore=tests/crash --ignore=tests/faults \
	    --cov --cov-report=term
	@$(BIN)/coverage report --fail-under=100 \
	    --include='$(subst $(space),$(comma),$(COVERED:%=src/durable/%.py))'

.PHONY: mutation
mutation: $(VENV)/.dev               ## faults made in the pure core, that the tests have to notice: takes half an hour
	@$(PIP_INSTALL) --editable '.[mutation]'
	@$(BIN)/mutmut run
	@$(BIN)/python tests/killed_mutants.py

format: $(VENV)/.dev                 ## formats, and mends what ruff can mend
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

# `make bench ARGS="--only replay --repeat 3"`; the same for bench-peers.
bench: $(VENV)/.dev                  ## the figures of docs/benchmarks.md, against this disk
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: faults
faults: $(VENV)/.dev                 ## the trials of docs/reliability.md at full size: takes hours
	@$(BIN)/python -m tests.faults all --full $(ARGS)

.PHONY: corpus
corpus: $(VENV)/.dev                 ## whether `durable check` says of changed programs what happens to them: an hour
	@$(BIN)/python -W ignore -m tests.cli.corpus $(ARGS)

.PHONY: bench-peers
bench-peers: $(VENV)/.dev            ## the same steps with other libraries, installed into .bench/
	@$(BIN)/python -m benchmarks.peers $(ARGS)

clean:                               ## removes .venv and what tools leave behind
	rm -rf $(VENV) .bench mutants build dist .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp each: the environment, what the library needs, what its development needs.

$(VENV)/.runtime: $(VENV)/.made pyproject.toml
	@echo "installing durable into $(VENV)"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "installing durable and its development tools into $(VENV)"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.runtime

# The browser of the tests of `durable ui`. Where none can be installed, these tests are skipped and say so.
$(VENV)/.browser: $(VENV)/.dev
	@if ! { command -v chromium && command -v chromedriver; } >/dev/null 2>&1; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	        echo "installing chromium for the tests of durable ui"; \
	        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
	            chromium chromium-driver fonts-dejavu-core; } >$(VENV)/browser.log 2>&1 || cat $(VENV)/browser.log >&2; \
	    fi; \
	fi
	@touch $@

# An environment that no longer runs, that a broken set-up left, or that was moved here with its folder is made anew.
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(VENV)/.made 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.made
endif

# `make PYTHON=... test` chooses the Python. Probed by running: a name on PATH may be a shim that leads nowhere.
PYTHON ?= python3.13 python3.12 python3.11 python3.14 python3 python
PROBE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

$(VENV)/.made:
	@for python in $(PYTHON); do \
	    if $$python -c '$(PROBE)' >/dev/null 2>&1; then \
	        echo "making $(VENV) with $$($$python -V)"; \
	        rm -rf $(VENV) && $$python -m venv $(VENV) && echo '$(CURDIR)' >$@ && exit 0; \
	        exit 1; \
	    fi; \
	done; \
	echo 'make: no Python 3.11 or newer with venv and ensurepip among: $(PYTHON)' >&2; \
	echo 'make: install one (on Debian with python3-venv), or name it: make PYTHON=/path/to/python3 ...' >&2; \
	exit 1
