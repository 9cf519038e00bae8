// SPDX-License-Identifier: MIT
// Signals as something to wait for among other things, as a Lua object.
#ifndef LUAPOOL_SIGNALS_H
#define LUAPOOL_SIGNALS_H

#include <lua.h>

// Registers the object's metatable.
void signals_open(lua_State *L);

// signals{number, ...} -> signals | nil, message, errno
// Until it is closed these signals do nothing to this process but show here.
int signals_f_new(lua_State *L);

#endif
