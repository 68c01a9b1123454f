# make install   .venv with everything, pinned by constraints.txt (idempotent)
# make demo      the whole workflow on the generated sample
# make test      the whole test suite
# make test-lowest TORCH=torch==2.13.0      the tests of the package with the lowest versions that pyproject.toml allows
# make reproduce RUN=results      the run of these results once more, compared voxel by voxel
# make clean-results RESULTS=results      all that runs wrote into a folder of results is removed, and nothing else
# make config    the pages generated from unet/config, the page of rules, and the table of formats
# make docs      the documentation with search, in site/; no network is needed
# make check     formatters, linters and types alone

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# Half as many again as there are cores: a test of the workflow often waits for a process that it started.
WORKERS := $(shell echo $$((3 * $$(nproc) / 2)))
INSTALLED := $(VENV)/.installed
LOWEST := .venv-lowest

.PHONY: install demo test test-lowest reproduce clean-results config docs check clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
		{ echo "No venv module: on Debian or Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	@touch $(INSTALLED)

demo: install
	$(BIN)/snakemake --cores all --configfile config/config.yaml

test: install
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	echo "$(TORCH)" > $(LOWEST)/given.txt
	UV_FIND_LINKS="$(PIP_FIND_LINKS)" $(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --extra test \
		--constraint $(LOWEST)/given.txt --python $(LOWEST)/bin/python --output-file $(LOWEST)/versions.txt pyproject.toml
	UV_FIND_LINKS="$(PIP_FIND_LINKS)" $(LOWEST)/bin/uv pip sync --quiet --python $(LOWEST)/bin/python $(LOWEST)/versions.txt
	PYTHONPATH=$(CURDIR) PATH=$(CURDIR)/$(LOWEST)/bin:$$PATH $(LOWEST)/bin/python -m pytest --numprocesses $(WORKERS) \
		--dist loadfile tests/unit tests/scripts

reproduce: install
	@test -n "$(RUN)" || { echo "Which run? make reproduce RUN=results" >&2; exit 1; }
	$(BIN)/python -m unet.run.reproduce "$(RUN)"

clean-results: install
	$(BIN)/python -m unet.run.removal "$(or $(RESULTS),results)"

config: install
	$(BIN)/python -m unet.config.pages
	$(BIN)/python docs/rules_page.py
	$(BIN)/python docs/formats_table.py

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open site/index.html, or see it with search: $(VENV)/bin/python -m http.server --directory site"

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check workflow

clean:
	rm -rf $(VENV) $(LOWEST) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
