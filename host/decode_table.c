// SPDX-License-Identifier: MIT
// Reads tables: see decode_table.h, and wire.h for the bytes.
#include "decode_table.h"

#include <lauxlib.h>
#include <limits.h>
#include <math.h>

#include "chains.h"
#include "wire.h"

// A table being read.
struct decode_table {
  int at;         // stack index
  unsigned bits;  // WIRE_ARRAY ...
  unsigned log2_nodes;
  uint64_t n;     // values of its list
  uint64_t room;  // pairs it may still take
};

static bool decode_push(struct decoder *d, const struct chains_key *key) {
  if (key->is_float)
    lua_pushnumber(d->L, key->u.n);
  else
    lua_pushinteger(d->L, key->u.i);
  return true;
}

// The next numeric key. One that is a float with an integer's value is refused:
// Lua would turn it into that integer.
static bool decode_key(struct decoder *d, struct chains_key *key) {
  if (!decode_value(d)) return false;
  lua_State *L = d->L;
  if (lua_type(L, -1) != LUA_TNUMBER) return decode_wrong(d, "bad key");
  key->is_float = !lua_isinteger(L, -1);
  if (key->is_float)
    key->u.n = lua_tonumberx(L, -1, NULL);
  else
    key->u.i = lua_tointegerx(L, -1, NULL);
  if (key->is_float && isnan(key->u.n)) return decode_wrong(d, "NaN as key");
  lua_settop(L, -2);
  return true;
}

static bool decode_table_set(struct decoder *d, struct decode_table *t) {
  if (t->room == 0) return decode_wrong(d, "more pairs than declared");
  t->room--;
  lua_rawset(d->L, t->at);
  return true;
}

// Refuses keys that would share chains so long that entering them takes more
// steps than the whole message has been allowed.
static bool decode_chains(struct decoder *d, const struct decode_table *t,
                          const struct chains_key *keys, size_t n) {
  if (n < CHAINS_FEW) return true;
  uint64_t steps = chains_steps(keys, n, t->log2_nodes);
  if (steps == UINT64_MAX) luaL_error(d->L, "not enough memory");
  if (steps > d->steps) return decode_wrong(d, "keys that collide");
  d->steps -= steps;
  return true;
}

static bool decode_numbered(struct decoder *d, struct decode_table *t) {
  lua_State *L = d->L;
  uint64_t n = 0;
  if (!decode_varint(d, &n)) return false;
  if (n > decode_left(d) / 2) return decode_truncated(d);
  struct chains_key *keys = lua_newuserdatauv(L, (size_t)n * sizeof(*keys), 0);
  for (size_t i = 0; i < n; i++)
    if (!decode_key(d, &keys[i])) return false;
  if (!decode_chains(d, t, keys, (size_t)n)) return false;
  for (size_t i = 0; i < n; i++) {
    decode_push(d, &keys[i]);
    if (!decode_value(d) || !decode_table_set(d, t)) return false;
  }
  lua_settop(L, -2);
  return true;
}

// A key that is not from the defined strings.
static bool decode_other_key(struct decoder *d) {
  if (!decode_value(d)) return false;
  int type = lua_type(d->L, -1);
  if (type == LUA_TNIL) return decode_wrong(d, "nil as key");
  if (type == LUA_TNUMBER) return decode_wrong(d, "number out of place");
  return true;
}

static bool decode_pair(struct decoder *d, struct decode_table *t,
                        unsigned tag) {
  if (tag >= WIRE_SLOT && tag < WIRE_TABLE) {
    d->p++;
    if (!decode_defined(d, tag - WIRE_SLOT)) return false;
  } else if (!decode_other_key(d)) {
    return false;
  }
  return decode_quick(d) && decode_table_set(d, t);
}

static bool decode_pairs(struct decoder *d, struct decode_table *t) {
  t->room = (uint64_t)1 << t->log2_nodes;
  while (d->p < d->end) {
    unsigned tag = *d->p;
    if (tag == WIRE_END) return d->p++, true;
    if (tag == WIRE_NUMBERS) return d->p++, decode_numbered(d, t);
    if (!decode_pair(d, t, tag)) return false;
  }
  return decode_truncated(d);
}

static bool decode_list(struct decoder *d, const struct decode_table *t) {
  for (uint64_t i = 1; i <= t->n; i++) {
    if (!decode_quick(d)) return false;
    lua_rawseti(d->L, t->at, (lua_Integer)i);
  }
  return true;
}

// A metatable is set when it has all its fields: Lua looks for __gc only then,
// and a weak table must not lose what it is about to get.
static bool decode_metatable(struct decoder *d, const struct decode_table *t) {
  lua_State *L = d->L;
  if (!decode_value(d)) return false;
  if (!lua_istable(L, -1)) return decode_wrong(d, "metatable is no table");
  lua_pushvalue(L, t->at);
  decode_append(d, DECODE_METAS, &d->metas);
  decode_append(d, DECODE_METAS, &d->metas);
  return true;
}

static bool decode_contents(struct decoder *d, struct decode_table *t) {
  if ((t->bits & WIRE_META) && !decode_metatable(d, t)) return false;
  if ((t->bits & WIRE_HASH) && !decode_pairs(d, t)) return false;
  return decode_list(d, t);
}

// Takes `n` from what the message may claim.
static bool decode_claim(struct decoder *d, uint64_t n) {
  if (n > d->allowance) return decode_wrong(d, "count beyond the message");
  d->allowance -= n;
  return true;
}

// A table's nodes are at most eight to a pair of two bytes: the power of two
// above it, and twice more where chains would be long.
static bool decode_head(struct decoder *d, struct decode_table *t) {
  t->n = 0;
  t->log2_nodes = 0;
  if ((t->bits & WIRE_ARRAY) &&
      (!decode_varint(d, &t->n) || !decode_claim(d, t->n)))
    return false;
  if (t->n > INT_MAX) return decode_wrong(d, "list too long");
  if ((t->bits & WIRE_HASH) == 0) return true;
  if (!decode_byte(d, &t->log2_nodes)) return false;
  if (t->log2_nodes > 30) return decode_wrong(d, "table too large");
  return decode_claim(d, ((uint64_t)1 << t->log2_nodes) / 4);
}

bool decode_table(struct decoder *d, bool object) {
  if (d->p == d->end) return decode_truncated(d);
  unsigned bits = *d->p++;
  if (bits < WIRE_TABLE || bits >= WIRE_END)
    return decode_wrong(d, "no table where one is due");
  bits -= WIRE_TABLE;
  struct decode_table t = {.bits = bits};
  lua_State *L = d->L;
  if (!decode_head(d, &t)) return false;
  lua_createtable(L, (int)t.n, bits & WIRE_HASH ? 1 << t.log2_nodes : 0);
  if (object) decode_number_object(d);
  t.at = lua_gettop(L);
  if (bits & WIRE_LATER) {
    decode_put_off(d, (lua_Integer)t.n,
                   (lua_Integer)(bits | t.log2_nodes << 8));
    return true;
  }
  if (d->depth == WIRE_DEPTH) return decode_wrong(d, "nested too deep");
  d->depth++;
  bool done = decode_contents(d, &t);
  d->depth--;
  return done;
}

bool decode_table_rest(struct decoder *d, lua_Integer n, unsigned bits) {
  struct decode_table t = {lua_gettop(d->L), bits & 0xff, bits >> 8,
                           (uint64_t)n, 0};
  d->depth = 1;
  return decode_contents(d, &t);
}
