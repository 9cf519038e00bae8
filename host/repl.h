// SPDX-License-Identifier: MIT
// The prompt. Called by main.c alone, which lends it its two ways to run and to
// complain, so that a chunk typed here fails like any other.
#ifndef LUAPOOL_REPL_H
#define LUAPOOL_REPL_H

#include <lua.h>

struct repl_host {
  // Calls the function below narg arguments; leaves nres results, or one
  // message. Returns the status.
  int (*call)(lua_State *L, int narg, int nres);
  // Prints the message on top and pops it, where status is not LUA_OK.
  int (*report)(lua_State *L, int status);
};

// Reads and runs chunks until the end of input. Empties the stack.
void repl_run(lua_State *L, const struct repl_host *host);

#endif
