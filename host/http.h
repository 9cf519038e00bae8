// SPDX-License-Identifier: MIT
// `require "luapool.http"`: HTTP/1.1 for scripts, by libcurl; nothing of Lambda
// in it. Part of the host alone. Its functions are documented in
// lua/luapool/http.lua.
#ifndef LUAPOOL_HTTP_H
#define LUAPOOL_HTTP_H

#include <lua.h>

int luaopen_luapool_http(lua_State *L);

#endif
