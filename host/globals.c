// SPDX-License-Identifier: MIT
// Which globals travel with functions: see globals.h. A function that has been
// reached is searched by what its bytecode names (dump.h): for globals, and for
// fields of the tables it can see, any of whose functions it may call. What is
// the same in the view need not travel; but a function there may in turn use
// what is not.
#include "globals.h"

#include <string.h>

#include "codec.h"
#include "dump.h"
#include "peek.h"
#include "view.h"
#include "wire.h"

// --- writing ---------------------------------------------------------------

enum {
  GLOBALS_DEPTH = 3,       // fields of fields of a table that are looked at
  GLOBALS_MOST = 1 << 10,  // a table of more pairs than its list holds data
  GLOBALS_STACK = 64,      // Lua stack slots a search takes
};

// A function being searched, and the stack indexes of what that needs.
struct globals_search {
  struct encoder *e;
  lua_State *L;
  const struct dump *dump;
  int function;
  int names, constants;  // of the dump
  int globals;           // the table of globals
  int known, fields;     // of the view
  int own;               // globals that are not searched, or nil
  bool everything;       // _G itself is used: any constant may be a global
};

bool globals_is_env(lua_State *L, const char *name) {
  if (!lua_istable(L, -1)) return false;
  if (strcmp(name, "_ENV") == 0) return true;
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  bool same = lua_rawequal(L, -1, -2);
  lua_settop(L, -2);
  return same;
}

// Enters the value on top of the stack into the set part of a helper table.
// Returns whether it is new there.
static bool globals_enter(struct encoder *e, int helper) {
  lua_State *L = e->L;
  lua_pushvalue(L, -1);
  bool fresh = lua_rawget(L, helper) == LUA_TNIL;
  lua_settop(L, -2);
  if (!fresh) return false;
  lua_pushvalue(L, -1);
  lua_pushboolean(L, 1);
  lua_rawset(L, helper);
  return true;
}

void globals_reach(struct encoder *e) {
  lua_State *L = e->L;
  if (!lua_isfunction(L, -1) || lua_iscfunction(L, -1)) return;
  int reached = encode_helper(e, ENCODE_REACHED);
  if (!globals_enter(e, reached)) return;
  lua_pushvalue(L, -1);
  lua_rawseti(L, reached, ++e->reached_last);
}

// --- what travels ----------------------------------------------------------

static void globals_append(struct encoder *e, int sets, int idx) {
  lua_pushvalue(e->L, idx);
  lua_rawseti(e->L, sets, ++e->sets_last);
}

// The value on top of the stack is to be global `name` (a stack index).
static void globals_set(struct globals_search *s, int name) {
  lua_State *L = s->L;
  int top = lua_gettop(L);
  int sets = encode_helper(s->e, ENCODE_SETS);
  lua_pushvalue(L, name);
  if (globals_enter(s->e, sets)) {
    lua_pushboolean(L, 0);
    globals_append(s->e, sets, name);
    globals_append(s->e, sets, -1);
    globals_append(s->e, sets, top);
  }
  lua_settop(L, top);
}

// The function on top of the stack is to be field `field` of global `name`.
static void globals_set_field(struct globals_search *s, int name, int field) {
  lua_State *L = s->L;
  int top = lua_gettop(L);
  int sets = encode_helper(s->e, ENCODE_SETS);
  lua_pushfstring(L, "%s.%s", lua_tostring(L, name), lua_tostring(L, field));
  if (globals_enter(s->e, sets)) {
    globals_append(s->e, sets, name);
    globals_append(s->e, sets, field);
    globals_append(s->e, sets, top);
  }
  lua_settop(L, top);
}

// --- tables a function can see ---------------------------------------------

typedef void (*globals_visitor)(struct globals_search *s, int name, int key,
                                int depth);

// Calls visit for all fields of the table at idx that are no list.
static void globals_all_fields(struct globals_search *s, int idx, int name,
                               int depth, globals_visitor visit) {
  lua_State *L = s->L;
  int top = lua_gettop(L), left = GLOBALS_MOST;
  lua_Integer n = (lua_Integer)lua_rawlen(L, idx);
  if (n > 0 && peek_in_array(L, idx, n))
    lua_pushinteger(L, n);
  else
    lua_pushnil(L);
  for (; left > 0 && lua_next(L, idx); left--) {
    if (lua_type(L, top + 1) == LUA_TSTRING) visit(s, name, top + 1, depth);
    lua_settop(L, top + 1);
  }
  lua_settop(L, top);
}

// Calls visit for each field of the table at idx that the function may mean,
// with the key at stack index `key` and the value on top of the stack.
static void globals_fields(struct globals_search *s, int idx, int name,
                           int depth, globals_visitor visit) {
  lua_State *L = s->L;
  int top = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, s->constants);) {
    lua_pushvalue(L, top + 1);
    lua_rawget(L, idx);
    if (!lua_isnil(L, -1)) visit(s, name, top + 1, depth);
    lua_settop(L, top + 1);
  }
}

