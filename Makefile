# One word per task; Meson does the work.  `make help` lists them.
# PACKAGES is the truth about what a Debian 12 machine needs; `make deps` installs what is missing of it.

BUILD  ?= build
SAN    ?= build-asan
FUZZ   ?= build-fuzz
COV    ?= build-cov
AFLFUZZ ?= build-afl
JOBS   ?= $(shell nproc)
PYTHON := /usr/bin/python3

PACKAGES := build-essential clang meson ninja-build pkg-config git \
  libssl-dev libuv1-dev libsqlite3-dev libjansson-dev libconfuse-dev libunbound-dev libidn2-dev libcurl4-openssl-dev libmicrohttpd-dev zlib1g-dev libgsasl-dev \
  libseccomp-dev libcap-dev dns-root-data libcmocka-dev libclang-rt-14-dev llvm-14
# what the tests and the demonstration talk to, and look with
TEST_PACKAGES := python3 python3-pytest python3-pytest-xdist python3-pytest-timeout swaks curl openssl unbound nsd ldnsutils strace procps iproute2 graphviz mandoc \
  afl++ python3-dkim libnet-ssleay-perl libio-socket-ssl-perl ca-certificates debootstrap patch \
  python3-aiosmtpd python3-jsonschema chromium fuse3 libfuse3-dev e2fsprogs xfsprogs btrfs-progs valgrind linux-perf gnuplot-nox dovecot-core dovecot-lmtpd

all: $(BUILD)/build.ninja ## build program, library and tools into build/
	ninja -C $(BUILD) -j $(JOBS)

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

