# Every command of the text. Works with GNU make 3.81 and later.

PORT ?= 8080
ARGS ?=
TESTS ?= exercise/test_server.py
N = 100

# The steps are the folders with a server in them: the article's six, and those of beyond/.
folders = $(patsubst %/server.py,%,$(foreach digit,? ??,$(sort $(wildcard $(1)step$(digit)_*/server.py))))
numbers = $(patsubst step%,%,$(foreach folder,$(1),$(firstword $(subst _, ,$(notdir $(folder))))))
STEPS := $(call folders)
BEYOND := $(call folders,beyond/)
NUMBERS := $(call numbers,$(STEPS) $(BEYOND))

# What a target such as step3 works with: the folder of its number, and the file that says
# that the virtual environment is ready. This comes first, so $(<D)/bin/python is its Python.
folder = $(filter step$(1)_% beyond/step$(1)_%,$(STEPS) $(BEYOND))
ready = $(patsubst beyond/%,beyond/.venv/ready-%,$(patsubst step%,.venv/ready,$(call folder,$(1))))
.SECONDEXPANSION: # for $$(call ready,$$*)

TOOLS := tools/.venv/bin
COG := $(TOOLS)/cog -P -I . -I tools -p 'from readme import *' --markers='{{{cog }}} {{{end}}}'
TEXTS := $(wildcard README.md docs/*.md docs/recipes/*.md step*/README.md exercise/README.md beyond/README.md beyond/step*/README.md)
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/beyond/.venv/hypothesis

WRONG := 4 5 6 7 8

.PHONY: help test beyond exercise hint answer cluster screenshot check lowest readme bench order soak clean mutants-utils \
	$(WRONG:%=wrong%) \
	$(foreach n,$(NUMBERS),step$(n) serve$(n) diff$(n) mutants$(n) spread$(n)) \
	$(foreach step,$(STEPS) $(BEYOND),$(step) $(step)/ report-$(step))

## help: list these targets
help:
	@echo "make ..."
	@sed -n 's/^## //p' Makefile | sed 's/^/  /'

## step1, step2 ...: run the tests of one step (ARGS="-k echo -x": pytest's options)
$(NUMBERS:%=step%): step%: $$(call ready,$$*)
	@$(<D)/bin/python -m pytest -o verbosity_test_cases=1 --no-header $(call folder,$*) $(ARGS)

# The name of its folder will do, too, also as a shell completes it.
$(foreach n,$(NUMBERS),$(eval $(call folder,$(n)) $(call folder,$(n))/: step$(n)))

## test: run the tests of the article's six steps at the same time
test: .venv/ready
	$(call together,$(STEPS))

## beyond: run the tests of the steps beyond it at the same time
beyond: $(foreach n,$(call numbers,$(BEYOND)),$(call ready,$(n)))
	$(call together,$(BEYOND))

## cluster: run step 13 as a process for each core, on port 8080, 8081 ... (PORT=9000)
cluster: $(call ready,13)
	@cd beyond && PORT=$(PORT) exec .venv/bin/python -m step13_web_page.cluster

## exercise: run your tests on wrong servers; which do they notice? (TESTS=path/to/test_mine.py)
exercise: .venv/ready
	@.venv/bin/python -m exercise.judge "$(TESTS)" || { end=$$?; [ $$end -eq 1 ] || exit $$end; }

## hint, answer: say more about a wrong server (HINT=17)
hint answer: .venv/ready
	@.venv/bin/python -m exercise.judge $@ "$(HINT)"

# $(call together,FOLDERS): make their reports with a job each; make names those that fail.
define together
@if [ -t 1 ]; then color=yes; else color=no; fi; \
$(MAKE) --no-print-directory --keep-going --jobs $(SYNC) COLOR=$$color $(addprefix report-,$(1))
endef
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync)

# A report is shown as a whole. It is no failure that ARGS="-k ..." finds no test (5).
$(addprefix report-,$(STEPS) $(BEYOND)): report-%:
	@report=$$($(or $(filter beyond/,$(dir $*)),./).venv/bin/python -m pytest --quiet \
		--color=$(COLOR) -p no:cacheprovider $* $(ARGS) 2>&1); end=$$?; \
	printf '== %s\n%s\n' $* "$$report"; [ $$end -eq 0 ] || [ $$end -eq 5 ]

## serve1, serve2 ...: run the server of one step on localhost (PORT=9000: not on 8080)
$(NUMBERS:%=serve%): serve%: $$(call ready,$$*)
	@$(<D)/bin/python -c 'import socket as s; s.create_server(("127.0.0.1", $(PORT)))' \
		2>/dev/null || { echo "Cannot use port $(PORT): try make $@ PORT=9000" >&2; exit 2; }
	@cd $(dir $(call folder,$*)) && \
		PORT=$(PORT) exec .venv/bin/python -m $(notdir $(call folder,$*)).server

