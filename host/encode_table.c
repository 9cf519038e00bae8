// SPDX-License-Identifier: MIT
// Writes tables by Lua's API: see encode_table.h.
#include "encode_table.h"

#include <stdlib.h>

#include "class.h"
#include "peek.h"
#include "wire.h"

// --- what peek.c needs too -------------------------------------------------

bool encode_table_head(struct encoder *e, unsigned bits, uint64_t n,
                       size_t *size_at) {
  uint8_t *p = encode_room(e, 2 + BYTES_VARINT);
  if (p == NULL) return false;
  *p++ = (uint8_t)(WIRE_TABLE | bits);
  if (bits & WIRE_ARRAY) p = bytes_put_varint(p, n);
  *size_at = (size_t)(p - e->b->data);
  if (bits & WIRE_HASH) *p++ = 0;
  e->b->len = (size_t)(p - e->b->data);
  return true;
}

bool encode_table_keep(struct encoder *e, struct chains_key key) {
  struct encode_memory *m = e->m;
  if (m->keys_len == m->keys_cap) {
    size_t cap = m->keys_cap == 0 ? 64 : m->keys_cap * 2;
    struct chains_key *keys = realloc(m->keys, cap * sizeof(*keys));
    if (keys == NULL) return encode_no_memory(e);
    m->keys = keys;
    m->keys_cap = cap;
  }
  m->keys[m->keys_len++] = key;
  return true;
}

static bool encode_table_key(struct encoder *e, const struct chains_key *key) {
  uint8_t *p = encode_room(e, 16);
  if (p == NULL) return false;
  e->b->len +=
      key->is_float ? encode_float(p, key->u.n) : encode_integer(p, key->u.i);
  return true;
}

bool encode_table_keys(struct encoder *e, size_t kept, size_t pairs,
                       size_t size_at) {
  struct encode_memory *m = e->m;
  size_t n = m->keys_len - kept;
  unsigned bits = 0;
  while (((size_t)1 << bits) < pairs) bits++;
  if (n > 0) bits = chains_choose(m->keys + kept, n, bits);
  e->b->data[size_at] = (uint8_t)bits;
  if (n == 0) return encode_byte(e, WIRE_END);
  if (!encode_tagged(e, WIRE_NUMBERS, n)) return false;
  for (size_t i = kept; i < m->keys_len; i++)
    if (!encode_table_key(e, &m->keys[i])) return false;
  return true;
}

// --- by the API ------------------------------------------------------------

// A table being written.
struct encode_walk {
  int at;          // stack index
  unsigned bits;   // WIRE_ARRAY ...
  lua_Integer n;   // values of its list
  bool skips;      // the walk meets the keys 1..n too
  size_t size_at;  // place of the size byte
  size_t pairs;
};

// Begins the walk over the keys that are not in the list: leaves the first
// such key and its value on the stack, or returns false. In a table's order the
// array part comes first, so that a list that lies there is passed over.
static bool encode_walk_first(struct encoder *e, struct encode_walk *t) {
  lua_State *L = e->L;
  t->skips = t->n > 0 && !peek_in_array(L, t->at, t->n);
  if (t->n > 0 && !t->skips)
    lua_pushinteger(L, t->n);
  else
    lua_pushnil(L);
  return lua_next(L, t->at) != 0;
}

// Describes the table on top of the stack. The first pair of the walk, if any,
// is left above it.
static void encode_walk_begin(struct encoder *e, struct encode_walk *t) {
  lua_State *L = e->L;
  t->at = lua_gettop(L);
  t->bits = 0;
  t->n = (lua_Integer)lua_rawlen(L, t->at);
  if (t->n > 0) t->bits |= WIRE_ARRAY;
  if (lua_getmetatable(L, t->at)) {
    t->bits |= WIRE_META;
    lua_settop(L, t->at);
  }
  if (encode_walk_first(e, t)) t->bits |= WIRE_HASH;
}

