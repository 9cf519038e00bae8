// SPDX-License-Identifier: MIT
// Classes in messages: see class.h.
#include "class.h"

#include "decode_table.h"
#include "encode_table.h"
#include "named.h"
#include "wire.h"

// --- writing ---------------------------------------------------------------

// A class that comes from the parent is there, whatever the scope says.
static bool class_in_scope(struct encoder *e, uint64_t id) {
  if (e->session->child && session_is_first(id)) return true;
  if (e->scope_at == 0) return false;
  bool known = lua_rawgeti(e->L, e->scope_at, (lua_Integer)id) != LUA_TNIL;
  lua_settop(e->L, -2);
  return known;
}

bool class_encode(struct encoder *e, uint64_t id) {
  if (class_in_scope(e, id)) return encode_tagged(e, WIRE_CLASS, id);
  int classes = encode_helper(e, ENCODE_CLASSES);
  lua_pushvalue(e->L, -1);
  lua_rawseti(e->L, classes, (lua_Integer)id);
  return encode_tagged(e, WIRE_CLASS_NEW, id) && encode_table(e);
}

// Pools and the like bear their kind in their metatable.
static bool class_is_ours(lua_State *L) {
  lua_pushliteral(L, "__luapool");
  bool ours = lua_rawget(L, -2) == LUA_TSTRING;
  lua_settop(L, -2);
  return ours;
}

// That it is a metatable may give it the name its module has for it.
static void class_mark(struct encoder *e) {
  lua_State *L = e->L;
  lua_getiuservalue(L, encode_names(e), NAMES_METATABLES);
  lua_pushvalue(L, -2);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_settop(L, -2);
}

static bool class_has_name(struct encoder *e) {
  if (!names_special(e->names, lua_topointer(e->L, -1))) return false;
  class_mark(e);
  return named_is(e);
}

static bool class_has_id(struct encoder *e) {
  return e->session != NULL && session_id(e->L, e->session_at, -1) != 0;
}

bool class_prepare(struct encoder *e, int idx) {
  const void *p = lua_topointer(e->L, -1);
  bool written = pointers_find(&e->m->objects, p) != NULL;
  if (written && (e->session == NULL || names_special(e->names, p)))
    return true;
  if (names_special(e->names, p) && class_has_id(e)) return true;
  if (class_is_ours(e->L)) {
    lua_pushvalue(e->L, idx);
    return encode_refuse(e);
  }
  if (class_has_name(e)) return true;
  int fresh = named_refresh(e);
  if (fresh < 0) return false;
  if (fresh > 0 && class_has_name(e)) return true;
  if (e->session == NULL) return true;
  session_new_class(e->L, e->session_at, -1);
  return !written || encode_again(e);
}

bool class_key(struct encoder *e, int idx, const char *key) {
  if (e->session == NULL) return true;
  if (key[0] != '_' || key[1] != '_') return true;
  if (session_id(e->L, e->session_at, idx) != 0) return true;
  session_new_class(e->L, e->session_at, idx);
  e->wary = true;
  return encode_again(e);
}

void class_look(struct encoder *e) {
  lua_State *L = e->L;
  if (names_special(e->names, lua_topointer(L, -1))) return;
  if (names_class_like(L, encode_names(e), -1))
    session_new_class(L, e->session_at, -1);
}

void class_sent(struct encoder *e) {
  lua_State *L = e->L;
  int classes = encode_slot(e, ENCODE_CLASSES);
  if (e->scope_at == 0 || lua_isnil(L, classes)) return;
  for (lua_pushnil(L); lua_next(L, classes);)
    lua_rawseti(L, e->scope_at, lua_tointeger(L, -2));
}

// --- reading ---------------------------------------------------------------

// Notes the class on top of the stack, with new contents below the top where
// `contents`, and leaves the class alone on the stack.
static void class_note(struct decoder *d, uint64_t id, bool contents) {
  lua_State *L = d->L;
  lua_pushinteger(L, (lua_Integer)id);
  decode_append(d, DECODE_CLASSES, &d->classes);
  lua_pushvalue(L, -1);
  decode_append(d, DECODE_CLASSES, &d->classes);
  if (contents)
    lua_insert(L, -2);
  else
    lua_pushboolean(L, 0);
  decode_append(d, DECODE_CLASSES, &d->classes);
}

// Contents of a class that is here: they are read into a table of their own,
// which the class takes over at the end.
static bool class_decode_again(struct decoder *d, uint64_t id) {
  lua_State *L = d->L;
  int at = lua_gettop(L);
  decode_number_object(d);
  if (!decode_table(d, false)) return false;
  lua_settop(L, at + 1);
  lua_insert(L, at);
  class_note(d, id, true);
  return true;
}

static bool class_decode_first(struct decoder *d, uint64_t id) {
  lua_settop(d->L, -2);
  if (!decode_table(d, true)) return false;
  session_enter_class(d->L, d->session_at, id);
  class_note(d, id, false);
  return true;
}

bool class_decode(struct decoder *d, unsigned tag) {
  uint64_t id = 0;
  if (d->session == NULL) return decode_wrong(d, "class outside a session");
  if (!decode_varint(d, &id)) return false;
  session_push_class(d->L, d->session_at, id);
  bool known = lua_istable(d->L, -1);
  if (tag == WIRE_CLASS_NEW)
    return known ? class_decode_again(d, id) : class_decode_first(d, id);
  if (!known) return decode_wrong(d, "unknown class");
  decode_number_object(d);
  class_note(d, id, false);
  return true;
}

// Makes the fields of the class below the top those of the table on top.
static void class_take_over(lua_State *L) {
  int class = lua_gettop(L) - 1, contents = class + 1;
  for (lua_pushnil(L); lua_next(L, class); lua_settop(L, contents + 1)) {
    lua_pushvalue(L, -2);
    lua_pushnil(L);
    lua_rawset(L, class);
  }
  for (lua_pushnil(L); lua_next(L, contents);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, class);
  }
}

// A class has its new fields before anything becomes its object, but the
// metatable of its contents only after that.
void class_finish(struct decoder *d) {
  lua_State *L = d->L;
  int classes = decode_slot(d, DECODE_CLASSES);
  for (lua_Integer i = 0; i < d->classes; i += 3) {
    int top = lua_gettop(L);
    lua_rawgeti(L, classes, i + 1);
    lua_rawgeti(L, classes, i + 2);
    if (d->scope_at != 0) {
      lua_pushvalue(L, -1);
      lua_rawseti(L, d->scope_at, lua_tointeger(L, top + 1));
    }
    lua_rawgeti(L, classes, i + 3);
    if (d->session->child && lua_istable(L, -1)) class_take_over(L);
    lua_settop(L, top);
  }
}

void class_finish_metas(struct decoder *d) {
  lua_State *L = d->L;
  int classes = decode_slot(d, DECODE_CLASSES);
  for (lua_Integer i = 0; d->classes > i; i += 3) {
    if (!d->session->child) return;
    lua_rawgeti(L, classes, i + 2);
    lua_rawgeti(L, classes, i + 3);
    if (lua_istable(L, -1)) {
      if (!lua_getmetatable(L, -1)) lua_pushnil(L);
      lua_setmetatable(L, -3);
    }
    lua_settop(L, -3);
  }
}
