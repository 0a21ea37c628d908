# Each target does all its own set-up: an environment in .venv, and spikeport in it.
BIN := .venv/bin

.PHONY: help demo test lint format
help:
	@echo "make demo    train a small network on digits, convert it, let it decide early: ./spikeport-demo/report.html"
	@echo "make test    run the tests (PYTEST='-k digits' hands arguments to pytest)"
	@echo "make lint    ruff and mypy"
	@echo "make format  let ruff rewrite the files"

demo:
	@.ci/environment
	@$(BIN)/spikeport demo --overwrite $(DEMO)

test:
	@.ci/environment dev
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(PYTEST)

lint:
	@.ci/environment dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy -p spikeport

format:
	@.ci/environment dev
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format
