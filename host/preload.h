// SPDX-License-Identifier: MIT
// The modules that are built into the host: the Lua files of lua/luapool, the
// C half, `luapool.host`, and `luapool.json`. In the module for stock lua5.4
// only the C half is there, since package.path finds the Lua files.
#ifndef LUAPOOL_PRELOAD_H
#define LUAPOOL_PRELOAD_H

#include <lua.h>

// Enters them in package.preload of L, whose standard libraries are open. The
// Lua files are compiled when they are first required. May raise.
void luapool_preload(lua_State *L);

#endif
