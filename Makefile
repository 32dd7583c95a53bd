# Two commands do everything on a machine with Python and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Not --quiet: it hides the warnings from --strict, too, and nothing would fail.
BUILD_DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: demo test format docs bench bounds fuzz real clean
demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell src tests docs examples benchmarks README.md CHANGELOG.md CONTRIBUTING.md
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BUILD_DOCS)
	$(BIN)/python -m pytest -n 2

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)
	$(BUILD_DOCS)

bench: $(READY)
	$(BIN)/python -m benchmarks

# The compiled kernel with every index checked, against its readable twin.
bounds: $(READY)
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$$(mktemp -d) $(BIN)/python -m pytest tests/twin

# Numbers that no one means, in thousands of seeded calls of the commands; the tests try a few.
fuzz: $(READY)
	AFDPLAN_FUZZ_CASES=2000 $(BIN)/python -m pytest tests/property/test_hostile_numbers.py

# vLLM on the CPU, three clients and Prometheus: is read what they write? (3.4 GB in build/real)
real: $(READY)
	$(BIN)/python -m benchmarks.real_parts

clean:
	rm -rf $(VENV)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
