# Every command of the README. Works with GNU make 3.81 and later.

PYTHON ?= python3
PORT ?= 8080
ARGS =
N = 100

NUMBERS := 1 2 3 4 5 6
STEPS := $(sort $(wildcard step[1-6]_*))

# The virtual environments, each ready once the file that names its Python exists:
# an install that failed has left none, and another PYTHON looks for another.
READY := .venv/ready-$(subst /,-,$(PYTHON))
TOOLS_READY := tools/.venv/ready-$(subst /,-,$(PYTHON))
PYTEST := .venv/bin/python -m pytest
TOOLS := tools/.venv/bin
COG := $(TOOLS)/cog -P -I tools -p 'from readme import *' --markers='{{{cog }}} {{{end}}}'

.PHONY: help test check readme bench soak clean mutants-utils \
	$(foreach n,$(NUMBERS),step$(n) serve$(n) diff$(n) mutants$(n))

## help: list these targets
help:
	@echo "make ..."
	@sed -n 's/^## //p' Makefile | sed 's/^/  /'

## step1 ... step6: run the tests of one step (ARGS="-k echo -x": pytest's options)
$(NUMBERS:%=step%): step%: $(READY)
	@$(PYTEST) --verbose --no-header $(wildcard step$*_*) $(ARGS)

## test: run the tests of all steps at the same time
test: $(READY)
	@pids=; logs=$$(mktemp -d); trap 'rm -r $$logs' EXIT; \
	trap 'kill $$pids 2>/dev/null; exit 130' INT TERM; \
	if [ -t 1 ]; then color=yes; else color=no; fi; \
	for step in $(STEPS); do \
		$(PYTEST) --quiet --color=$$color -p no:cacheprovider $$step $(ARGS) \
			>$$logs/$$step 2>&1 & pids="$$pids $$!"; \
	done; \
	set -- $$pids; failed=; \
	for step in $(STEPS); do \
		wait $$1 || failed="$$failed $$step"; shift; \
		echo "== $$step"; cat $$logs/$$step; \
	done; \
	if [ -n "$$failed" ]; then echo "Failed:$$failed"; exit 1; fi

## serve1 ... serve6: run the server of one step on localhost (PORT=9000: not on 8080)
$(NUMBERS:%=serve%): serve%: $(READY)
	@.venv/bin/python -c 'import socket as s; s.create_server(("127.0.0.1", $(PORT)))' \
		2>/dev/null || { echo "Cannot use port $(PORT): try make $@ PORT=9000" >&2; exit 2; }
	@PORT=$(PORT) exec .venv/bin/python -m $(wildcard step$*_*).server

## diff2 ... diff6: show what a step changed against the one before
diff1:
	@echo "Step 1 is the first: there is nothing before it. Try make diff2."

$(patsubst %,diff%,$(filter-out 1,$(NUMBERS))): diff%:
	@old=$$(echo step$$(($* - 1))_*); new=$(wildcard step$*_*); \
	if [ -t 1 ]; then color=always; pager=$$(git var GIT_PAGER); else color=never; pager=cat; fi; \
	for file in server.py utils.py test_server.py; do \
		git --no-pager diff --no-index --no-ext-diff --color=$$color $$old/$$file $$new/$$file; \
	done | LESS=$${LESS-FRX} sh -c "$$pager"

## check: run what maintainers check
check: $(TOOLS_READY)
	@$(TOOLS)/ruff check .
	@$(TOOLS)/ruff format --check .
	@$(TOOLS)/mypy .
	@$(TOOLS)/python -m pytest --quiet tools
	@$(COG) --verbosity=1 --check --diff README.md

## readme: refresh what the README takes from the steps
readme: $(TOOLS_READY)
	@$(COG) --verbosity=1 -r README.md

## mutants1 ... mutants6: change a step's server in every way; do its tests notice?
$(NUMBERS:%=mutants%): mutants%: $(TOOLS_READY)
	@step=$(wildcard step$*_*); $(TOOLS)/python -m tools.mutants $$step/server.py $$step

## mutants-utils: the same for the utilities of step 6
mutants-utils: $(TOOLS_READY)
	@$(TOOLS)/python -m tools.mutants step6_groups/utils.py tools/test_utils.py step6_groups

## bench: measure what the steps cost
bench: $(READY) $(TOOLS_READY)
	@$(TOOLS)/python -m tools.bench

## soak: run all steps over and over on busy cores (N=2000: as often as that)
soak: $(TOOLS_READY)
	@busy=; trap 'kill $$busy' EXIT; trap 'exit 130' INT TERM; \
	cores=$$(getconf _NPROCESSORS_ONLN); \
	for loop in $$(seq $$((2 * cores))); do \
		$(TOOLS)/python -c 'while True: pass' & busy="$$busy $$!"; \
	done; \
	passed=0; \
	while [ $$passed -lt $(N) ]; do \
		count=$$(($(N) - passed)); if [ $$count -gt 50 ]; then count=50; fi; \
		report=$$($(TOOLS)/python -m pytest -x --quiet -p no:cacheprovider \
			--count=$$count --repeat-scope=session $(STEPS) 2>&1) || \
			{ echo; echo "$$report"; exit 1; }; \
		passed=$$((passed + count)); printf '\r%s of $(N) runs of each step passed' $$passed; \
	done; echo

## clean: remove what the other targets made
clean:
	rm -rf .venv tools/.venv .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

step% serve% diff% mutants%:
	@echo "There is no $@: the steps are $(NUMBERS)." >&2; exit 2

.venv/ready-%: requirements.txt
	$(call fill,.venv,$<,$@)

tools/.venv/ready-%: tools/requirements.txt requirements.txt
	$(call fill,tools/.venv,$<,$@)

# $(call fill,FOLDER,REQUIREMENTS,FILE): make a virtual environment, and FILE at last.
define fill
	@command -v $(PYTHON) >/dev/null || \
		{ echo "There is no $(PYTHON): name another with make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"This needs Python 3.11 or later: name one with make PYTHON=python3.13" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo \
		"$(PYTHON) has no venv module: on Debian and Ubuntu, apt install python3-venv" >&2; exit 2; }
	@echo "Making $(1) from $(2)"
	@$(PYTHON) -m venv --clear $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check -r $(2)
	@touch $(3)
endef
