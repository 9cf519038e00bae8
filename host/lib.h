// SPDX-License-Identifier: MIT
// `require "luapool.host"`: the C half of luapool as one Lua module.
#ifndef LUAPOOL_LIB_H
#define LUAPOOL_LIB_H

#include <lua.h>
#include <signal.h>

int luaopen_luapool_host(lua_State *L);

// Non-zero while the scheduler changes its own state or waits: an interrupt then
// must not raise but call luapool_interrupt, which ends the wait; that reports
// it.
extern volatile sig_atomic_t luapool_busy;

// For a signal handler.
void luapool_interrupt(void);

#endif
