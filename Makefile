# The front door. `make help` lists what there is; CMakePresets.json holds what each build is made of.

PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
export DESTDIR

.PHONY: all demo check bench tidy install clean help
.DEFAULT_GOAL := all

all: ## build the library, the preload library, the command and the examples
	@scripts/install-packages.sh build
	@scripts/build.sh release products

demo: all ## account a real capture under skep, look at the maps with bpftool, compare with the kernel
	@examples/flows/demo.sh build

check: ## every test: release, ASan + UBSan, TSan, a minute of each fuzzer
	@scripts/install-packages.sh build check
	@JOBS=$(JOBS) scripts/check.sh

bench: ## kernel, skep and peers in one run, against the targets (QUICK=1: within two minutes)
	@scripts/install-packages.sh build bench
	@scripts/build.sh release skep-bench -DSKEP_BENCH=ON
	@build/bin/skep-bench --json build/bench.json $(if $(QUICK),--quick)

tidy: ## formatting and clang-tidy, over everything that is compiled
	@scripts/install-packages.sh build tidy
	@scripts/tidy.sh

install: all ## install below PREFIX (default /usr/local); DESTDIR is honoured
	@cmake --install build --prefix $(PREFIX)

clean: ## remove everything that was built
	@rm -rf build build-debug build-asan build-tsan build-tidy

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile
