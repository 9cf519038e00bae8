// SPDX-License-Identifier: MIT
// What travels by name: see named.h.
#include "named.h"

#include <string.h>

#include "class.h"
#include "codec.h"
#include "view.h"
#include "wire.h"

// --- writing ---------------------------------------------------------------

// A table that a module holds in a field goes by name where it looks like a
// class; else it is data, which may have changed here.
static bool named_fits(struct encoder *e, const char *entry, int idx) {
  return entry[0] <= NAMES_MODULE || !lua_istable(e->L, idx) ||
         names_class_like(e->L, encode_names(e), idx);
}

// Pushes field `user` of the view, as it is or of nil where there is none.
static void named_push_view(struct encoder *e, enum view_value v) {
  lua_getiuservalue(e->L, e->session_at, SESSION_VIEW);
  lua_getiuservalue(e->L, -1, (int)v);
  lua_remove(e->L, -2);
}

// Looks the value at idx up in the table on top of the stack, and puts what it
// finds, if it is a string, in its place.
static bool named_look(lua_State *L, int idx) {
  lua_pushvalue(L, idx);
  bool found = lua_rawget(L, -2) == LUA_TSTRING;
  lua_remove(L, -2);
  if (!found) lua_settop(L, -2);
  return found;
}

// Whether the module of the entry on top of the stack was loaded since the view
// was taken, and the other side will find it.
static bool named_since(struct encoder *e) {
  lua_State *L = e->L;
  int top = lua_gettop(L);
  names_push_module(L, lua_tostring(L, -1) + 1);
  named_push_view(e, VIEW_MODULES);
  lua_pushvalue(L, -2);
  bool since = lua_rawget(L, -2) == LUA_TNIL;
  lua_settop(L, top + 1);
  if (since) since = names_findable(L, encode_names(e));
  lua_settop(L, top);
  return since;
}

static bool named_find_here(struct encoder *e, int idx) {
  lua_State *L = e->L;
  size_t n;
  lua_getiuservalue(L, encode_names(e), NAMES_INDEX);
  if (!named_look(L, idx)) return false;
  const char *entry = lua_tolstring(L, -1, &n);
  bool fits = named_fits(e, entry, idx) &&
              names_holds(L, entry + 1, n - 1, idx) &&
              (!encode_viewed(e) || named_since(e));
  if (!fits) lua_settop(L, -2);
  return fits;
}

// A table that was no more than a field of some module when the view was taken
// may be a module loaded since: the other side's is what it was then until it
// loads that module too. Pushes its entry.
static bool named_is_module_now(struct encoder *e, int idx) {
  lua_State *L = e->L;
  int top = lua_gettop(L);
  if (!lua_istable(L, idx)) return false;
  names_refresh(L, e->names, encode_names(e));
  if (named_find_here(e, idx) && lua_tostring(L, -1)[0] == NAMES_MODULE)
    return true;
  lua_settop(L, top);
  return false;
}

bool named_find(struct encoder *e) {
  lua_State *L = e->L;
  int idx = lua_gettop(L);
  if (encode_viewed(e)) {
    named_push_view(e, VIEW_INDEX);
    if (named_look(L, idx)) {
      if (lua_tostring(L, -1)[0] > NAMES_MODULE &&
          named_is_module_now(e, idx)) {
        lua_remove(L, -2);
        return true;
      }
      if (named_fits(e, lua_tostring(L, -1), idx)) return true;
      lua_settop(L, -2);
      return false;
    }
  }
  return named_find_here(e, idx);
}

// Modules loaded since may name tables already written by value. Without a
// session the index has been looked at for this message; but only now is it
// worth making it anew because of fields assigned since.
int named_refresh(struct encoder *e) {
  if (e->fresh_names) return 0;
  e->fresh_names = true;
  int at = encode_names(e);
  if (e->session == NULL) return names_make(e->L, e->names, at);
  if (!names_refresh(e->L, e->names, at)) return 0;
  encode_again(e);
  return -1;
}

static bool named_is_globals(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  bool same = lua_rawequal(L, -1, -2);
  lua_settop(L, -2);
  return same;
}

// Looks the value at key, both stack indexes, up in a user value; pushes it.
static int named_push(lua_State *L, int owner, int value, int key) {
  lua_getiuservalue(L, owner, value);
  lua_pushvalue(L, key);
  int type = lua_rawget(L, -2);
  lua_remove(L, -2);
  return type;
}

static bool named_is_exempt(struct encoder *e, int idx) {
  if (e->defined == 0) return false;
  lua_pushvalue(e->L, idx);
  bool exempt = lua_rawget(e->L, e->exempt_at) != LUA_TNIL;
  lua_settop(e->L, -2);
  return exempt;
}

