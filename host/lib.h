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

// Raises "interrupted!" in Lua code; what has run that code can ask whether it
// was this that ended it.
int luapool_raise_interrupt(lua_State *L);

#endif