// A pair whose key is a number: unless it is of the list, it is kept.
static bool encode_walk_number(struct encoder *e, struct encode_walk *t) {
  lua_State *L = e->L;
  struct chains_key key = {.is_float = !lua_isinteger(L, -2)};
  if (key.is_float)
    key.u.n = lua_tonumberx(L, -2, NULL);
  else
    key.u.i = lua_tointegerx(L, -2, NULL);
  if (t->skips && !key.is_float && key.u.i >= 1 && key.u.i <= t->n) return true;
  t->pairs++;
  return encode_table_keep(e, key);
}

static bool encode_walk_pair(struct encoder *e, struct encode_walk *t) {
  lua_State *L = e->L;
  int type = lua_type(L, -2);
  if (type == LUA_TNUMBER) return encode_walk_number(e, t);
  t->pairs++;
  if (type == LUA_TSTRING) {
    size_t n;
    const char *s = lua_tolstring(L, -2, &n);
    return class_key(e, t->at, s) && encode_string(e, s, n) && encode_value(e);
  }
  lua_pushvalue(L, -2);
  if (!encode_value(e)) return false;
  lua_settop(L, -2);
  return encode_value(e);
}

static bool encode_walk_kept(struct encoder *e, const struct encode_walk *t,
                             size_t kept) {
  lua_State *L = e->L;
  for (size_t i = kept, n = e->m->keys_len; i < n; i++) {
    const struct chains_key *key = &e->m->keys[i];
    if (key->is_float)
      lua_pushnumber(L, key->u.n);
    else
      lua_pushinteger(L, key->u.i);
    lua_rawget(L, t->at);
    if (!encode_value(e)) return false;
    lua_settop(L, -2);
  }
  return true;
}

// The pairs; the first one lies on the stack.
static bool encode_walk_pairs(struct encoder *e, struct encode_walk *t) {
  lua_State *L = e->L;
  size_t kept = e->m->keys_len;
  t->pairs = 0;
  do {
    if (!encode_walk_pair(e, t)) return false;
    lua_settop(L, -2);
  } while (lua_next(L, t->at));
  bool done = encode_table_keys(e, kept, t->pairs, t->size_at) &&
              encode_walk_kept(e, t, kept);
  e->m->keys_len = kept;
  return done;
}

static bool encode_walk_list(struct encoder *e, const struct encode_walk *t) {
  lua_State *L = e->L;
  for (lua_Integer i = 1; i <= t->n; i++) {
    lua_rawgeti(L, t->at, i);
    if (!encode_value(e)) return false;
    lua_settop(L, -2);
  }
  return true;
}

static bool encode_walk_metatable(struct encoder *e, int at) {
  lua_getmetatable(e->L, at);
  if (!class_prepare(e, at) || !encode_value(e)) return false;
  lua_settop(e->L, -2);
  return true;
}

static bool encode_walk_contents(struct encoder *e, struct encode_walk *t) {
  if ((t->bits & WIRE_META) && !encode_walk_metatable(e, t->at)) return false;
  if ((t->bits & WIRE_HASH) && !encode_walk_pairs(e, t)) return false;
  return encode_walk_list(e, t);
}

bool encode_table(struct encoder *e) {
  struct encode_walk t;
  bool later = e->depth == WIRE_DEPTH;
  encode_walk_begin(e, &t);
  if (later) t.bits |= WIRE_LATER;
  if (!encode_table_head(e, t.bits, (uint64_t)t.n, &t.size_at)) return false;
  if (later) {
    lua_settop(e->L, t.at);
    return encode_put_off(e, t.size_at);
  }
  e->depth++;
  bool done = encode_walk_contents(e, &t);
  e->depth--;
  lua_settop(e->L, t.at);
  return done;
}

bool encode_table_rest(struct encoder *e, size_t place) {
  struct encode_walk t;
  encode_walk_begin(e, &t);
  t.size_at = place;
  e->depth = 1;
  return encode_walk_contents(e, &t);
}
