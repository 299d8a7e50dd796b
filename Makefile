# Every command of the text. Works with GNU make 3.81 and later.

PORT ?= 8080
TESTS ?= exercise/test_server.py
STEPS = $(wildcard step?_*)
BEYOND = $(wildcard beyond/step?_*) $(wildcard beyond/step??_*)

# Of a target such as step3, step3/ or step3_client_helper: its folder; the requirements
# that it has of its own; the virtual environment that it runs in; what pytest runs in it.
named = $(wildcard step$(*:/=) step$(*:/=)_* beyond/step$(*:/=) beyond/step$(*:/=)_*)
folder = $(or $(named),$(error There is no step $*: see $(STEPS) $(BEYOND)))
own = $(wildcard $(folder)/requirements.txt)
venv = $(if $(own),beyond/.venv,.venv)
tests = $(if $(filter $(folder)/%,$(ARGS)),,$(folder) $(earlier)) \
	$(if $(earlier)$(SERVER),--noconftest -p conformance $(SERVER:%=--server=%)) $(ARGS)
# From step 10 on, the tests of the steps before it run on its server, too, from step 9 on.
earlier = $(if $(filter beyond/step10_% beyond/step11_% beyond/step12_% beyond/step13_%,$(folder)),$(shell \
	printf '%s\n' beyond/step9_* beyond/step1?_* | sed '/^$(subst /,\/,$(folder))$$/,$$d'))
pytest = PYTHONPATH=beyond:$$PYTHONPATH $(venv)/bin/python -m pytest

.PHONY: FORCE help test beyond exercise hint answer cluster clean
ifndef color # The reports, below, are made at the same time, and nothing else is: two pips would clash.
.NOTPARALLEL:
endif

help:
	@sed -n 's/^## /make /p' Makefile
## step1, step2 ...: run the tests of one step (ARGS="-k echo -x": pytest's options)
##        on a server of yours: make step6 SERVER=my_chat.server
beyond/step%: step% ;
step%: ready-%
	@$(pytest) -o verbosity_test_cases=1 --no-header $(tests)
## test: run the tests of the article's six steps at the same time
test: ready-1
	+@$(report_all) $(STEPS:step%=report-%)
## beyond: run the tests of the steps beyond it at the same time
beyond: $(BEYOND:beyond/step%=ready-%)
	+@$(report_all) $(BEYOND:beyond/step%=report-%)
## diff2, diff3 ...: show what a step changed against the one before (ALL=1: more/, too)
diff%:
	@old=; for step in $(STEPS) $(BEYOND); do [ $$step != $(folder) ] || break; old=$$step; done; \
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
	@.venv/bin/python -m exercise.judge "$(TESTS)" $(ONLY) $(if $(ALL),--all) || \
		{ end=$$?; [ $$end -eq 1 ] || exit $$end; }
## hint, answer: say more about a wrong server (HINT=17)
hint answer: ready-1
	@.venv/bin/python -m exercise.judge $@ "$(HINT)"
## clean: remove what the other commands made
clean:
	rm -rf .venv beyond/.venv .hypothesis beyond/.hypothesis .pytest_cache .mypy_cache .ruff_cache docs/_build
	find . -name __pycache__ -prune -exec rm -rf {} +
## check ...: what maintainers run; make -f tools/Makefile lists it
.DEFAULT:
	@$(MAKE) --no-print-directory -f tools/Makefile $@

# A job for each step, which shows its report as a whole. To find no test (5) is no failure.
report_all = [ -t 1 ] && color=yes || color=no; \
	$(MAKE) --no-print-directory --keep-going --jobs $(output_sync) color=$$color
output_sync = $(if $(filter output-sync,$(.FEATURES)),--output-sync)
report-%:
	@report=$$($(pytest) --quiet --color=$(color) -p no:cacheprovider $(tests) 2>&1); \
	end=$$?; printf '== %s\n%s\n' $(folder) "$$report"; [ $$end -eq 0 ] || [ $$end -eq 5 ]
ready-%: FORCE
	@sh tools/ready.sh $(venv) $(or $(own),requirements.txt)
