// SPDX-License-Identifier: MIT
// The environment of this process: what getenv, and the programs it starts, see.
#ifndef LUAPOOL_ENVIRONMENT_H
#define LUAPOOL_ENVIRONMENT_H

#include <lua.h>

// setenv(name, value or nil): nil removes it. Raises where the name or the value
// cannot stand in an environment.
int environment_f_set(lua_State *L);

#endif
