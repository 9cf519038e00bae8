# SPDX-License-Identifier: MIT
# make          builds build/luapool
# make run      ... and shows a job on all cores
# make test     every test; test-core: the part that takes seconds
# make faults   what workers and pools must survive, in full
# make fuzz     libFuzzer at the decoder and the frame reader, for an hour
# make soak     random calls and faults, for ten minutes
# make check    clang-tidy, hardening-check, valgrind
# make lint     formats and warnings
# All of them first install, with apt, what they miss (Debian 12).
SHELL := /bin/bash
B := build
# cmake's own make must not look for the job server of this one.
CMAKE := MAKEFLAGS= cmake
JOBS := $(shell nproc)

# Debian's packages, and what each is for:
#   gcc libc6-dev cmake     the compiler and the build
#   liblua5.4-dev           Lua itself: headers, and the archive the host holds
#   libyajl-dev             reads JSON
#   dpkg-dev                unpacks the source of libcurl (host/libcurl.sh)
#   libarchive-dev          writes the zip of lambdapool package, reads it again
#   libmicrohttpd-dev       the HTTP server of lambdapool local
#   lua-argparse            the command line of lambdapool
#   lua-cjson               goes into every zip, since handlers require it
FOR_BUILD := gcc libc6-dev cmake liblua5.4-dev libyajl-dev dpkg-dev \
  libarchive-dev libmicrohttpd-dev lua-argparse lua-cjson
#   lua5.4                  stock Lua: the host is compared with it, and the
#                           specs run in both
#   lua-busted              runs the specs
#   lua-cjson               a C module that must load; its null must travel
#   lua-filesystem          directories in specs; a C module to package
#   binutils                objdump, for the symbol versions in a zip
#   bubblewrap              the Lambda-shaped sandbox
#   python3-venv            fetches Lua's test suite, and what the specs of
#                           Lambda compare with; canary of the sandbox
#   procps                  ps and pgrep, for specs that look at processes
#   strace                  makes system calls fail, for the specs of faults
#   spin                    checks the model of the pipe protocol
#   locales                 one with a decimal comma is made, for JSON's spec
#   curl                    a Lambda runtime in shell, for lambdapool local
FOR_TEST := lua5.4 lua-busted lua-cjson lua-filesystem binutils bubblewrap \
  python3-venv procps strace spin locales curl
#   clang                   the second compiler
#   clang-format lua-check  the style of C and of Lua
#   cppcheck                what compilers do not warn of
FOR_LINT := clang clang-format lua-check cppcheck
#   clang libclang-rt-14-dev  libFuzzer, which is clang's
#   python3-venv              fetches Lua's source, to have its assertions
FOR_FUZZ := clang libclang-rt-14-dev python3-venv
#   clang-tidy devscripts   devscripts: hardening-check
#   valgrind lua-busted     specs run in valgrind
FOR_CHECK := clang clang-tidy devscripts valgrind lua-busted
#   lua-ldoc                the reference, from the comments
FOR_DOCS := lua-ldoc

# Installs those of its arguments that are missing; quick where none is.
define install
  @missing=; for p in $(1); do \
    [[ $$(dpkg-query -W -f '$${db:Status-Status}' $$p 2>&1) == installed ]] \
      || missing+=" $$p"; \
  done; \
  if [[ $$missing ]]; then \
    sudo=; [[ $$(id -u) == 0 ]] || sudo=sudo; \
    echo "installing$$missing"; \
    $$sudo apt-get -qq update && $$sudo env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq install --no-install-recommends $$missing >/dev/null; \
  fi
endef

# build(directory, options of cmake, target): silent unless something is wrong.
define build
  @mkdir -p $(1); log=$(1)/build.log; \
  $(CMAKE) -S . -B $(1) $(2) >$$log 2>&1 \
    && $(CMAKE) --build $(1) -j $(JOBS) -t $(or $(3),all) >>$$log 2>&1 \
    || { cat $$log; exit 1; }; \
  grep -A5 warning: $$log; true
endef

.PHONY: all run test test-core faults fuzz soak check install lint asan bench
.PHONY: docs clean distclean
.PHONY: for-build for-test for-lint for-fuzz for-check for-docs

all: for-build
	$(call build,$(B))

run: all
	$(B)/luapool scripts/squares.lua

test: all asan for-test
	@spec/support/run.sh all

test-core: all for-test
	@spec/support/run.sh core

# The slow faults too, which take minutes.
faults: all for-test
	@spec/support/run.sh faults

# For so many seconds; with EXECUTIONS=n that often instead. Without a network
# it is Debian's Lua that is fuzzed with, which has no assertions.
FUZZ_SECONDS := 3600
fuzz: for-build for-fuzz
	@mkdir -p $(B)
	@spec/fuzz/lua.sh $(B)/lua || echo "no source of Lua"
	$(call build,$(B)/fuzz,-DLUAPOOL_SANITIZE=ON -DCMAKE_C_COMPILER=clang \
	  -DFUZZ_LUA=$(CURDIR)/$(B)/lua,fuzz)
	@spec/fuzz/run.sh $(B)/fuzz \
	  $(if $(EXECUTIONS),-n $(EXECUTIONS),$(FUZZ_SECONDS))

# SEED=n repeats what a run before did.
SOAK_SECONDS := 600
soak: all
	@timeout $$(($(SOAK_SECONDS) + 300)) \
	  $(B)/luapool spec/soak.lua $(SOAK_SECONDS) $(SEED)

check: all for-check
	$(call build,$(B)/lint-clang,-DLUAPOOL_WERROR=ON -DCMAKE_C_COMPILER=clang)
	@spec/support/check.sh $(B) $(B)/lint-clang

# The host under ASan and UBSan, as build/asan/luapool.
asan: for-build
	$(call build,$(B)/asan,-DLUAPOOL_SANITIZE=ON)

lint: for-build for-lint
	@spec/support/lint.sh
	$(call build,$(B)/lint-gcc,-DLUAPOOL_WERROR=ON)
	$(call build,$(B)/lint-clang,-DLUAPOOL_WERROR=ON -DCMAKE_C_COMPILER=clang)

bench: all for-test
	$(B)/luapool scripts/bench/run.lua $(NAMES)

docs: for-docs
	@ldoc -q -c docs/config.ld . >/dev/null

# As root, or with DESTDIR. Builds nothing itself, so that no file of the
# checkout becomes root's: run make first.
PREFIX := /usr/local
install:
	@[[ -x $(B)/luapool ]] || { echo "run make first"; exit 1; }
	cmake --install $(B) --prefix $(PREFIX)

# Keeps what came over the network, so that none is needed to build and test
# again; the scripts that fetched it know whether it is still right. distclean
# takes that too.
FETCHED := $(addprefix $(B)/,curl venv bullseye lua-suite lua)
clean:
	@rm -rf docs/api $(filter-out $(FETCHED),$(wildcard $(B)/*))
distclean:
	@rm -rf docs/api $(B)

for-build:
	$(call install,$(FOR_BUILD))
for-test:
	$(call install,$(FOR_TEST))
	@spec/support/lambda/hosts.sh $(B)/venv || true
for-lint:
	$(call install,$(FOR_LINT))
for-fuzz:
	$(call install,$(FOR_FUZZ))
for-check:
	$(call install,$(FOR_CHECK))
for-docs:
	$(call install,$(FOR_DOCS))
