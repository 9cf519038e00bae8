// SPDX-License-Identifier: MIT
// The parent's end of one worker, as a Lua object: frames out, results in, what
// the ledger knows, the process. lua/luapool/ drives it.
#ifndef LUAPOOL_HANDLE_H
#define LUAPOOL_HANDLE_H

#include <lua.h>

#include "channel.h"
#include "process.h"

struct ledger;

struct handle {
  unsigned epoch;  // of the process whose it is
  struct channel ch;
  struct process process;
  struct ledger *ledger;
};

void handle_open(lua_State *L);

// Pushes a handle with nothing in it; its __gc frees whatever is there.
struct handle *handle_new(lua_State *L);

struct handle *handle_check(lua_State *L, int arg);

#endif
