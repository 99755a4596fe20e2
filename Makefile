# make demo | make demo SCAN=scan.nii.gz | make test | make test-slow | make lint | make format | make bench | make clean
# Each sets itself up in $(VENV), once for each change of pyproject.toml or constraints.txt.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PY := $(BIN)/python
REQUIREMENTS := pyproject.toml constraints.txt
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
BENCHMARKS := $(sort $(wildcard Testing/Benchmarks/bench*.py))
export SCAN

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint format bench clean

help:
	@sed -n '1,2s/^# //p' Makefile

demo: $(VENV)/.ready-to-run
ifdef SCAN
	$(BIN)/livertumorseg segment "$$SCAN" -o demo/
else
	$(BIN)/livertumorseg demo
endif

# In two processes: one that has run everything before can die of a stale signal stack, see conftest.py.
test: lint
	$(PY) -m pytest -m "not slow" Testing/Python/test_[a-o]*.py
	$(PY) -m pytest -m "not slow" Testing/Python/test_[p-z]*.py

test-slow: lint
	$(PY) -m pytest

lint: $(VENV)/.ready-to-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.ready-to-test
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(VENV)/.ready-to-test
	@test -n "$(BENCHMARKS)" || { echo "make bench: wanted Testing/Benchmarks/bench*.py, found none" >&2; exit 2; }
	@$(INSTALL) ".[report,train,cluster,slicer,test,bench]"
	set -e; for benchmark in $(BENCHMARKS); do $(PY) "$$benchmark"; done

clean:
	rm -rf build dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find LiverTumorSeg LiverTumorSegLib Testing -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready-to-run: $(REQUIREMENTS) | $(PY)
	@echo "Installing LiverTumorSeg into $(VENV) (minutes the first time) ..."
	@$(INSTALL) ".[report]"
	@touch $@

$(VENV)/.ready-to-test: $(REQUIREMENTS) | $(PY)
	@echo "Installing LiverTumorSeg and its test tools into $(VENV) (minutes the first time) ..."
	@$(INSTALL) ".[report,train,cluster,slicer,test]"
	@touch $@ $(VENV)/.ready-to-run

# Debian's python3 comes without ensurepip; its python3-pip can then fill an environment from outside.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "make: wanted Python 3.10 or newer as $(PYTHON), or name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	@if $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		$(PYTHON) -m venv "$(VENV)"; \
	elif $(PYTHON) -c 'import pip, venv' 2>/dev/null; then \
		$(PYTHON) -m venv --without-pip "$(VENV)" && \
		$(PYTHON) -m pip --quiet --python "$(PY)" install pip; \
	else \
		echo "make: $(PYTHON) cannot create virtual environments here; on Debian: apt-get install python3-venv" >&2; exit 2; \
	fi
