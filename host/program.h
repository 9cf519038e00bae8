// SPDX-License-Identifier: MIT
// A program that runs beside us, as a Lua object.
#ifndef LUAPOOL_PROGRAM_H
#define LUAPOOL_PROGRAM_H

#include <lua.h>

// Registers the object's metatable.
void program_open(lua_State *L);

// program{path=, directory=, argv={...}, env={"NAME=value", ...}} -> program |
// nil, message, errno
int program_f_new(lua_State *L);

#endif
