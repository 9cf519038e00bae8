// SPDX-License-Identifier: MIT
// Metatables of userdata, entered in the registry only when they are whole:
// luaL_newmetatable enters them empty, and where memory runs out right then they
// stay so for good.
#ifndef LUAPOOL_METATABLE_H
#define LUAPOOL_METATABLE_H

#include <lauxlib.h>

// Pushes the metatable of that name; at first use makes it, of these functions
// and with itself as __index.
void metatable_push(lua_State *L, const char *name, const luaL_Reg *functions);

#endif
