# The front door. `make book` and `make test` need Python 3.11 or newer, make and a package index, nothing else.
#
#   make book                                          set up, run every notebook (small scale), render the site
#   make test                                          set up, then unit, notebook and browser tests
#   make page NB=notebooks/<part>/<slug>.ipynb         rerun one page and compare it with the published one
#        [P="seed=7 lr=0.1"] [SCALE=full]              ... with other parameters, at the full scale
#   make compare NB=... RUN=<executed>.ipynb           ... with any run of it; fails where a verdict changed
#   make small | make full [PROFILE=default|slurm]     run every notebook at that scale, without rendering
#   make sweep FILE=sweeps/<name>.yml [PROFILE=...]    one notebook over a grid of parameters: a table and a plot
#   make new SLUG=... PART=... ARXIV=...               begin a page [TITLE="..."] [AUTHORS="A One, B Two"]
#   make site                                          render what has been run already
#   make bench | make serve | make clean               benchmarks; the site on localhost:8000; remove _build
PYTHON ?= python3
PROFILE ?= default
SCALE ?= small
SHELL := /bin/bash

PY := .venv/bin/python
READY := .venv/.ready
PIP := $(PY) -m pip install --quiet --quiet --disable-pip-version-check

.PHONY: book test page compare small full sweep new site bench serve clean
.DELETE_ON_ERROR:

book: $(READY)
	@$(PY) workflow/go.py small $(PROFILE); ran=$$?; $(PY) -m repro.site build && exit $$ran

test: $(READY)
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests notebooks --nbval-lax --nbval-current-env --nbval-cell-timeout 120 \
	  -n 2 --dist loadscope $(ARGS)

small full: $(READY)
	@$(PY) workflow/go.py $@ $(PROFILE) $(ARGS)

# The table is made of what there is, also where a setting failed; make's status tells.
sweep: $(READY)
	@test -n "$(FILE)" || { echo 'usage: make sweep FILE=sweeps/<name>.yml [PROFILE=default]' >&2; exit 2; }
	@$(PY) -m repro.sweep check $(FILE)
	@$(PY) workflow/go.py sweep $(PROFILE) --config sweep=$(FILE) $(ARGS); ran=$$?; \
	  $(PY) -m repro.sweep table $(FILE) && exit $$ran

new: $(READY)
	@test -n "$$SLUG" -a -n "$$PART" -a -n "$$ARXIV" || \
	  { echo 'usage: make new SLUG=data-diet PART=data ARXIV=2107.07075 [TITLE="..."] [AUTHORS="..."]' >&2; exit 2; }
	@$(PY) -m repro.new "$$SLUG" --part "$$PART" --arxiv "$$ARXIV" --title "$$TITLE" --authors "$$AUTHORS"

site: $(READY)
	@$(PY) -m repro.site build

# P="a=1 b=2" becomes: -p 'a' '1' -p 'b' '2'
OUT = $(patsubst notebooks/%,_build/runs/page/%,$(NB))
PAIRS = $(foreach pair,$(P),-p '$(firstword $(subst =, ,$(pair)))' '$(patsubst $(firstword $(subst =, ,$(pair)))=%,%,$(pair))')
FILES = $(if $(filter full,$(SCALE)),-f $(NB:.ipynb=.full.yml))
PUBLISHED = $(if $(filter full,$(SCALE)),$(wildcard $(NB:notebooks/%=results/full/%)),$(NB))

page: $(READY)
	@test -n "$(NB)" || { echo 'usage: make page NB=notebooks/<part>/<slug>.ipynb [P="seed=7"] [SCALE=full]' >&2; exit 2; }
	@$(PY) -m repro.run $(NB) $(OUT) --scale $(SCALE) $(FILES) $(PAIRS)
	@$(PY) -m repro.compare $(OUT) $(PUBLISHED) || [ $$? = 1 ]   # other parameters may change a verdict
	@echo "The executed page is $(OUT)"

compare: $(READY)
	@test -n "$(NB)" -a -n "$(RUN)" || { echo 'usage: make compare NB=<published>.ipynb RUN=<executed>.ipynb' >&2; exit 2; }
	@$(PY) -m repro.compare $(RUN) $(NB)

bench: $(READY)
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(PY) $$file || exit 1; done

serve:
	@$(PYTHON) -m http.server --bind 127.0.0.1 --directory _build/html 8000

clean:
	rm -rf _build

# torch first and by its exact pin: from a range pip would weigh, and fetch, several multi-gigabyte builds.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11; say which one to use: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { echo "$(PYTHON) cannot make virtual environments (on Debian or Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Installing the packages of constraints.txt into .venv (minutes, once)"
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) --constraint constraints.txt --editable '.[test]'
	@touch $@
