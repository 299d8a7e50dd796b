# Every command of the text. Works with GNU make 3.81 and later.

PORT ?= 8080
TESTS ?= exercise/test_server.py
STEPS = $(wildcard step?_*)
BEYOND = $(wildcard beyond/step?_*) $(wildcard beyond/step??_*)
TOOLS = beyond/.venv/bin

# Of a target such as step3 or step3_client_helper: its folder, or an error; the requirements
# of its own, if it has some; the virtual environment that it runs in.
folder = $(wildcard step$(*:/=) step$(*:/=)_* beyond/step$(*:/=) beyond/step$(*:/=)_*)
find = [ "$(folder)$(own)" ] || { echo "There is no step $*: see $(STEPS) $(BEYOND)" >&2; exit 2; }
own = $(wildcard $(folder:=/requirements.txt) $(*:=/requirements.txt))
venv = $(if $(own),beyond/.venv,.venv)

.PHONY: FORCE help test beyond exercise hint answer cluster lowest check check-site readme bench screenshot site epub clean
# The reports, below, are made at the same time, and nothing else is: two pips would clash.
$(if $(color),FORCE,.NOTPARALLEL):

help:
	@sed -n 's/^## /make /p' Makefile
## step1, step2 ...: run the tests of one step (ARGS="-k echo -x": pytest's options)
##        on a server of yours: make step6 SERVER=my_chat.server
beyond/step%: step% ;
step%: ready-%
	@$(pytest) -o verbosity_test_cases=1 --no-header $(ARGS)
# From step 10 on, the tests of the steps before it run on its server, too, from step 9 on.
earlier = $(if $(filter beyond/step1%,$(folder)),$(shell \
	printf '%s\n' beyond/step9_* beyond/step1?_* | sed '/^$(subst /,\/,$(folder))$$/,$$d'))
pytest = PYTHONPATH=beyond:$$PYTHONPATH $(venv)/bin/python -m pytest $(folder) $(earlier) \
	$(if $(earlier)$(SERVER),--noconftest -p conformance $(SERVER:%=--server=%))

## test: run the tests of the article's six steps at the same time
test: ready-1
	+@$(together) $(STEPS:step%=report-%)
## beyond: run the tests of the steps beyond it at the same time
beyond: $(BEYOND:beyond/step%=ready-%)
	+@$(together) $(BEYOND:beyond/step%=report-%)
# A job for each step, which shows its report as a whole. To find no test (5) is no failure.
together = [ -t 1 ] && color=yes || color=no; $(MAKE) --no-print-directory --keep-going --jobs $(sync) color=$$color
sync = $(if $(filter output-sync,$(.FEATURES)),--output-sync)
report-%:
	@report=$$($(pytest) --quiet --color=$(color) -p no:cacheprovider $(ARGS) 2>&1); end=$$?; printf '== %s\n%s\n' $(folder) "$$report"; [ $$end -eq 0 ] || [ $$end -eq 5 ]

## diff2, diff3 ...: show what a step changed against the one before (ALL=1: more/, too)
diff%:
	@$(find); n=$$(($(firstword $(subst _, ,$*)) - 1)); old=$$(ls -d step$${n}_* beyond/step$${n}_* 2>/dev/null); \
	[ "$$old" ] || { echo "There is no step before step $* to compare it with."; exit; }; \
	if [ -t 1 ]; then color=always; pager=$$(git var GIT_PAGER); else color=never; pager=cat; fi; \
	printf '*/%s.py\n' server utils test_server | \
	git --no-pager diff --no-index --no-renames --diff-filter=d --color=$$color -O/dev/stdin $$old $(folder) | \
	awk '/diff --git/ { skip = /README.md|__pycache__|$(if $(ALL),,\/more\/|)[.]png/; more += /\/more\// && skip } \
	!skip; END { if (more) print "Not shown: " more " files in more/ (make diff$* ALL=1)" }' | \
	LESS=$${LESS-FRX} sh -c "$$pager"

## serve1, serve2 ...: run the server of one step on localhost (PORT=9000: not on 8080)
serve%: ready-%
	@$(venv)/bin/python -c 'import socket as s; s.create_server(("127.0.0.1", $(PORT)))' \
		2>/dev/null || { echo "Cannot use port $(PORT): try make $@ PORT=9000" >&2; exit 2; }
	@PYTHONPATH=beyond PORT=$(PORT) exec $(venv)/bin/python -m $(notdir $(folder)).server
