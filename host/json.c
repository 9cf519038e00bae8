// SPDX-License-Identifier: MIT
// See json.h.
#include "json.h"

#include <lauxlib.h>

// One for the life of the state, though the module may be loaded anew. It is a
// field of the module, so that it travels to workers and back by name.
static void push_array(lua_State *L) {
  if (luaL_getsubtable(L, LUA_REGISTRYINDEX, "luapool.json.array")) return;
  lua_pushliteral(L, "json.array");
  lua_setfield(L, -2, "__name");
}

int luaopen_luapool_json(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"decode", json_f_decode}, {"encode", json_f_encode}, {NULL, NULL}};
  lua_createtable(L, 0, 4);
  push_array(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "array");
  luaL_setfuncs(L, functions, 1);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}
