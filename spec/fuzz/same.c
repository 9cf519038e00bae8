// SPDX-License-Identifier: MIT
// Whether two values are alike: see fuzz.h. Pairs of objects are matched when
// first met and looked into later, so that depth costs no C stack.
#include <lauxlib.h>
#include <string.h>

#include "buffer.h"
#include "fuzz.h"

struct same {
  lua_State *L;
  int there, back;  // stack indexes: object or upvalue -> its match, both ways
  int queue;        // pairs still to be looked into
  lua_Integer first, last;
};

// Matches the pair a, b of objects or light userdata. 1 known to match, 0 newly
// matched, -1 one of them has another match.
static int same_match(struct same *s, int a, int b) {
  lua_State *L = s->L;
  lua_pushvalue(L, a);
  bool known = lua_rawget(L, s->there) != LUA_TNIL;
  bool match = lua_rawequal(L, -1, b);
  lua_pushvalue(L, b);
  bool taken = lua_rawget(L, s->back) != LUA_TNIL;
  lua_pop(L, 2);
  if (known) return match ? 1 : -1;
  if (taken) return -1;
  lua_pushvalue(L, a);
  lua_pushvalue(L, b);
  lua_rawset(L, s->there);
  lua_pushvalue(L, b);
  lua_pushvalue(L, a);
  lua_rawset(L, s->back);
  return 0;
}

static bool same_number(lua_State *L, int a, int b) {
  if (lua_isinteger(L, a) != lua_isinteger(L, b)) return false;
  if (lua_isinteger(L, a)) return lua_tointeger(L, a) == lua_tointeger(L, b);
  lua_Number x = lua_tonumber(L, a), y = lua_tonumber(L, b);
  return memcmp(&x, &y, sizeof x) == 0;
}

static bool is_object(lua_State *L, int idx) {
  return lua_istable(L, idx) ||
         (lua_isfunction(L, idx) && !lua_iscfunction(L, idx));
}

// The values at a and b; objects in them are left for later.
static bool same_value(struct same *s, int a, int b) {
  lua_State *L = s->L;
  a = lua_absindex(L, a);
  b = lua_absindex(L, b);
  int type = lua_type(L, a);
  if (type != lua_type(L, b)) return false;
  if (type == LUA_TNUMBER) return same_number(L, a, b);
  // What went by name, or is a class, is the very same.
  if (lua_rawequal(L, a, b)) return true;
  if (!is_object(L, a) || !is_object(L, b)) return false;
  int known = same_match(s, a, b);
  if (known != 0) return known > 0;
  lua_pushvalue(L, a);
  lua_rawseti(L, s->queue, ++s->last);
  lua_pushvalue(L, b);
  lua_rawseti(L, s->queue, ++s->last);
  return true;
}

// Pushes the key of b that stands for the key of a on top of the stack: the same
// one, or, for an object, its match; of one without a match the first object
// among b's keys that has none either (the targets make at most one).
static bool same_push_key(struct same *s, int b) {
  lua_State *L = s->L;
  int key = lua_gettop(L);
  lua_pushvalue(L, key);
  if (!is_object(L, key)) return true;
  if (lua_rawget(L, s->there) != LUA_TNIL) return true;
  lua_settop(L, key);
  for (lua_pushnil(L); lua_next(L, b); lua_settop(L, key + 1)) {
    if (!is_object(L, key + 1)) continue;
    lua_pushvalue(L, key + 1);
    if (lua_rawget(L, s->back) != LUA_TNIL) continue;
    lua_settop(L, key + 1);
    return same_value(s, key, key + 1);
  }
  return false;
}

static size_t count_pairs(lua_State *L, int t) {
  size_t n = 0;
  for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1)) n++;
  return n;
}

static bool same_pairs(struct same *s, int a, int b) {
  lua_State *L = s->L;
  int top = lua_gettop(L);
  if (count_pairs(L, a) != count_pairs(L, b)) return false;
  for (lua_pushnil(L); lua_next(L, a); lua_settop(L, top + 1)) {
    lua_insert(L, -2);  // value, key
    if (!same_push_key(s, b)) return false;
    lua_rawget(L, b);
    if (!same_value(s, top + 1, -1)) return false;
    lua_settop(L, top + 2);
    lua_replace(L, top + 1);
  }
  return true;
}

static bool same_table(struct same *s, int a, int b) {
  lua_State *L = s->L;
  int has = lua_getmetatable(L, a), top = lua_gettop(L);
  if (has != lua_getmetatable(L, b)) return false;
  if (has && !same_value(s, top, top + 1)) return false;
  lua_settop(L, b);
  return same_pairs(s, a, b);
}

static int to_buffer(lua_State *L, const void *p, size_t n, void *b) {
  (void)L;
  return buffer_put(b, p, n) < 0;
}

static void push_code(lua_State *L, int f) {
  struct buffer b = {0};
  lua_pushvalue(L, f);
  FUZZ_CHECK(lua_dump(L, to_buffer, &b, 0) == 0);
  lua_pop(L, 1);
  lua_pushlstring(L, (const char *)b.data, b.len);
  buffer_free(&b);
}

static bool is_globals(lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  lua_pushglobaltable(L);
  bool globals = lua_rawequal(L, idx, -1);
  lua_pop(L, 1);
  return globals;
}

static bool same_function(struct same *s, int a, int b) {
  lua_State *L = s->L;
  int top = lua_gettop(L);
  push_code(L, a);
  push_code(L, b);
  if (!lua_rawequal(L, -1, -2)) return false;
  for (int i = 1;; i++) {
    lua_settop(L, top);
    if (lua_getupvalue(L, a, i) == NULL) return true;
    if (lua_getupvalue(L, b, i) == NULL) return false;
    if (!same_value(s, top + 1, top + 2)) return false;
    if (is_globals(L, top + 1)) continue;
    lua_pushlightuserdata(L, lua_upvalueid(L, a, i));
    lua_pushlightuserdata(L, lua_upvalueid(L, b, i));
    if (same_match(s, top + 3, top + 4) < 0) return false;
  }
}

bool fuzz_same(lua_State *L, int a, int b) {
  int top = lua_gettop(L);
  struct same s = {L, top + 1, top + 2, top + 3, 0, 0};
  a = lua_absindex(L, a);
  b = lua_absindex(L, b);
  luaL_checkstack(L, 40, NULL);
  for (int i = 0; i < 3; i++) lua_newtable(L);
  bool same = same_value(&s, a, b);
  while (same && s.first < s.last) {
    lua_settop(L, top + 3);
    lua_rawgeti(L, s.queue, ++s.first);
    lua_rawgeti(L, s.queue, ++s.first);
    same = lua_istable(L, top + 4) ? same_table(&s, top + 4, top + 5)
                                   : same_function(&s, top + 4, top + 5);
  }
  lua_settop(L, top);
  return same;
}
