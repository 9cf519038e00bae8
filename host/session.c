// SPDX-License-Identifier: MIT
// Sessions: see session.h.
#include "session.h"

#include <lauxlib.h>
#include <string.h>

#include "codec.h"
#include "metatable.h"
#include "view.h"

static const char session_name[] = "luapool.session";

enum { SESSION_SERIAL_SHIFT = 40 };

struct session *session_at(lua_State *L, int idx) {
  if (idx == 0 || lua_isnil(L, idx)) return NULL;
  return lua_touserdata(L, idx);
}

// --- classes ---------------------------------------------------------------

uint64_t session_id(lua_State *L, int session, int idx) {
  idx = lua_absindex(L, idx);
  lua_getiuservalue(L, session, SESSION_IDS);
  lua_pushvalue(L, idx);
  lua_rawget(L, -2);
  uint64_t id = (uint64_t)lua_tointeger(L, -1);
  lua_settop(L, -3);
  return id;
}

void session_enter_class(lua_State *L, int session, uint64_t id) {
  struct session *s = lua_touserdata(L, session);
  names_note(L, s->names, -1);
  lua_getiuservalue(L, session, SESSION_CLASSES);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, (lua_Integer)id);
  lua_getiuservalue(L, session, SESSION_IDS);
  lua_pushvalue(L, -3);
  lua_pushinteger(L, (lua_Integer)id);
  lua_rawset(L, -3);
  lua_settop(L, -3);
}

bool session_is_first(uint64_t id) { return id >> SESSION_SERIAL_SHIFT == 0; }

uint64_t session_new_class(lua_State *L, int session, int idx) {
  struct session *s = lua_touserdata(L, session);
  uint64_t id = s->serial << SESSION_SERIAL_SHIFT | ++s->ids;
  lua_pushvalue(L, idx);
  session_enter_class(L, session, id);
  lua_settop(L, -2);
  return id;
}

void session_push_class(lua_State *L, int session, uint64_t id) {
  lua_getiuservalue(L, session, SESSION_CLASSES);
  lua_rawgeti(L, -1, (lua_Integer)id);
  lua_remove(L, -2);
}

// Gives ids to the global tables that look like classes, so that a worker
// forked from here knows its own copies as the same classes.
static void session_note_globals(lua_State *L) {
  int top = lua_gettop(L);
  lua_getiuservalue(L, 1, SESSION_NAMES);
  lua_getiuservalue(L, top + 1, NAMES_INDEX);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  for (lua_pushnil(L); lua_next(L, top + 3); lua_settop(L, top + 4)) {
    if (!lua_istable(L, -1) || lua_rawequal(L, -1, top + 3)) continue;
    lua_pushvalue(L, -1);
    bool named = lua_rawget(L, top + 2) != LUA_TNIL;
    lua_settop(L, -2);
    if (named || session_id(L, 1, -1) != 0) continue;
    if (names_class_like(L, top + 1, -1)) session_new_class(L, 1, -1);
  }
  lua_settop(L, top);
}

// --- methods ---------------------------------------------------------------

struct session *session_check(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, session_name);
}

// session:snapshot("fork" | "spawn") -> view
static int session_f_snapshot(lua_State *L) {
  static const char *const modes[] = {"fork", "spawn", NULL};
  struct session *s = session_check(L, 1);
  bool spawn = luaL_checkoption(L, 2, "fork", modes) == 1;
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, SESSION_NAMES);
  view_push(L, s->names, 2, spawn);
  if (!spawn) session_note_globals(L);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 1, SESSION_LAST);
  return 1;
}

// session:view(view | nil)
static int session_f_view(lua_State *L) {
  struct session *s = session_check(L, 1);
  lua_settop(L, 2);
  luaL_argcheck(L, lua_isnil(L, 2) || view_is(L, 2), 2, "view expected");
  s->viewed = !lua_isnil(L, 2);
  lua_setiuservalue(L, 1, SESSION_VIEW);
  return 0;
}

static uint64_t session_serial(lua_State *L, int arg) {
  lua_Integer serial = luaL_checkinteger(L, arg);
  luaL_argcheck(L, serial >= 0 && serial < 1 << 20, arg, "out of range");
  return (uint64_t)serial;
}

// What has been registered so far, the parent has too.
static void session_inherit_registered(lua_State *L) {
  lua_getiuservalue(L, 1, SESSION_DEFINED);
  int defined = lua_gettop(L);
  lua_getiuservalue(L, 1, SESSION_NAMES);
  lua_getiuservalue(L, -1, NAMES_REGISTERED);
  for (lua_pushnil(L); lua_next(L, defined + 2);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, defined);
  }
  lua_settop(L, defined - 1);
}

// session:child(serial): the parent has at least what it had when it forked
// this process.
static int session_f_child(lua_State *L) {
  struct session *s = session_check(L, 1);
  s->serial = session_serial(L, 2);
  s->ids = 0;
  s->child = true;
  s->viewed = lua_getiuservalue(L, 1, SESSION_LAST) != LUA_TNIL;
  lua_setiuservalue(L, 1, SESSION_VIEW);
  session_inherit_registered(L);
  return 0;
}

void session_define(lua_State *L, int name, int order, int value) {
  struct session *s = lua_touserdata(L, 1);
  int top = lua_gettop(L);
  lua_getiuservalue(L, 1, SESSION_NAMES);
  lua_getiuservalue(L, 1, SESSION_DEFINED);
  lua_getiuservalue(L, 1, SESSION_ORDERS);
  lua_pushvalue(L, name);
  lua_rawget(L, top + 3);
  if (!lua_rawequal(L, -1, order)) {
    names_register(L, s->names, top + 1, name, value);
    lua_pushvalue(L, name);
    lua_pushvalue(L, value);
    lua_rawset(L, top + 2);
    lua_pushvalue(L, name);
    lua_pushvalue(L, order);
    lua_rawset(L, top + 3);
  }
  lua_settop(L, top);
}

static int session_f_gc(lua_State *L) {
  struct session *s = lua_touserdata(L, 1);
  encode_memory_free(&s->memory);
  memset(&s->memory, 0, sizeof(s->memory));
  return 0;
}

static void session_new_table(lua_State *L, enum session_value v,
                              const char *mode) {
  lua_createtable(L, 0, 0);
  if (mode != NULL) {
    lua_createtable(L, 0, 1);
    lua_pushstring(L, mode);
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
  }
  lua_setiuservalue(L, -2, (int)v);
}

static void session_metatable(lua_State *L) {
  static const luaL_Reg methods[] = {{"__gc", session_f_gc},
                                     {"snapshot", session_f_snapshot},
                                     {"view", session_f_view},
                                     {"child", session_f_child},
                                     {"define", codec_f_session_define},
                                     {"defined", codec_f_session_defined},
                                     {NULL, NULL}};
  metatable_push(L, session_name, methods);
}

int session_f_new(lua_State *L) {
  uint64_t serial = session_serial(L, 1);
  struct session *s = lua_newuserdatauv(L, sizeof(*s), SESSION_VALUES);
  memset(s, 0, sizeof(*s));
  s->serial = serial;
  s->child = serial != 0;
  session_metatable(L);
  lua_setmetatable(L, -2);
  s->names = names_push(L);
  lua_setiuservalue(L, -2, SESSION_NAMES);
  session_new_table(L, SESSION_IDS, "k");
  session_new_table(L, SESSION_CLASSES, "v");
  session_new_table(L, SESSION_DEFINED, NULL);
  session_new_table(L, SESSION_ORDERS, NULL);
  return 1;
}