// Notes the name on top of the stack if its value is not defined there yet.
static void named_note_missing(struct encoder *e) {
  lua_State *L = e->L;
  int name = lua_gettop(L);
  named_push(L, encode_names(e), NAMES_ORDER, name);
  if (lua_tointeger(L, -1) > e->defined) {
    lua_pushvalue(L, name);
    lua_pushboolean(L, 1);
    lua_rawset(L, e->missing_at);
  }
  lua_settop(L, name);
}

// Whether the parent has registered the value at idx under the name on top of
// the stack.
static bool named_is_parents(struct encoder *e, int idx) {
  named_push(e->L, e->session_at, SESSION_DEFINED, lua_gettop(e->L));
  bool same = lua_rawequal(e->L, -1, idx);
  lua_settop(e->L, -2);
  return same;
}

// Pushes the name the value on top of the stack is registered under.
static bool named_registered(struct encoder *e) {
  lua_State *L = e->L;
  int idx = lua_gettop(L);
  if (named_is_exempt(e, idx)) return false;
  lua_getiuservalue(L, encode_names(e), NAMES_REGISTERED_AS);
  if (!named_look(L, idx)) return false;
  if (e->session != NULL && e->session->child && !named_is_parents(e, idx)) {
    lua_settop(L, idx);
    return false;
  }
  if (e->defined != 0) named_note_missing(e);
  return true;
}

bool named_is(struct encoder *e) {
  lua_State *L = e->L;
  int top = lua_gettop(L);
  if (!names_special(e->names, lua_topointer(L, top))) return false;
  bool named = named_is_globals(L) || named_registered(e);
  if (!named && !named_is_exempt(e, top)) named = named_find(e);
  lua_settop(L, top);
  return named;
}

// Writes the string on top of the stack behind a tag and pops it. `skip`: bytes
// of it that are left out; `sized`: its length goes before it.
static int named_put(struct encoder *e, unsigned tag, size_t skip, bool sized) {
  size_t n;
  const char *s = lua_tolstring(e->L, -1, &n);
  bool done = (sized ? encode_tagged(e, tag, n) : encode_byte(e, tag)) &&
              encode_bytes(e, s + skip, n - skip);
  lua_settop(e->L, -2);
  return done ? 1 : -1;
}

int named_encode(struct encoder *e) {
  lua_State *L = e->L;
  if (e->session != NULL && lua_istable(L, -1)) {
    uint64_t id = session_id(L, e->session_at, -1);
    if (id != 0) return class_encode(e, id) ? 1 : -1;
  }
  if (named_is_globals(L)) return encode_byte(e, WIRE_GLOBALS) ? 1 : -1;
  if (named_registered(e)) return named_put(e, WIRE_REGISTERED, 0, true);
  if (named_find(e)) return named_put(e, WIRE_NAME, 1, false);
  return 0;
}

// --- reading ---------------------------------------------------------------

static bool named_decode_registered(struct decoder *d) {
  lua_State *L = d->L;
  uint64_t n = 0;
  if (!decode_varint(d, &n)) return false;
  if (n > decode_left(d)) return decode_wrong(d, "message ends too early");
  names_push(L);
  lua_getiuservalue(L, -1, NAMES_REGISTERED);
  lua_pushlstring(L, (const char *)d->p, (size_t)n);
  d->p += n;
  lua_pushvalue(L, -1);
  if (lua_rawget(L, -3) == LUA_TNIL) {
    lua_pushfstring(L, "nothing here is registered as '%s'",
                    lua_tostring(L, -2));
    decode_refuse(d);
  }
  lua_replace(L, -4);
  lua_settop(L, -3);
  return true;
}

static bool named_decode_name(struct decoder *d) {
  const uint8_t *p = d->p;
  p = names_resolve(d->L, p, d->end, (d->flags & CODEC_CODE) != 0);
  if (p != NULL) {
    d->p = p;
    return true;
  }
  // The bytes may be right all the same: skip them.
  p = names_skip(d->p, d->end);
  if (p == NULL) return decode_wrong(d, "bad name");
  d->p = p;
  decode_refuse(d);
  return true;
}

bool named_decode(struct decoder *d, unsigned tag) {
  if (tag == WIRE_GLOBALS) {
    lua_rawgeti(d->L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  } else if (!(tag == WIRE_NAME ? named_decode_name(d)
                                : named_decode_registered(d))) {
    return false;
  }
  decode_number_object(d);
  return true;
}
