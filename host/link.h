// SPDX-License-Identifier: MIT
// The worker's end of its pipes, as a Lua object. lua/luapool/worker.lua drives
// it: receive a frame, then run item after item.
#ifndef LUAPOOL_LINK_H
#define LUAPOOL_LINK_H

#include <lua.h>

struct ledger;

// Registers the object's metatable.
void link_open(lua_State *L);

// Pushes a link that owns both fds; the ledger stays the process's.
void link_new(lua_State *L, int rfd, int wfd, struct ledger *ledger);

#endif
