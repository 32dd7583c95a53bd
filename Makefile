# Two commands do everything on a machine with Python and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Not --quiet: it hides the warnings from --strict, too, and nothing would fail.
BUILD_DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
# Tests run in as many processes as there are cores: more threads would wait, spinning.
export OPENBLAS_NUM_THREADS := 1
# Large arrays are made and dropped by the thousand: keep their pages (glibc), a third of the time.
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 268435456
# Modules are compiled once, where the surroundings forbid it too: every process would, each time.
export PYTHONDONTWRITEBYTECODE :=

# What the two commands of the demo import; the rest of the dependencies is not installed for it.
DEMO := .demo
DEMO_NEEDS := click msgspec numpy polars rich scipy

.PHONY: demo test checks compiled format docs bench bounds fuzz mutate real clean
demo: $(DEMO)/.ready
	$(DEMO)/bin/python examples/demo.py

# A file's tests share what they prepare: one process has them all.
test: $(READY)
	$(MAKE) --no-print-directory --jobs=2 checks compiled
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

checks: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell src tests docs examples benchmarks README.md CHANGELOG.md CONTRIBUTING.md
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BUILD_DOCS)

# The simulator's kernels and the modules of the tests, once: two processes of tests would each
# compile their own. What a module is wrong about, the tests tell.
PLAY := simulate --prompt 10 --decode geometric:20 --latency deepseek-v3-ascend-910c --batch-size 4 \
  --attention-workers 2 --requests 100
compiled: $(READY)
	$(BIN)/afdplan $(PLAY) > /dev/null
	$(BIN)/afdplan $(PLAY) --policy longest-prompt > /dev/null
	$(BIN)/afdplan $(PLAY) --execution barrier-free > /dev/null
	-$(BIN)/python -m pytest --collect-only -qq > /dev/null

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

# What no one means, in thousands of seeded calls of commands and readers; the tests try a few.
FIRST ?= 0
fuzz: $(READY)
	$(BIN)/python -m tests.property.fuzzing --cases 20000 --first $(FIRST)
	AFDPLAN_FUZZ_CASES=2000 $(BIN)/python -m pytest tests/property/test_hostile_numbers.py

# Would a test notice? One planted fault after the other, tried on the tests that run its function:
# make mutate MODULE=src/...py, or MODULE="src/afdplan/theory --sample 40" (delete reach.json to
# note anew which tests run what)
mutate: $(READY)
	test -f .pytest_cache/reach.json || $(BIN)/python -m benchmarks.reach tests/unit tests/law tests/cli
	$(BIN)/python -m benchmarks.mutate $(MODULE)

# vLLM on the CPU, three clients and Prometheus: is read what they write? (3.4 GB in build/real)
real: $(READY)
	$(BIN)/python -m benchmarks.real_parts

clean:
	rm -rf $(VENV) $(DEMO)

$(DEMO)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt $(DEMO_NEEDS)
	$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@touch $@
