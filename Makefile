# SPDX-License-Identifier: MIT
# make          builds build/luapool
# make run      ... and shows a job on all cores
# make test     every test; test-core: the part that takes seconds
# make faults   what workers and pools must survive, in full
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
FOR_BUILD := gcc libc6-dev cmake liblua5.4-dev
#   lua5.4                  stock Lua: the host is compared with it, and the
#                           specs run in both
#   lua-busted              runs the specs
#   lua-cjson               a C module that must load; its null must travel
#   bubblewrap              the Lambda-shaped sandbox
#   python3-venv            fetches Lua's test suite; canary of the sandbox
#   procps                  ps and pgrep, for specs that look at processes
#   strace                  makes system calls fail, for the specs of faults
FOR_TEST := lua5.4 lua-busted lua-cjson bubblewrap python3-venv procps strace
#   clang                   the second compiler
#   clang-format lua-check  the style of C and of Lua
FOR_LINT := clang clang-format lua-check
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

# build(directory, options of cmake): silent unless something is wrong.
define build
  @mkdir -p $(1); log=$(1)/build.log; \
  $(CMAKE) -S . -B $(1) $(2) >$$log 2>&1 \
    && $(CMAKE) --build $(1) -j $(JOBS) >>$$log 2>&1 \
    || { cat $$log; exit 1; }; \
  grep -A5 warning: $$log; true
endef

.PHONY: all run test test-core faults install lint asan bench docs clean
.PHONY: for-build for-test for-lint for-docs

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

clean:
	rm -rf $(B) docs/api

for-build:
	$(call install,$(FOR_BUILD))
for-test:
	$(call install,$(FOR_TEST))
for-lint:
	$(call install,$(FOR_LINT))
for-docs:
	$(call install,$(FOR_DOCS))