# A policy-rc.d for the time of the installation: no service (unbound) is started on the machine by it.
deps: ## install the Debian packages that are missing (as root)
	@missing=$$(for p in $(PACKAGES) $(TEST_PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "missing packages; as root: apt-get install --no-install-recommends" $$missing >&2; exit 1; fi; \
	echo "installing:" $$missing; quiet=/usr/sbin/policy-rc.d; \
	if [ -e $$quiet ]; then quiet=; else printf '#!/bin/sh\nexit 101\n' > $$quiet; chmod 755 $$quiet; fi; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	status=$$?; if [ -n "$$quiet" ]; then rm -f $$quiet; fi; exit $$status

# the unit tests are built in $(SAN), and only there
$(BUILD)/build.ninja: | deps
	meson setup $(BUILD) --buildtype=debugoptimized -Dunits=false

$(SAN)/build.ninja: | deps
	CC=clang CC_LD=gold meson setup $(SAN) -Db_sanitize=address,undefined --buildtype=debug

$(FUZZ)/build.ninja: | deps
	CC=clang meson setup $(FUZZ) -Dfuzz=true -Dtests=false -Db_sanitize=address,undefined --buildtype=debugoptimized

demo: deps all ## build, then show the main job end to end (under a minute)
	$(PYTHON) tests/demo/demo.py --binary $(BUILD)/postrider

demo-tls: deps all ## DANE, MTA-STS, both, neither, and attacks: what is owed, what was done, and why (as root; a quarter of a minute)
	$(PYTHON) tests/demo/demo_tls.py --binary $(BUILD)/postrider

test: deps all $(SAN)/build.ninja $(FUZZ)/build.ninja ## every rung that fits into 12 minutes; closes with "N passed, N failed"
	ninja -C $(SAN) -j $(JOBS)
	ninja -C $(FUZZ) -j $(JOBS) fuzz-targets
	$(PYTHON) tests/run --build $(BUILD) --san $(SAN) --fuzz $(FUZZ)

test-unit: deps $(SAN)/build.ninja ## the unit tests, closure and dialogs, under ASan and UBSan
	ninja -C $(SAN) -j $(JOBS)
	$(PYTHON) tests/run --build $(BUILD) --san $(SAN) --only unit

test-integration: deps all ## the tests that run the daemon against real programs
	$(PYTHON) tests/run --build $(BUILD) --san $(SAN) --only integration

# the stateful harnesses once more, for AFL++ in persistent mode: without sanitizers, which its finds are replayed under
$(AFLFUZZ)/build.ninja: | deps
	CC=afl-clang-fast AFL_QUIET=1 meson setup $(AFLFUZZ) -Dfuzz=true -Dtests=false --buildtype=debugoptimized
sim: deps all ## the whole system simulated: 20,000 seeds on all cores (some minutes); what fails is kept in sim/seeds
	$(PYTHON) sim/run --build $(BUILD)

FUZZ_SECONDS ?= 30
fuzz: deps $(FUZZ)/build.ninja $(AFLFUZZ)/build.ninja ## fuzz every parser, FUZZ_SECONDS each, and judge how far they reach
	ninja -C $(FUZZ) -j $(JOBS) fuzz-targets
	AFL_QUIET=1 ninja -C $(AFLFUZZ) -j $(JOBS) fuzz-stateful
	$(PYTHON) tests/fuzz/run --build $(FUZZ) --afl $(AFLFUZZ) --seconds $(FUZZ_SECONDS)

crash: deps all $(SAN)/build.ninja ## cut the power on ext4, xfs and btrfs (as root); kill every role at every system call; make every call fail
	$(PYTHON) tests/crash/all --build $(BUILD)

metamorphic: deps all ## every way to TLS and every error path against a fresh session (minutes)
	$(PYTHON) tests/metamorphic/run --build $(BUILD)

$(COV)/build.ninja: | deps
	CC=clang LDFLAGS=-fprofile-instr-generate meson setup $(COV) \
	-Dc_args="-fprofile-instr-generate -fcoverage-mapping -mllvm -runtime-counter-relocation" -Dfuzz=true --buildtype=debug

coverage: deps $(COV)/build.ninja ## lines and branches that the tests reach in each room, against tests/coverage/floors
	ninja -C $(COV) -j $(JOBS) all fuzz-targets
	$(PYTHON) tests/coverage/run --build $(COV)

controls: deps all ## negative controls: builds with one fault each, which the named tests must catch
	$(PYTHON) tests/controls/run --build $(BUILD)

BENCH ?=
bench: deps all ## Postrider beside Postfix and the bare floor: the table of docs/performance.md (as root; some 15 minutes; BENCH=options)
	$(PYTHON) bench/run $(BENCH)

bench-where: deps all ## what a message costs by process, function and system call, into docs/performance.md (as root; 2 minutes)
	$(PYTHON) bench/where

bench-scale: deps all ## how costs grow with cores, size, sessions and backlog: the plots of docs/performance.md (some 20 minutes)
	$(PYTHON) bench/scale $(BENCH)

bench-smoke: deps all ## instructions a message against the committed baseline (a minute; bench/smoke --set-baseline)
	$(PYTHON) bench/smoke --build $(BUILD)

SOAK_SECONDS ?= 600
soak: deps all ## mail through Postfix, two Postriders and Dovecot, with kills, reloads, certificates and full disks (as root; SOAK_SECONDS=600)
	$(PYTHON) tests/soak/run --build $(BUILD) --seconds $(SOAK_SECONDS)

FIELD ?=
field: deps all ## probe eight servers and nine clients of today on loopback: docs/field.md (as root; some 20 minutes; FIELD=options)
	$(PYTHON) tests/field/run --build $(BUILD) $(FIELD)

attacks: deps all ## attacks on resources: slow, endless and too many peers, compromised roles (minutes)
	$(PYTHON) tests/attacks/run --build $(BUILD)

CORPORA ?= ../shared/corpora
test-corpora: deps $(SAN)/build.ninja ## judge the address parser by others' tables (CORPORA=DIR)
	@if [ -d $(CORPORA)/isemail ]; then ninja -C $(SAN) tests/unit/smtp/corpus_isemail && $(PYTHON) tests/unit/smtp/corpus_isemail.py $(SAN)/tests/unit/smtp/corpus_isemail $(CORPORA)/isemail/tests.xml; \
	else echo "no corpora at $(CORPORA): nothing was judged"; fi

run: all ## run in the foreground with CONF=FILE
	$(BUILD)/postrider run -c $(CONF)

docs: all ## print the generated pages anew
	ninja -C $(BUILD) docs-machine config-pages probe-pages

install: all ## as meson install (DESTDIR, prefix by `meson configure`)
	meson install -C $(BUILD)

clean: ## remove the build folders
	rm -rf $(BUILD) $(SAN) $(FUZZ) $(COV) $(AFLFUZZ)

.PHONY: all help deps demo demo-tls sim test test-unit test-integration test-corpora fuzz soak attacks crash metamorphic coverage controls field bench bench-where bench-scale bench-smoke run docs install clean
