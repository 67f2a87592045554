# Every target works on a fresh clone: it makes .venv and installs the package into it first.
#
#   make install   the `diffseglung` command, in .venv/bin
#   make demo      segment a real CT and a phantom with known lesions; pictures and numbers in out/demo
#   make test      the tests that need no GPU and no data from elsewhere
#   make coverage  the same with branch coverage, child processes included: at least 90 %; also make test COVERAGE=yes
#   make mutants   mutation testing: change lines of the package, and list the changes that no test noticed (half an hour)
#   make promises  break the lines behind each documented guarantee; a named test must fail
#   make test-lowest, test-newest   the tests with the lowest allowed or the newest versions (PyTorch with CUDA: 7 GB)
#   make check     lint, format and types
#   make torture   fault injection: kills, low memory, full disks; nothing may be lost (half an hour)
#   make fuzz      read thousands of damaged and hostile files (half an hour)
#   make lock      update requirements.lock and the bill of materials;  make audit   check for known vulnerabilities
#   make docs      build the documentation site, in site/
#   make clean     remove everything the above created

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TEST_PROCESSES ?= 2
KILLS ?= 40
INPUTS ?= 9000
GUIDED_S ?= 60
MUTANTS ?= 30
TESTS ?= tests

.PHONY: help install demo test coverage mutants promises test-lowest test-newest check torture fuzz lock audit docs clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed\n  try: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a few minutes on the first run)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(STAMP)
	@echo "ready: $(BIN)/diffseglung --help"

demo: $(STAMP)
	@$(BIN)/python scripts/demo.py --out out/demo

test: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal \
	    $(if $(filter-out no,$(COVERAGE)),--cov --cov-report=term --cov-fail-under=90) $(TESTS)

coverage:
	@$(MAKE) --no-print-directory test COVERAGE=yes

mutants: $(STAMP)
	@$(BIN)/python qa/mutants.py --each $(MUTANTS)

promises: $(STAMP)
	@$(BIN)/python qa/mutants.py --promises

test-lowest test-newest: test-%: pyproject.toml
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
	    $(if $(filter lowest,$*),-c constraints-lowest.txt) -e '.[dev]'
	@OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest -n $(TEST_PROCESSES) --dist worksteal $(TESTS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

torture: $(STAMP)
	@$(BIN)/python -m qa.torture -o out/torture --kills $(KILLS)

fuzz: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]' || true
	@$(BIN)/python -m qa.fuzz -o out/fuzz --inputs $(INPUTS) --guided $(GUIDED_S)

TOOLS := .venv-tools/bin

$(TOOLS)/uv:
	@$(PYTHON) -m venv .venv-tools
	@$(TOOLS)/python -m pip install --quiet --disable-pip-version-check uv pip-audit cyclonedx-bom

lock: $(TOOLS)/uv
	@$(TOOLS)/uv pip compile pyproject.toml --extra all --generate-hashes -c constraints.txt --python-version 3.11 \
	    --no-annotate --quiet --custom-compile-command 'make lock' -o requirements.lock
	@$(TOOLS)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible -o docs/sbom.cdx.json

audit: $(TOOLS)/uv
	@$(TOOLS)/pip-audit --disable-pip --require-hashes -r requirements.lock

docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/python -m mkdocs build --strict --site-dir site
	@echo "open site/index.html; with search: $(BIN)/python -m http.server --directory site --bind 127.0.0.1"

clean:
	rm -rf .venv .venv-lowest .venv-newest .coverage .coverage.* out site .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
