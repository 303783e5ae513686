# Needs only Python 3.11 or later (with venv and pip), make and git. Nothing is installed outside
# .venv; what is already there is not done again.
#   make run         build .venv and start the daemon in the foreground (HSM_HOME, HSM_DICOM_PORT)
#   make test        everything that must pass: formatting, lint, types, import contracts, tests (not campaigns)
#   make lint        the same without the tests
#   make sim         the simulated archive's tests at full length (about an hour)
#   make search      what Hypothesis looks for at random, with ten times as many examples as in the suite
#                    (HSM_EXAMPLES), and so longer lives of copies
#   make day         a day in a small hospital: 10 workstations, 2 operators who err, 5 crashes (10 minutes;
#                    HSM_DAY_SEED lives one again, HSM_DAY_SPEED changes how fast its clock goes)
#   make chaos       an hour of an archive's life under every fault at once, from a seed (HSM_CHAOS_SEED,
#                    HSM_CHAOS_SEEDS, HSM_CHAOS_HOURS); a seed that fails is lived again by the same command
#   make story       500 studies over NAS, S3 and SFTP while each server is killed, stopped, filled and slowed
#   make crash       kill a daemon under load, thousands of times (HSM_CRASH_KILLS), at every named step,
#                    with and without a power cut, and then for HSM_CRASH_MINUTES as chance has it
#   make campaigns   what takes longer: short forms of crash, chaos and story, crashes at every point, benchmarks
#   make malformed   10,000 malformed inputs to each DICOM listener and to both of the control API
#                    (HSM_MALFORMED, HSM_MALFORMED_SEED)
#   make audit-deps  what is known of vulnerabilities in what we depend on
#   make lowest      a part of the suite with the lowest versions that pyproject.toml allows
#   make large       send a 4 GiB instance to and fro, and look at the memory (HSM_LARGE_MIB)
#   make lab         a SCSI tape library in a small machine: device tests, contract suite, stories (Linux;
#                    as root it installs the Debian packages that it needs; says so where it cannot run)
#   make lab-short   the part of it that continuous integration runs
#   make pictures    the operators' screen as docs/pictures shows it, drawn anew on real terminals
#   make wheel-check build the wheel and try it in a clean environment outside the checkout
#   make clean       remove what make made; the data folder (var) stays

SHELL := /bin/sh
# Where it is set every process compiles all that it imports, and every test process what it tests: twice the time.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
SOURCES := hsm policies drivers cli tests
PIP := PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip --disable-pip-version-check --no-input

# The first interpreter that is new enough and can make virtual environments. Set PYTHON to choose.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$p && break; done)

# An environment that moved with its checkout, or whose interpreter is gone, is made anew.
ifneq ($(shell cat $(VENV)/.venv-stamp 2>/dev/null && $(BIN)/python -c 'print("works")' 2>/dev/null),$(CURDIR) works)
$(shell rm -f $(VENV)/.venv-stamp $(VENV)/.run-stamp $(VENV)/.dev-stamp)
endif

.PHONY: pictures run test sim search story day crash chaos campaigns malformed audit-deps lowest large lab lab-short lint wheel-check clean
.DEFAULT_GOAL := run

run: $(VENV)/.run-stamp
	@exec $(BIN)/hsm serve

# Every crash point, and long random lives of an archive: an hour or so. Hypothesis prints what fails.
sim: $(VENV)/.dev-stamp
	HSM_SIM=long $(BIN)/pytest -m "" -n 2 --timeout=7200 tests/sim

search: $(VENV)/.dev-stamp
	HSM_EXAMPLES=$${HSM_EXAMPLES:-10} $(BIN)/pytest -n 2 --timeout=7200 tests/unit/policies tests/catalog/test_placements.py

# 500 studies go over a NAS and S3 and back, and 500 over SFTP, while each server is killed, stopped, filled
# and slowed: about twenty minutes; as root (small file systems are mounted).
story: $(VENV)/.dev-stamp
	HSM_STORY=long $(BIN)/pytest -m "" tests/story/test_outages.py tests/story/test_sftp_road.py tests/story/test_told.py
	HSM_DAY=morning $(BIN)/pytest -m "" -s tests/story/test_hospital_day.py

# The seed is printed; a day that went wrong is lived again with it.
day: $(VENV)/.dev-stamp
	HSM_DAY=long $(BIN)/pytest -m "" -s tests/story/test_hospital_day.py

