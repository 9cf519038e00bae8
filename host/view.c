// SPDX-License-Identifier: MIT
// What a worker has: see view.h.
#include "view.h"

#include <lauxlib.h>
#include <string.h>

enum { VIEW_MOST = 1 << 14 };  // pairs of a table that is looked at

static const char view_name[] = "luapool.view";

static void view_set(lua_State *L, int view, enum view_value v) {
  lua_setiuservalue(L, view, (int)v);
}

// Pushes a copy of the table at idx: only its pairs with string keys.
static void view_copy(lua_State *L, int idx) {
  lua_createtable(L, 0, 64);
  int copy = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, idx); lua_settop(L, copy + 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) continue;
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, copy);
  }
}

// Pushes the functions of the table at idx by name; or true where it is so
// large that it holds data.
static void view_functions(lua_State *L, int idx, bool spawn) {
  int top = lua_gettop(L), left = VIEW_MOST;
  lua_createtable(L, 0, 0);
  for (lua_pushnil(L); lua_next(L, idx); lua_settop(L, top + 2)) {
    if (--left == 0) {
      lua_settop(L, top);
      lua_pushboolean(L, 1);
      return;
    }
    if (lua_type(L, -2) != LUA_TSTRING || !lua_isfunction(L, -1)) continue;
    if (spawn && !lua_iscfunction(L, -1)) continue;
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, top + 1);
  }
}

// The functions of all tables among the values of the table on top of the
// stack, which is left there.
static void view_fields(lua_State *L, int view, bool spawn) {
  int globals = lua_gettop(L);
  lua_createtable(L, 0, 32);
  for (lua_pushnil(L); lua_next(L, globals); lua_settop(L, globals + 2)) {
    if (!lua_istable(L, -1)) continue;
    lua_pushvalue(L, -1);
    view_functions(L, globals + 3, spawn);
    lua_rawset(L, globals + 1);
  }
  view_set(L, view, VIEW_FIELDS);
}

static void view_keep_global(lua_State *L, int globals, const char *name) {
  lua_pushstring(L, name);
  lua_pushvalue(L, -1);
  lua_rawget(L, globals);
  lua_rawset(L, -3);
}

// Pushes the globals that a fresh state has, with the values they have there.
static void view_fresh_globals(lua_State *L, int globals) {
  static const char *const more[] = {"_G", "_VERSION", "arg", NULL};
  lua_createtable(L, 0, 48);
  for (unsigned i = 0; more[i] != NULL; i++)
    view_keep_global(L, globals, more[i]);
  for (unsigned i = 0; names_base(i) != NULL; i++) {
    lua_pushstring(L, names_base(i));
    lua_rawget(L, globals);
    bool own = lua_iscfunction(L, -1);
    lua_settop(L, -2);
    if (own) view_keep_global(L, globals, names_base(i));
  }
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  for (unsigned i = 0; names_standard(i) != NULL; i++) {
    lua_pushstring(L, names_standard(i));
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    lua_rawset(L, -4);
  }
  lua_settop(L, -2);
}

// Pushes the entries of the index that are names of the standard libraries.
static void view_standard_index(lua_State *L, int index) {
  lua_createtable(L, 0, 256);
  int copy = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, index); lua_settop(L, copy + 1)) {
    if (*lua_tostring(L, -1) >= NAMES_MODULE) continue;
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, copy);
  }
}

static void view_fill_fork(lua_State *L, int view, int at) {
  lua_getiuservalue(L, at, NAMES_INDEX);
  view_set(L, view, VIEW_INDEX);
  lua_getiuservalue(L, at, NAMES_MODULES);
  view_set(L, view, VIEW_MODULES);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  view_copy(L, lua_gettop(L));
}

static void view_fill_spawn(lua_State *L, int view, int at) {
  lua_getiuservalue(L, at, NAMES_INDEX);
  view_standard_index(L, lua_gettop(L));
  view_set(L, view, VIEW_INDEX);
  lua_createtable(L, 0, 0);
  view_set(L, view, VIEW_MODULES);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  view_fresh_globals(L, lua_gettop(L));
}

void view_push(lua_State *L, struct names *n, int at, bool spawn) {
  luaL_checkstack(L, 24, "cannot take a view");
  names_make(L, n, at);
  lua_newuserdatauv(L, 0, VIEW_VALUES);
  int view = lua_gettop(L);
  luaL_newmetatable(L, view_name);
  lua_setmetatable(L, view);
  if (spawn)
    view_fill_spawn(L, view, at);
  else
    view_fill_fork(L, view, at);
  view_fields(L, view, spawn);
  view_set(L, view, VIEW_GLOBALS);
  lua_settop(L, view);
}

bool view_is(lua_State *L, int idx) {
  return luaL_testudata(L, idx, view_name) != NULL;
}
