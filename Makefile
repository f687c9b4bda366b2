# Every target sets up what it needs: a fresh clone and `make demo` or `make test` are enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test coverage lint docs bench chaos notebooks clean
.DEFAULT_GOAL := test

.venv/user: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv: torch and its libraries are several GB, which takes minutes; pip says below what it is at."
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[all]'
	touch $@

.venv/dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv: torch and its libraries are several GB, which takes minutes; pip says below what it is at."
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	touch $@ .venv/user

demo: .venv/user
	$(BIN)/xr-rsembed demo

# Two processes of one thread each: the tests are many and small.
test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: .venv/dev
	$(BIN)/python -m benchmarks

chaos: .venv/dev
	$(BIN)/python -m tests.chaos.run_chaos
	$(BIN)/python -m tests.chaos.run_chaos --place s3
	$(BIN)/python -m tests.chaos.run_chaos --place obstore
	$(BIN)/python -m tests.chaos.run_chaos --place icechunk --runs 10
	$(BIN)/python -m tests.chaos.every_step
	$(BIN)/python -m tests.chaos.run_regions
	$(BIN)/python -m tests.chaos.run_regions --workers
	$(BIN)/python -m tests.chaos.provider_faults 1000

coverage: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --cov=xr_rsembed --cov-report=term-missing:skip-covered

notebooks: .venv/dev
	$(BIN)/python -m pytest --nbmake notebooks

clean:
	rm -rf .venv demo docs/_build docs/api/generated
