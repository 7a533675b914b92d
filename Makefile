# The two commands: make tables, make test. Both set up .venv from the lock file first.
PYTHON ?= python3
SCALE  ?= local
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
OUT    := $(SCALE)$(if $(REPRUNE_MIRROR),-mirror)
RUN    := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: tables inputs test lint compare reference base-model clean

tables: $(READY)
	@$(RUN) snakemake --cores all --config scale=$(SCALE) \
	 || { $(RUN) snakemake --cores all --config scale=$(SCALE) partial=true; exit 1; }
	@echo "Report: results/$(OUT)/report.html"

inputs: $(READY)
	@$(RUN) snakemake --cores all --config scale=$(SCALE) --until draw_calibration fetch_task fetch_instructions fetch_parallel fetch_parser

test: $(READY)
	@$(RUN) python -m pytest $(TESTS)

lint: $(READY)
	@$(RUN) ruff check .
	@$(RUN) ruff format --check --quiet .
	@$(RUN) snakefmt --check Snakefile workflow
	@$(RUN) snakemake --lint

compare: $(READY)
	@$(RUN) reprune compare results/$(OUT)/records.csv results/reference/$(OUT)/records.csv

# The small outputs of a run, kept in the repository for comparison; no rule reads them. What was kept of units that
# this run has not stays.
reference:
	mkdir -p results/reference/$(OUT)
	cp results/$(OUT)/records.csv results/$(OUT)/report.txt results/$(OUT)/report.html results/reference/$(OUT)/
	cd results/$(OUT) && for unit in */; do rm -rf ../reference/$(OUT)/$$unit; done
	cd results/$(OUT) && tar -cf - --exclude='.*' $$(find * -name tables -o -name plots -o -name claims.json) \
	  | tar -xf - -C ../reference/$(OUT)

# The translation model that head pruning starts from, trained again from nothing (about an hour) and put in its place.
base-model: $(READY)
	@$(RUN) snakemake --cores all voita_heads_base --config scale=full
	cp results/inputs/models/translator-en-de-trained-*/[!.]* papers/voita_heads/base/

$(READY): envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Reprune needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean:
	rm -rf results/local results/smoke results/runs results/inputs results/.store .snakemake
