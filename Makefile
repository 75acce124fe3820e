# Two commands, nothing before them: `make demo` and `make test`.
# They need Python >= 3.11 with venv, git and make. Every Python package goes into .venv; pip's own cache keeps the
# downloads outside the clone.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := aurora_actors plugins tests docs setup.py

.DEFAULT_GOAL := help
.PHONY: help demo nemesis soak test install servers checks lint types mypy pyright bench foreign docs clean

help:
	@echo "make demo    take the writer of a real local cluster away from an application, four times"
	@echo "             [COLOUR=async on asyncio, ENGINE=mysql, SABOTAGE=1 to see it fail, ARGS=...]"
	@echo "make test    lint, types, documentation and every test                              [ARGS=... for pytest]"
	@echo "make nemesis workloads under random faults, and a check of every write     [MINUTES=5 SEED=... ENGINE= COLOUR= ARGS=]"
	@echo "make soak    many failovers in one process, and what is left of them       [FAILOVERS=100 CONNECTIONS=50 ARGS=]"
	@echo "make bench   beside the raw driver, libpq's loop and the AWS wrapper    [ARGS='--quick', '--rows peer', '--rows cost,many']"
	@echo "make foreign tests of SQLAlchemy, Django and MySQL Connector on the drivers and on ours    [ARGS='--driver mysql']"
	@echo "make lint | types | docs | clean"

demo: $(STAMP)
	@$(BIN)/aurora-actors demo $(ARGS)

nemesis soak: $(STAMP)
	@$(BIN)/python -m aurora_actors.lab.nemesis $@ $(ARGS)

# Every check runs, even after one failed, and the tests come last: the end of the output is pytest's summary.
test: servers
	@checks=0; $(MAKE) --no-print-directory -k -j2 checks || checks=1; \
	echo "== pytest, in three parts side by side"; $(BIN)/python -m tests.parts $(ARGS); tests=$$?; \
	if [ $$checks -ne 0 ]; then echo "make test: a check before the tests failed, see above" >&2; exit 1; fi; \
	exit $$tests

checks: lint mypy pyright
types: mypy pyright

lint: $(STAMP)
	@echo "== ruff"; $(BIN)/ruff check --quiet --output-format concise $(CODE)
	@echo "== pylint (duplicate code)"; $(BIN)/pylint --disable=all --enable=R0801 --min-similarity-lines=6 \
	    --ignore-signatures=y --ignore-imports=y --score=n aurora_actors plugins

mypy: $(STAMP)
	@echo "== mypy"; $(BIN)/mypy --no-error-summary

pyright: $(STAMP)
	@echo "== basedpyright"; $(BIN)/basedpyright

bench: $(STAMP)
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || \
	    { $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' && rm -rf aurora_actors.egg-info; }
	@$(BIN)/python -m tests.benchmarks.run $(ARGS)

foreign: $(STAMP)
	@$(BIN)/python -m tests.foreign.run $(ARGS); one=$$?; $(BIN)/python -m tests.foreign.django_suite; exit $$((one | $$?))

docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site && echo "site/index.html"

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(STAMP)

# MariaDB from apt, as root on Debian; a current MySQL into the lab's cache. What cannot be had is said, and skipped.
servers: $(STAMP)
	@$(BIN)/python -m aurora_actors.lab.mysql_fetching || true

# The first interpreter that runs and is new enough. Shims of version managers may exist and yet not run.
define FIND_PYTHON
for python in $${PYTHON:-} python3.13 python3.12 python3.11 python3 python3.14 python; do
    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then echo "$$python"; exit 0; fi
    package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update -qq && apt-get install -qq -y "$$package"; } >&2 || continue
        if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then echo "$$python"; exit 0; fi
    else
        echo "$$python has no venv module; on Debian and Ubuntu: apt-get install $$package" >&2
    fi
done
echo "make: Python >= 3.11 with venv is needed; none found on PATH (PYTHON=/path/to/python names another)" >&2
exit 1
endef
export FIND_PYTHON

$(STAMP): pyproject.toml setup.py
	@python=$$(bash -c "$$FIND_PYTHON") && echo "== $$($$python --version) -> $(VENV)" && \
	if ! $(BIN)/python -c 'import pip' >/dev/null 2>&1; then rm -rf $(VENV) && $$python -m venv $(VENV); fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@rm -rf aurora_actors.egg-info  # left by the build; from the root of the clone it would hide the installed metadata
	@touch $@
