// SPDX-License-Identifier: MIT
// `require "luapool.disk"`: what Lua's own library cannot ask the file system.
// Built into the host, where lambdapool needs it to find its own files.
#ifndef LUAPOOL_DISK_H
#define LUAPOOL_DISK_H

#include <lua.h>

int luaopen_luapool_disk(lua_State *L);

#endif
