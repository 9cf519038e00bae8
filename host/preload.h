// SPDX-License-Identifier: MIT
// The modules that are built into the host: the Lua files of lua/luapool, the
// C half, `luapool.host`, and what is written in C for the host alone. In the
// module for stock lua5.4 only the C half is there, since package.path finds
// the Lua files. In the host they are safe from what a script does to its
// globals.
#ifndef LUAPOOL_PRELOAD_H
#define LUAPOOL_PRELOAD_H

#include <lua.h>

// Enters them in package.preload of L, whose standard libraries are open. The
// Lua files are compiled when they are first required. May raise.
void luapool_preload(lua_State *L);

#endif
