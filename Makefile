# Two commands set up everything: `make demo` and `make test`. Both install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processors whose modules are in the single file: x86_64, aarch64.
ARCHITECTURES ?= $(shell uname -m)
# Processes that run tests: one more than processors, for tests wait as often as they compute.
WORKERS ?= $(shell expr $$(nproc) + 1)

.PHONY: demo test test-fast test-fusepy test-vm test-container bench check format system clean dist zipapp man

demo: system $(STAMP) ## publish a real software tree, serve it, mount it, run from it
	$(BIN)/python tools/demo.py

test: system $(STAMP) check ## all checks and all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-fast: $(STAMP) ## the tests without the slow ones
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-fusepy: system $(STAMP) ## every test that mounts, by fusepy and libfuse 2; `make test` runs some of them by both bindings
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --fuse-binding fusepy tests/fuse tests/system tests/faults

check: $(STAMP) ## the checks that pre-commit and CI run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=.:server:tools $(BIN)/lint-imports

dist: $(STAMP) ## dist/: source distribution and wheel, the same bytes for the same commit
	rm -f dist/cvfs-*
	$(BIN)/python tools/release/distribution.py dist

zipapp: dist ## dist/cvfs.pyz: one file for machines with nothing but Python
	$(BIN)/python tools/release/single_file.py dist/cvfs-*-py3-none-any.whl dist/cvfs.pyz --architecture $(ARCHITECTURES)

test-vm: system $(STAMP) ## a virtual machine is made a client from outside, rebooted, cut off; minutes, the first time more
	./.ci/system-packages qemu-system-x86 debootstrap genisoimage e2fsprogs
	CVFS_VM=1 $(BIN)/python -m pytest -x tests/vm

test-container: system $(STAMP) ## the images are built from a base made here, and run by Podman; minutes
	./.ci/system-packages podman runc debootstrap
	CVFS_CONTAINER=1 $(BIN)/python -m pytest -x tests/deploy/test_image.py

bench: system $(STAMP) ## build/benchmarks/report: what it costs to run from a mount here, the quick set, in under five minutes
	$(BIN)/python -m benchmarks run

man: $(STAMP) ## generated/: manual pages, completion scripts for bash, zsh and fish
	$(BIN)/python tools/release/pages.py generated

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

system: ## Debian packages when root, else the line to run
	@./.ci/system-packages

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo-area build dist generated .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