// A field of some table: what functions it leads to.
static void globals_follow(struct globals_search *s, int name, int key,
                           int depth) {
  lua_State *L = s->L;
  (void)key;
  if (lua_isfunction(L, -1)) {
    globals_reach(s->e);
  } else if (lua_istable(L, -1) && depth < GLOBALS_DEPTH) {
    if (!globals_enter(s->e, encode_helper(s->e, ENCODE_REACHED))) return;
    const void *p = lua_topointer(L, -1);
    if (s->dump->indexes && names_special(s->e->names, p))
      globals_all_fields(s, lua_gettop(L), name, depth + 1, globals_follow);
    else
      globals_fields(s, lua_gettop(L), name, depth + 1, globals_follow);
  }
}

// A field of a global table that the view has too, whose functions then are
// the table on top of `fields`.
static void globals_compare(struct globals_search *s, int name, int key,
                            int depth) {
  lua_State *L = s->L;
  int value = lua_gettop(L);
  if (!lua_isfunction(L, value)) {
    globals_follow(s, name, key, depth);
    return;
  }
  bool same = false;
  lua_pushvalue(L, name + 1);
  if (lua_rawget(L, s->fields) == LUA_TTABLE) {
    lua_pushvalue(L, key);
    lua_rawget(L, -2);
    same = lua_rawequal(L, -1, value);
  }
  lua_settop(L, value);
  if (same)
    globals_reach(s->e);
  else
    globals_set_field(s, name, key);
}

// --- globals ---------------------------------------------------------------

// The global whose name is at `name`, its value just above it, on top.
static void globals_look(struct globals_search *s, int name) {
  lua_State *L = s->L;
  lua_pushvalue(L, name);
  lua_rawget(L, s->known);
  bool same = lua_rawequal(L, -1, name + 1);
  lua_settop(L, name + 1);
  if (!same)
    globals_set(s, name);
  else if (lua_rawequal(L, -1, s->globals))
    s->everything = true;
  else if (lua_isfunction(L, -1))
    globals_reach(s->e);
  else if (lua_istable(L, -1) && s->dump->indexes)
    globals_all_fields(s, name + 1, name, 1, globals_compare);
  else if (lua_istable(L, -1))
    globals_fields(s, name + 1, name, 1, globals_compare);
}

static int globals_f_index(lua_State *L) {
  lua_gettable(L, 1);
  return 1;
}

// Pushes the value of the name on top of the stack in another environment, as
// the function would get it; nil where that raises an error.
static void globals_index(lua_State *L, int env) {
  int name = lua_gettop(L);
  lua_pushcfunction(L, globals_f_index);
  lua_pushvalue(L, env);
  lua_pushvalue(L, name);
  if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
    lua_settop(L, name);
    lua_pushnil(L);
  }
}

// The name on top of the stack, looked up in the environment at `env`.
static void globals_use(struct globals_search *s, int env) {
  lua_State *L = s->L;
  int name = lua_gettop(L);
  lua_pushvalue(L, name);
  lua_rawget(L, s->globals);
  if (!lua_rawequal(L, env, s->globals)) {
    lua_pushvalue(L, name);
    globals_index(L, env);
    lua_remove(L, -2);
    bool other = !lua_isnil(L, -1) && !lua_rawequal(L, -1, -2);
    if (other) globals_set(s, name);
    lua_settop(L, other ? name : name + 1);
    if (other) return;
  }
  if (!lua_isnil(L, -1)) globals_look(s, name);
  lua_settop(L, name);
}

// All names of the set at idx.
static void globals_use_all(struct globals_search *s, int set, int env) {
  lua_State *L = s->L;
  int top = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, set); lua_settop(L, top + 1)) {
    lua_pushvalue(L, top + 1);
    globals_use(s, env);
  }
}

static void globals_env(struct globals_search *s, int upvalue) {
  lua_State *L = s->L;
  int env = lua_gettop(L);
  if (lua_rawequal(L, env, s->own)) return;
  if (dump_wild(s->dump, upvalue - 1)) {
    globals_use_all(s, s->constants, env);
  } else if (lua_rawgeti(L, s->names, upvalue) == LUA_TTABLE) {
    globals_use_all(s, env + 1, env);
  }
  lua_settop(L, env);
}

static void globals_upvalue(struct globals_search *s, int i) {
  lua_State *L = s->L;
  const char *name = lua_getupvalue(L, s->function, i);
  if (globals_is_env(L, name))
    globals_env(s, i);
  else
    globals_follow(s, 0, 0, 1);
  lua_settop(L, -2);
}

// The library of the strings' metatable is used without being named.
static void globals_strings(struct globals_search *s) {
  lua_State *L = s->L;
  lua_pushliteral(L, "string");
  globals_use(s, s->globals);
  lua_settop(L, -2);
}

