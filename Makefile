# The two commands: make tables, make test. Both set up .venv from the lock file first.
PYTHON ?= python3
SCALE  ?= local
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: tables test lint compare clean

tables: $(READY)
	@$(RUN) snakemake --cores all --config scale=$(SCALE) \
	 || { $(RUN) snakemake --cores all --config scale=$(SCALE) partial=true; exit 1; }
	@echo "Report: results/$(SCALE)$(if $(REPRUNE_MIRROR),-mirror)/report.html"

test: $(READY)
	@$(RUN) python -m pytest $(TESTS)

lint: $(READY)
	@$(RUN) ruff check .
	@$(RUN) ruff format --check --quiet .
	@$(RUN) snakefmt --check Snakefile workflow
	@$(RUN) snakemake --lint

compare: $(READY)
	@$(RUN) reprune compare results/$(SCALE)/records.csv results/reference/$(SCALE)/records.csv

$(READY): envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Reprune needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean:
	rm -rf results/local results/smoke results/runs results/inputs results/.store .snakemake
