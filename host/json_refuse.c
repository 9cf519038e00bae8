// SPDX-License-Identifier: MIT
// See json_refuse.h.
#include "json_refuse.h"

#include <lauxlib.h>

#include "place.h"

enum { LABELS = 16 };  // of a longer path the middle is left out

// Pushes where the value inside of `depth` tables is: "items[3].f".
static void push_path(lua_State *L, int depth) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 0; i < depth; i++) {
    if (depth > LABELS && i == LABELS / 2) {
      luaL_addstring(&b, " ... ");
      i = depth - LABELS / 2;
    }
    place_push_field(L, JSON_ROOT + 2 * i + 1);
    const char *label = lua_tostring(L, -1);
    if (i == 0 && label[0] == '.') {
      lua_pushstring(L, label + 1);
      lua_remove(L, -2);
    }
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
}

bool json_refuse(lua_State *L, int depth, const char *what) {
  luaL_checkstack(L, LUA_MINSTACK, what);
  lua_pushfstring(L, "cannot encode %s", what);
  if (depth == 0) return false;
  push_path(L, depth);
  lua_pushfstring(L, "%s (%s)", lua_tostring(L, -2), lua_tostring(L, -1));
  return false;
}

bool json_refuse_type(lua_State *L, int depth) {
  bool light = lua_type(L, -1) == LUA_TLIGHTUSERDATA;
  const char *type = light ? "light userdata" : luaL_typename(L, -1);
  lua_pushfstring(L, "a %s", lua_isthread(L, -1) ? "coroutine" : type);
  return json_refuse(L, depth, lua_tostring(L, -1));
}

bool json_refuse_depth(lua_State *L, int depth) {
  for (int inner = 1; inner <= depth; inner++)
    for (int outer = 0; outer < inner; outer++)
      if (lua_rawequal(L, JSON_ROOT + 2 * inner, JSON_ROOT + 2 * outer))
        return json_refuse(L, inner, "a table inside itself");
  return json_refuse(L, depth, "more than 1000 levels of tables");
}

// Says the same in whatever order the keys come.
bool json_refuse_keys(lua_State *L, int depth) {
  int table = JSON_ROOT + 2 * depth;
  bool strings = false, integers = false;
  lua_settop(L, table);
  for (lua_pushnil(L); lua_next(L, table); lua_settop(L, table + 1)) {
    bool string = lua_type(L, -2) == LUA_TSTRING;
    bool integer = lua_isinteger(L, -2);
    strings |= string;
    integers |= integer;
    if (string || integer) continue;
    const char *type =
        lua_isnumber(L, -2) ? "float" : luaL_typename(L, table + 1);
    lua_pushfstring(L, "a table with a %s as key", type);
    return json_refuse(L, depth, lua_tostring(L, -1));
  }
  return json_refuse(L, depth,
                     strings && integers
                         ? "a table of both a list and an object"
                     : strings ? "an array with names"
                               : "a list with holes");
}
