# otel-tap: `make demo` and `make test` do all of their own set-up on a bare Debian.

# The distribution's own where it is new enough: built by its profile, it takes an eighth less CPU
# for the agent than a Python that was built without, and a fifth less once that is compiled.
PYTHON  ?= $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV    := .venv
BIN     := $(VENV)/bin
OBJECTS := otel_tap/capture/objects
BPF     := socket_length socket_syscall tcp_state process openssl
# What BCC compiles on the host that runs it.
BCC     := $(notdir $(wildcard bpf/bcc/*.[ch])) otel_tap.h
ARCH    := $(shell uname -m | sed 's/x86_64/x86/;s/aarch64/arm64/')

BPF_CFLAGS := -O2 -g -Wall -Werror -Wno-unused-function -target bpf -D__TARGET_ARCH_$(ARCH) \
	-I/usr/include/$(shell uname -m)-linux-gnu

# What a bare Debian 12 lacks: a compiler for the kernel side, libbpf, and the demo's programs.
DEBIAN := python3-venv clang llvm libbpf1 libbpf-dev libc6-dev linux-libc-dev \
	nginx-light curl wget openssl ca-certificates
# What compiles the modules of the wheel.
DEBIAN_WHEEL := gcc libc6-dev python3-dev
# What the benchmarks load with.
DEBIAN_BENCH := wrk nghttp2-client gcc libc6-dev bpftrace
# What the tests tap besides.
DEBIAN_TEST := runc nghttp2-client gcc util-linux iproute2 python3-bpfcc linux-headers-amd64 tinyproxy \
	nghttp2-proxy
# What the golden recordings are made of, besides.
DEBIAN_CAPTURES := nghttp2-client nghttp2-server nodejs
# What boots other kernels.
DEBIAN_KERNELS := qemu-system-x86 busybox-static cpio kmod

.PHONY: setup setup-test demo test test-kernels test-compiled captures bench bench-chain fuzz fuzz-corpus lint \
	format wheel clean

setup: build/setup.stamp $(BPF:%=$(OBJECTS)/%.bpf.o) $(BCC:%=$(OBJECTS)/bcc/%)

setup-test: setup build/setup-test.stamp

# Installs what is missing of $(1). Nothing that is installed gets started: the programs are only
# used by the demo and the tests, which start their own.
define install
	@mkdir -p build
	@missing=""; for package in $(1); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		if [ "$$(id -u)" != 0 ]; then echo "make setup needs root to install:$$missing" >&2; exit 1; fi; \
		policy=/usr/sbin/policy-rc.d; \
		if [ ! -e $$policy ]; then printf '#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; trap "rm -f $$policy" EXIT; fi; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } >build/apt.log 2>&1 || { tail -20 build/apt.log >&2; exit 1; }; \
	fi
endef

build/packages.stamp:
	$(call install,$(DEBIAN))
	@touch $@

build/setup.stamp: pyproject.toml build/packages.stamp
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing Python packages"
	@$(BIN)/pip install -q --disable-pip-version-check --editable '.[dev]' 2>build/pip.log || { tail -20 build/pip.log >&2; exit 1; }
	@$(BIN)/python -m compileall -q otel_tap
	@touch $@

# Without root the tests run with what is there; those that lack a program say so.
build/setup-test.stamp: build/setup.stamp
	$(if $(filter 0,$(shell id -u)),$(call install,$(DEBIAN_TEST)))
	@touch $@

$(OBJECTS)/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) | build/packages.stamp
	@mkdir -p $(OBJECTS)
	@echo "compiling $<"
	@clang $(BPF_CFLAGS) -c $< -o $@.tmp && llvm-strip -g $@.tmp && mv $@.tmp $@

$(OBJECTS)/bcc/otel_tap.h: bpf/otel_tap.h
	@mkdir -p $(OBJECTS)/bcc
	@cp $< $@

$(OBJECTS)/bcc/%: bpf/bcc/%
	@mkdir -p $(OBJECTS)/bcc
	@cp $< $@

demo: setup
	@$(BIN)/otel-tap demo

test: setup-test
	@$(BIN)/pytest

# The smoke tests on this kernel, and on Debian's 6.1 and 6.12 in an emulator.
test-kernels: setup-test build/setup-kernels.stamp
	@$(BIN)/python -m tests.kernels.run

build/setup-kernels.stamp: build/setup-test.stamp
	$(call install,$(DEBIAN_KERNELS))
	@touch $@

# Records tests/captures/ again, of the programs that are installed here.
captures: setup-test
	$(call install,$(DEBIAN_CAPTURES))
	@$(BIN)/python -m tests.captures $(ONLY)

# One scenario: make bench ONLY=nginx_tls_saturated
bench: setup build/bench.stamp build/compiled.stamp
	@$(BIN)/python -m tests.benchmarks $(ONLY)

build/bench.stamp: build/setup.stamp
	$(if $(filter 0,$(shell id -u)),$(call install,$(DEBIAN_BENCH)))
	@touch $@

# Coverage-guided fuzzing of the parsers, one after another: make fuzz SECONDS=600 ONLY=http1
SECONDS ?= 60
fuzz: setup build/fuzz.stamp
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ONLY)

# What fuzzing found goes, as few and as small inputs as reach the same code, into tests/fuzz/corpus.
fuzz-corpus: setup build/fuzz.stamp
	@$(BIN)/python -m tests.fuzz --merge $(ONLY)

build/fuzz.stamp: build/setup.stamp
	@$(BIN)/pip install -q --disable-pip-version-check --editable '.[fuzz]' 2>build/pip.log || { tail -20 build/pip.log >&2; exit 1; }
	@touch $@

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/clang-format --style=file:bpf/.clang-format --dry-run --Werror bpf/*.c bpf/*.h bpf/bcc/*.c bpf/bcc/*.h

format: setup
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .
	@$(BIN)/clang-format --style=file:bpf/.clang-format -i bpf/*.c bpf/*.h bpf/bcc/*.c bpf/bcc/*.h

# Compiled with mypyc; OTEL_TAP_PURE=1 makes one that runs anywhere, and slower.
wheel: setup build/setup-wheel.stamp
	@rm -rf build/wheel
	@$(BIN)/pip wheel -q --disable-pip-version-check --no-deps --wheel-dir dist .

build/setup-wheel.stamp: build/setup.stamp
	$(if $(filter 0,$(shell id -u)),$(call install,$(DEBIAN_WHEEL)))
	@touch $@

# A tree with the modules that the wheel holds in place of the sources.
COMPILED := build/compiled
build/compiled.stamp: setup.py pyproject.toml $(shell find otel_tap -type f -not -name '*.pyc') | setup build/setup-wheel.stamp
	@rm -rf build/wheel $(COMPILED)
	@mkdir -p $(COMPILED)
	@$(BIN)/pip wheel -q --disable-pip-version-check --no-deps --wheel-dir $(COMPILED)/dist .
	@$(BIN)/python -m zipfile -e $(COMPILED)/dist/*.whl $(COMPILED)
	@cd $(COMPILED) && PYTHONPATH=$$PWD $(CURDIR)/$(BIN)/otel-tap --version | grep compiled
	@touch $@

# The same tests against it.
test-compiled: setup-test build/compiled.stamp
	@cp -r $(filter-out otel_tap build dist %.egg-info,$(wildcard *)) $(COMPILED)
	@cd $(COMPILED) && PYTHONPATH=$$PWD $(CURDIR)/$(BIN)/pytest $(TESTS)

# What an exchange costs between the ring and its encoding, interpreted and compiled.
bench-chain: build/compiled.stamp
	@$(BIN)/python -m tests.benchmarks.chain
	@cp -r tests $(COMPILED)
	@cd $(COMPILED) && $(CURDIR)/$(BIN)/python -m tests.benchmarks.chain

clean:
	rm -rf build dist $(OBJECTS) *.egg-info .mypy_cache .ruff_cache .pytest_cache