static void globals_push_all(struct globals_search *s) {
  lua_State *L = s->L;
  struct encoder *e = s->e;
  int names = encode_names(e), at = s->function;
  lua_getiuservalue(L, names, NAMES_DUMPS);
  lua_getiuservalue(L, names, NAMES_CODES);
  s->dump = dump_push(L, &e->names->code, at + 1, at + 2, at);
  lua_getiuservalue(L, at + 3, DUMP_NAMES);
  lua_getiuservalue(L, at + 3, DUMP_CONSTANTS);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  lua_getiuservalue(L, e->session_at, SESSION_VIEW);
  lua_getiuservalue(L, at + 7, VIEW_GLOBALS);
  lua_getiuservalue(L, at + 7, VIEW_FIELDS);
  lua_getfield(L, LUA_REGISTRYINDEX, GLOBALS_OWN);
  s->names = at + 4;
  s->constants = at + 5;
  s->globals = at + 6;
  s->known = at + 8;
  s->fields = at + 9;
  s->own = at + 10;
}

// Searches the function on top of the stack.
static void globals_search(struct encoder *e) {
  struct globals_search s = {.e = e, .L = e->L};
  s.function = lua_gettop(e->L);
  globals_push_all(&s);
  for (int i = 1; i <= s.dump->upvalues; i++) globals_upvalue(&s, i);
  if (s.everything) globals_use_all(&s, s.constants, s.globals);
  if (s.dump->calls_methods) globals_strings(&s);
  lua_settop(e->L, s.function);
}

static void globals_search_all(struct encoder *e) {
  lua_State *L = e->L;
  while (e->reached_first < e->reached_last) {
    lua_rawgeti(L, encode_slot(e, ENCODE_REACHED), ++e->reached_first);
    globals_search(e);
    lua_settop(L, -2);
  }
}

// Writes the next set.
static bool globals_write(struct encoder *e) {
  lua_State *L = e->L;
  int top = lua_gettop(L), sets = encode_slot(e, ENCODE_SETS);
  lua_Integer at = e->sets_first;
  lua_rawgeti(L, sets, at + 1);
  bool field = lua_rawgeti(L, sets, at + 2) == LUA_TSTRING;
  lua_rawgeti(L, sets, at + 3);
  if (!encode_byte(e, field ? WIRE_SET_FIELD : WIRE_SET_GLOBAL)) return false;
  for (int i = 1; i <= 3; i++) {
    if (i == 2 && !field) continue;
    lua_pushvalue(L, top + i);
    if (!encode_value(e)) return false;
    lua_settop(L, top + 3);
  }
  lua_settop(L, top);
  if (!encode_rest(e)) return false;
  e->sets_first = at + 3;
  return true;
}

bool globals_encode(struct encoder *e) {
  if (!lua_checkstack(e->L, GLOBALS_STACK)) return encode_no_memory(e);
  globals_search_all(e);
  if (e->sets_first == e->sets_last) return true;
  while (e->sets_first < e->sets_last) {
    if (!globals_write(e)) return false;
    globals_search_all(e);
  }
  return encode_byte(e, WIRE_SET_END);
}

// --- reading ---------------------------------------------------------------

// One set, of the given kind, is kept as three values.
static bool globals_decode_set(struct decoder *d, unsigned kind) {
  lua_State *L = d->L;
  if (!decode_value(d) || lua_type(L, -1) != LUA_TSTRING)
    return decode_wrong(d, "bad name of a global");
  decode_append(d, DECODE_SETS, &d->sets);
  if (kind == WIRE_SET_FIELD) {
    if (!decode_value(d) || lua_type(L, -1) != LUA_TSTRING)
      return decode_wrong(d, "bad name of a field");
  } else {
    lua_pushboolean(L, 0);
  }
  decode_append(d, DECODE_SETS, &d->sets);
  if (!decode_value(d)) return false;
  decode_append(d, DECODE_SETS, &d->sets);
  return decode_rest(d);
}

bool globals_decode(struct decoder *d) {
  unsigned kind = 0;
  if ((d->wire & WIRE_SETS) == 0) return true;
  if ((d->flags & CODEC_CODE) == 0)
    return decode_wrong(d, "globals may not be set");
  while (decode_byte(d, &kind)) {
    if (kind == WIRE_SET_END) return true;
    if (kind > WIRE_SET_FIELD) return decode_wrong(d, "unknown kind of set");
    if (!globals_decode_set(d, kind)) return false;
  }
  return false;
}

void globals_finish(struct decoder *d) {
  lua_State *L = d->L;
  int sets = decode_slot(d, DECODE_SETS);
  for (lua_Integer i = 0; i < d->sets; i += 3) {
    int top = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_rawgeti(L, sets, i + 1);
    if (lua_rawgeti(L, sets, i + 2) == LUA_TSTRING) {
      lua_insert(L, -2);
      lua_rawget(L, -3);
      lua_insert(L, -2);
    } else {
      lua_settop(L, -2);
    }
    lua_rawgeti(L, sets, i + 3);
    if (lua_istable(L, -3)) lua_rawset(L, -3);
    lua_settop(L, top);
  }
}