## diff2, diff3 ...: show what a step changed against the one before
$(NUMBERS:%=diff%): old = $(call folder,$(shell expr $* - 1))
$(NUMBERS:%=diff%): new = $(call folder,$*)
$(NUMBERS:%=diff%): other = $(filter-out README.md,$(sort $(notdir $(wildcard $(patsubst %,%/*.*,$(old) $(new))))))
$(NUMBERS:%=diff%): diff%:
	@[ "$(old)" ] || { echo "There is no step before step $* to compare it with."; exit; }; \
	if [ -t 1 ]; then color=always; pager=$$(git var GIT_PAGER); else color=never; pager=cat; fi; \
	for file in $(FIRST) $(filter-out $(FIRST),$(other)); do \
		old=$(old)/$$file; [ -e $$old ] || old=/dev/null; \
		new=$(new)/$$file; [ -e $$new ] || new=/dev/null; \
		git --no-pager diff --no-index --no-ext-diff --color=$$color $$old $$new; \
	done | LESS=$${LESS-FRX} sh -c "$$pager"
FIRST := server.py utils.py test_server.py

## check: run what maintainers check
check: tools/.venv/ready
	@$(TOOLS)/ruff check .
	@$(TOOLS)/ruff format --check .
	@$(TOOLS)/mypy .
	@$(TOOLS)/python -m pytest --quiet tools
	@$(TOOLS)/python -m pytest --quiet -p tools.uvloop_plugin $(STEPS) $(wildcard beyond/step[7-9]_*)
	@$(COG) --verbosity=1 --check --diff $(TEXTS)

## lowest: run the article's six steps with the oldest releases that they need
lowest:
	@copy=$$(mktemp -d) && cp -R $(STEPS) Makefile pyproject.toml $$copy && \
	sed 's/>=\(.*\),.*/==\1/' requirements.txt >$$copy/requirements.txt && \
	$(MAKE) --no-print-directory -C $$copy test PYTHON="$(call python,.venv)"; \
	end=$$?; rm -rf $$copy; exit $$end

## readme: refresh what the text takes from the steps
readme: tools/.venv/ready
	@$(COG) --verbosity=1 -r $(TEXTS)

## spread1, spread2 ...: merge what has changed in a step into those after it
$(NUMBERS:%=spread%): spread%: tools/.venv/ready
	@$(TOOLS)/python -m tools.spread $*

## mutants1, mutants2 ...: change a step's server in every way; do its tests notice?
$(NUMBERS:%=mutants%): mutants%: tools/.venv/ready
	@$(TOOLS)/python -m tools.mutants $(call folder,$*)/server.py $(call folder,$*)

## mutants-utils: the same for the utilities of step 6
mutants-utils: tools/.venv/ready
	@$(TOOLS)/python -m tools.mutants step6_groups/utils.py tools/test_utils.py step6_groups

## wrong4, wrong5 ... wrong8: do a step's tests notice the exercise's wrong servers?
$(WRONG:%=wrong%): wrong%: tools/.venv/ready
	@$(TOOLS)/python -m tools.wrong $*

## bench: measure what the steps cost
bench: .venv/ready tools/.venv/ready
	@$(TOOLS)/python -m tools.bench; first=$$?; \
		PYTHONPATH=beyond $(TOOLS)/python -m tools.bench_beyond && exit $$first

## order: send 100,000 messages over two processes; does everybody hear them in order?
order: tools/.venv/ready
	@PYTHONPATH=beyond $(TOOLS)/python -m tools.order

## screenshot: take the picture of step 13's page anew
screenshot: tools/.venv/ready
	@PYTHONPATH=beyond $(TOOLS)/python -m tools.screenshot beyond/step13_web_page/screenshot.png

## soak: run all steps over and over, three at a time on each core (N=2000 SOAK=step6_groups)
SOAK = $(STEPS) $(BEYOND)
soak: tools/.venv/ready
	@workers=$$((3 * $$(getconf _NPROCESSORS_ONLN))); \
	for run in $$(seq 50 50 $$(($(N) + 49))); do \
		report=$$($(TOOLS)/python -m pytest -x --quiet -p no:cacheprovider -n $$workers \
			--count=50 $(SOAK) $(ARGS) 2>&1) || { echo "$$report"; exit 1; }; \
		echo "$$run runs of each step passed"; \
	done

## clean: remove what the other targets made
clean:
	rm -rf .venv tools/.venv beyond/.venv .hypothesis beyond/.hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

wrong%:
	@echo "There is no $@: the steps are $(WRONG)." >&2; exit 2

step% serve% diff% mutants% spread% report-%:
	@echo "There is no $@: the steps are $(NUMBERS)." >&2; exit 2

# The virtual environments. Each is made anew for another Python: the one that PYTHON names,
# or else the one that it has, that of .venv, python3. Those who need more install it on top:
# each step of beyond/ has requirements of its own, and tools/ everybody's.
space := $(subst ,, )
python = $(or $(PYTHON),$(shell cat $(1)/from-* .venv/from-* 2>/dev/null | head -n 1),python3)
from = $(1)/from-$(subst /,-,$(subst $(space),-,$(call python,$(1))))

define install
@echo "Filling $(@D) from $(filter %.txt,$^)"
@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check \
	$(patsubst %,-r %,$(filter %.txt,$^))
@touch $@
endef

.venv/ready: $(call from,.venv)
tools/.venv/ready: $(call from,tools/.venv) tools/requirements.txt $(wildcard beyond/*/requirements.txt)
.venv/ready tools/.venv/ready: requirements.txt
	$(install)

beyond/.venv/ready-%: $(call from,beyond/.venv) $$(or $$(wildcard beyond/$$*/requirements.txt),requirements.txt)
	$(install)

it = "$(call python,$(@D))"
$(foreach venv,.venv tools/.venv beyond/.venv,$(call from,$(venv))):
	@$(it) -c '' || { echo $(it) "does not run: name another with make PYTHON=..." >&2; exit 2; }
	@$(it) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"This needs Python 3.11 or later: name one with make PYTHON=python3.13" >&2; exit 2; }
	@$(it) -c 'import ensurepip, venv' 2>/dev/null || { echo \
		$(it) "has no venv module: on Debian and Ubuntu, apt install python3-venv" >&2; exit 2; }
	@$(it) -m venv --clear $(@D)
	@echo $(it) >$@