## cluster: run step 13 as a process for each core, on port 8080, 8081 ... (PORT=9000)
cluster: ready-13
	@PYTHONPATH=beyond PORT=$(PORT) exec beyond/.venv/bin/python -m step13_web_page.more.cluster

## exercise: run your tests on wrong servers (ONLY="44 45", ALL=yes, TESTS=test_mine.py)
exercise: ready-1
	@.venv/bin/python -m exercise.judge "$(TESTS)" $(ONLY) $(if $(ALL),--all) || { end=$$?; [ $$end -eq 1 ] || exit $$end; }
## hint, answer: say more about a wrong server (HINT=17)
hint answer: ready-1
	@.venv/bin/python -m exercise.judge $@ "$(HINT)"

## lowest: run the article's six steps with the oldest releases that they need, and no more
lowest:
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && cp -R $(STEPS) Makefile pyproject.toml "$$copy" && \
	sed 's/>=\(.*\),.*/==\1/' requirements.txt >"$$copy/requirements.txt" && \
	PYTHON="$${PYTHON:-$$(cat .venv/made-by 2>/dev/null)}" $(MAKE) --no-print-directory -C "$$copy" test

## check: run what maintainers check
check: ready-tools
	@$(TOOLS)/ruff check . && $(TOOLS)/ruff format --check . && $(TOOLS)/mypy .
	@$(TOOLS)/python -m pytest --quiet -rs -n auto --dist worksteal tools --ignore=tools/test_site.py
	@$(TOOLS)/python -m pytest --quiet -n auto -p tools.uvloop_plugin $(STEPS) beyond/step7_*

## site, epub: make the site, or the book, from the text, in docs/_build
site epub: ready-tools
	@rm -rf docs/_build/$@ && $(TOOLS)/python -m sphinx -W --keep-going -q -b $(@:site=html) -c docs . docs/_build/$@
	@ls docs/_build/$@/*.epub 2>/dev/null || echo docs/_build/$@/index.html

## check-site: look at the site in a browser, and at the book
check-site: ready-tools
	@$(TOOLS)/python -m pytest --quiet tools/test_site.py

## readme: refresh what the text takes from the steps
## bench: measure what the steps cost
## screenshot: take the picture of step 13's page anew
readme bench screenshot: ready-tools
	@PYTHONPATH=beyond $(TOOLS)/python -m tools.$@

## spread1, spread2 ...: merge what has changed in a step into those after it
## wrong4, wrong5 ... wrong8: do a step's tests notice the exercise's wrong servers?
## mutants1, mutants2 ...: delete, repeat and swap a server's statements; do its tests notice?
spread%:
	@$(find); sh tools/spread.sh $(folder)
wrong% mutants%: ready-%
	@$(venv)/bin/python -m tools.$(@:$*=) $*
## clean: remove what the other commands made
clean:
	rm -rf .venv beyond/.venv .hypothesis beyond/.hypothesis .pytest_cache .mypy_cache .ruff_cache docs/_build
	find . -name __pycache__ -prune -exec rm -rf {} +

# The three packages are in .venv; what a step of beyond/, or tools/, has in requirements of its
# own is installed in beyond/.venv when it is needed. For another PYTHON both are made anew.
ready-%: FORCE
	@$(find); python=$${PYTHON:-$$(cat $(venv)/made-by .venv/made-by 2>/dev/null | head -n 1)}; \
	python=$${python:-python3}; try() { "$$python" -c "$$1" 2>/dev/null || { echo "$$2" >&2; exit 2; }; }; \
	if [ "$$python" != "$$(cat $(venv)/made-by 2>/dev/null)" ] || [ ! -x $(venv)/bin/python ]; then \
		try '' "$$python does not run: name another with make PYTHON=..."; \
		try 'import sys; sys.exit(sys.version_info < (3, 11))' "This needs Python 3.11 or later: name one with make PYTHON=python3.13"; \
		try 'import ensurepip, venv' "$$python has no venv module: on Debian and Ubuntu, apt install python3-venv"; \
		"$$python" -m venv --clear $(venv) && echo "$$python" >$(venv)/made-by || exit; \
	fi; needs=$(or $(own),requirements.txt); has=$(venv)/has-$$(cksum <$$needs | tr ' ' -); \
	[ -e $$has ] || { echo "Filling $(venv) from $$needs" && $(venv)/bin/python -m pip install \
		--quiet --disable-pip-version-check -r $$needs && touch $$has; }