# A daemon killed again and again under load; HSM_CRASH_KILLS, HSM_CRASH_MINUTES and HSM_CRASH_SEED
# change the campaign.
crash: $(VENV)/.dev-stamp
	HSM_CRASH_MINUTES=$${HSM_CRASH_MINUTES:-60} $(BIN)/pytest -m "" -s tests/crash/test_power_cut.py tests/crash/test_named_steps.py
	HSM_CRASH_KILLS=$${HSM_CRASH_KILLS:-2000} $(BIN)/pytest -m "" -s tests/crash/test_kill.py

# One process, one thread, one clock: docs/chaos.md.
chaos: $(VENV)/.dev-stamp
	$(BIN)/python -m tests.chaos

campaigns: $(VENV)/.dev-stamp
	$(BIN)/pytest -m campaign -n 2

# 10,000 malformed inputs to each of four DICOM listeners (plain and TLS, with one process and with receivers)
# and to the control API's socket and TLS port.
malformed: $(VENV)/.dev-stamp
	HSM_MALFORMED=$${HSM_MALFORMED:-10000} $(BIN)/pytest -m campaign -s tests/wire/test_malformed.py tests/api/test_malformed_daemon.py

# Whether something that we depend on has a vulnerability that is known. It asks PyPI, and what PyPI cannot tell
# of is a failure too: "nothing found" must not mean "nothing asked".
audit-deps: $(VENV)/.dev-stamp
	@test -x $(VENV)/audit/bin/pip-audit || { $(BIN)/python -m venv $(VENV)/audit && \
		$(VENV)/audit/bin/python -m pip install --quiet pip-audit; }
	$(BIN)/python -m pip freeze --exclude-editable >$(VENV)/audit/installed.txt
	test -s $(VENV)/audit/installed.txt
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r $(VENV)/audit/installed.txt

# The lowest versions that pyproject.toml allows of what the archive itself needs, and a part of the suite with them.
lowest: $(VENV)/.venv-stamp
	$(BIN)/python -m venv --clear $(VENV)/lowest
	$(VENV)/lowest/bin/python -m pip install --quiet uv
	$(VENV)/lowest/bin/uv pip compile --quiet --extra all --resolution lowest-direct pyproject.toml \
		-o $(VENV)/lowest/versions.txt
	$(VENV)/lowest/bin/python -m pip install --quiet -r $(VENV)/lowest/versions.txt
	$(VENV)/lowest/bin/python -m pip install --quiet -c $(VENV)/lowest/versions.txt -e '.[dev]'
	$(VENV)/lowest/bin/python -m pytest tests/unit tests/api tests/catalog tests/wire/test_server.py \
		tests/wire/test_doors.py tests/wire/test_tls.py tests/wire/test_transcode.py tests/services/test_s3_store.py

large: $(VENV)/.dev-stamp
	HSM_LARGE_MIB=$${HSM_LARGE_MIB:-4096} $(BIN)/pytest -m "" -s tests/wire/test_lane_memory.py -k large

# A tape library that the kernel takes for a real one; tests/lab/README.md.
lab: $(VENV)/.dev-stamp
	$(BIN)/python tests/lab/run.py

lab-short: $(VENV)/.dev-stamp
	$(BIN)/python tests/lab/run.py --short

# More workers than cores: a good part of the suite waits for disks, servers and clocks.
test: lint
	$(BIN)/pytest -n 3 --dist worksteal

lint: $(VENV)/.dev-stamp
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

pictures: $(VENV)/.dev-stamp
	$(BIN)/python -m tests.operatorpictures docs/pictures

wheel-check: $(VENV)/.venv-stamp
	.ci/wheel-check $(BIN)/python

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# One that works is kept; one that lacks pip (an interrupted attempt) is not. A link to another
# checkout's environment is left alone: clearing it would empty the other one.
$(VENV)/.venv-stamp:
	@test ! -L $(VENV) || { echo "$(VENV) is a link to $$(readlink $(VENV)): make builds its own;" \
		"remove the link first" >&2; exit 1; }
	@grep -qF '$(CURDIR)/$(VENV)' $(BIN)/activate 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	test -n "$(PYTHON)" || { echo "Python 3.11 or later with venv is needed" \
		"(Debian: apt install python3-venv), or set PYTHON=/path/to/python" >&2; exit 1; }; \
	$(PYTHON) -m venv --clear $(VENV); }
	@echo '$(CURDIR)' >$@

$(VENV)/.run-stamp: pyproject.toml | $(VENV)/.venv-stamp
	$(PIP) install --quiet -e '.[codecs]'
	@touch $@

$(VENV)/.dev-stamp: pyproject.toml | $(VENV)/.venv-stamp
	$(PIP) install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.run-stamp
