# Every target makes .venv by itself and is safe to repeat. Needs Python 3.11 or 3.12 with its venv module.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0
CHANNELS ?= audio,dense,exo,depth3d

# Progress of long steps shows at once, also when the output goes to a file.
export PYTHONUNBUFFERED := 1

.PHONY: demo demo-ui test test-slow lint clean
.NOTPARALLEL:

demo: $(VENV)/.installed
	$(BIN)/pave demo --seed $(SEED) --channels $(CHANNELS)

demo-ui: $(VENV)/.installed-ui
	$(BIN)/pave demo-ui

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Removes what the targets made; features under data/ and runs under out/ stay, except the demo's.
clean:
	rm -rf $(VENV) out/demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last, so an interrupted installation is done again.
$(VENV)/.installed: pyproject.toml
	$(make_venv)
	$(BIN)/python -m pip install --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-ui: pyproject.toml
	$(make_venv)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[ui]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml
	$(make_venv)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	$(install_chromium)
	touch $(VENV)/.installed $(VENV)/.installed-ui $@

# The pages are tested in Debian's Chromium; where it cannot be installed, these tests are skipped and say so.
define install_chromium
@command -v chromium >/dev/null || \
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
  echo "no Chromium: the tests in a browser will be skipped; on Debian: apt-get install chromium" >&2
endef

# Keeps a .venv that works; makes it anew when it is missing, broken, or was made at another path.
define make_venv
@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
  { echo "PAVE needs Python 3.11 or 3.12; name one with: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
@grep -qsF "$(CURDIR)/$(VENV)/" $(BIN)/pip && $(BIN)/python -m pip --version >/dev/null 2>&1 || \
  "$(PYTHON)" -m venv --clear $(VENV) || \
  { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
endef
