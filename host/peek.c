// SPDX-License-Identifier: MIT
// Reads plain data straight from Lua's memory: see peek.h. Nothing here calls
// Lua or makes it allocate while data is read, so that nothing moves.
#include "peek.h"

#include <string.h>

#include "encode_table.h"
#include "wire.h"

// The layout of lobject.h.
enum peek_type {
  PEEK_NIL = 0x00,  // the lower four bits; the others say which kind of nil
  PEEK_FALSE = 0x01,
  PEEK_TRUE = 0x11,
  PEEK_POINTER = 0x02,
  PEEK_INTEGER = 0x03,
  PEEK_FLOAT = 0x13,
  PEEK_SHORT = 0x44,
  PEEK_LONG = 0x54,
  PEEK_TABLE = 0x45,
};

union peek_content {
  const void *object;
  lua_Integer i;
  lua_Number n;
};

struct peek_value {
  union peek_content u;
  uint8_t type;
};

struct peek_node {
  union peek_content value;  // begins as a struct peek_value
  uint8_t type;
  uint8_t key_type;
  int32_t next;
  union peek_content key;
};

struct peek_table {
  const void *next_object;
  uint8_t object_type, marked;
  uint8_t flags;  // bit 7: `limit` is not the array's size: the next power of 2
  uint8_t log2_nodes;
  uint32_t limit;
  const struct peek_value *array;
  const struct peek_node *nodes;
  const void *last_free;
  const void *metatable;
};

struct peek_string {
  const void *next_object;
  uint8_t object_type, marked, extra;
  uint8_t short_length;
  uint32_t hash;
  size_t long_length;
  char bytes[];
};

// --- whether it is so ------------------------------------------------------

static const char peek_text[] =
    "a string of more than forty bytes, which Lua does not intern";

// Pushes {7, 2.5, "short", key = peek_text, [-5] = itself} with itself as
// metatable.
static void peek_push_sample(lua_State *L) {
  lua_createtable(L, 3, 2);
  lua_pushinteger(L, 7);
  lua_rawseti(L, -2, 1);
  lua_pushnumber(L, 2.5);
  lua_rawseti(L, -2, 2);
  lua_pushliteral(L, "short");
  lua_rawseti(L, -2, 3);
  lua_pushstring(L, peek_text);
  lua_setfield(L, -2, "key");
  lua_pushvalue(L, -1);
  lua_rawseti(L, -2, -5);
  lua_pushvalue(L, -1);
  lua_setmetatable(L, -2);
}

static bool peek_is_string(const void *object, uint8_t type, const char *s) {
  const struct peek_string *string = object;
  size_t n = type == PEEK_SHORT ? string->short_length : string->long_length;
  return n == strlen(s) && memcmp(string->bytes, s, n) == 0;
}

static bool peek_is_sample_node(const struct peek_node *node, const void *t) {
  if (node->key_type == PEEK_SHORT)
    return peek_is_string(node->key.object, PEEK_SHORT, "key") &&
           node->type == PEEK_LONG &&
           peek_is_string(node->value.object, PEEK_LONG, peek_text);
  return node->key_type == PEEK_INTEGER && node->key.i == -5 &&
         node->type == PEEK_TABLE && node->value.object == t;
}

// The outermost fields are looked at first: that they are right makes those
// between them pointers that may be followed.
static bool peek_is_sample(const struct peek_table *t) {
  const struct peek_value *a = t->array;
  return t->limit == 3 && t->log2_nodes == 1 && t->flags < 0x80 &&
         t->metatable == t && a[0].type == PEEK_INTEGER && a[0].u.i == 7 &&
         a[1].type == PEEK_FLOAT && a[1].u.n == 2.5 &&
         a[2].type == PEEK_SHORT &&
         peek_is_string(a[2].u.object, PEEK_SHORT, "short") &&
         peek_is_sample_node(&t->nodes[0], t) &&
         peek_is_sample_node(&t->nodes[1], t) &&
         t->nodes[0].key_type != t->nodes[1].key_type;
}

bool peek_works(lua_State *L) {
  static int known = -1;  // the same for all states
  if (known < 0) {
    peek_push_sample(L);
    known = peek_is_sample(lua_topointer(L, -1));
    lua_settop(L, -2);
  }
  return known != 0;
}

// --- writing ---------------------------------------------------------------

static uint64_t peek_array_size(const struct peek_table *t) {
  uint64_t size = t->limit;
  if (t->flags & 0x80)
    while (size & (size - 1)) size += size & -size;
  return size;
}

bool peek_in_array(lua_State *L, int idx, lua_Integer n) {
  if (!peek_works(L)) return false;
  return (uint64_t)n <= peek_array_size(lua_topointer(L, idx));
}

static bool peek_refuse(struct encoder *e) {
  e->failure = ENCODE_NO_PEEK;
  return false;
}

static bool peek_is_nil(uint8_t type) { return (type & 0x0f) == PEEK_NIL; }

static bool peek_string(struct encoder *e, const void *object, uint8_t type) {
  const struct peek_string *s = object;
  size_t n = type == PEEK_SHORT ? s->short_length : s->long_length;
  return encode_string(e, s->bytes, n);
}

static bool peek_table(struct encoder *e, const struct peek_table *t);

static bool peek_value(struct encoder *e, union peek_content u, uint8_t type) {
  uint8_t *p = encode_room(e, 16);
  if (p == NULL) return false;
  switch (type) {
    case PEEK_INTEGER:
      e->b->len += encode_integer(p, u.i);
      return true;
    case PEEK_FLOAT:
      e->b->len += encode_float(p, u.n);
      return true;
    case PEEK_SHORT:
    case PEEK_LONG:
      return peek_string(e, u.object, type);
    case PEEK_TABLE:
      return peek_table(e, u.object);
    case PEEK_FALSE:
    case PEEK_TRUE:
      *p = type == PEEK_TRUE ? WIRE_TRUE : WIRE_FALSE;
      break;
    case PEEK_POINTER:
      if (u.object != NULL) return peek_refuse(e);
      *p = WIRE_NULL;
      break;
    default:
      if (!peek_is_nil(type)) return peek_refuse(e);
      *p = WIRE_NIL;
  }
  e->b->len++;
  return true;
}

// A session knows tables with such keys as classes: see class.h.
static bool peek_is_class_key(struct encoder *e, const struct peek_string *s,
                              uint8_t type) {
  size_t n = type == PEEK_SHORT ? s->short_length : s->long_length;
  return e->session != NULL && n >= 2 && memcmp(s->bytes, "__", 2) == 0;
}

static bool peek_pair(struct encoder *e, const struct peek_node *node) {
  switch (node->key_type) {
    case PEEK_SHORT:
    case PEEK_LONG:
      if (peek_is_class_key(e, node->key.object, node->key_type))
        return peek_refuse(e);
      return peek_string(e, node->key.object, node->key_type) &&
             peek_value(e, node->value, node->type);
    case PEEK_INTEGER:
      return encode_table_keep(
          e, (struct chains_key){.u.i = node->key.i, .at = node});
    case PEEK_FLOAT:
      return encode_table_keep(
          e, (struct chains_key){
                 .u.n = node->key.n, .is_float = true, .at = node});
    case PEEK_TRUE:
    case PEEK_FALSE:
      return peek_value(e, node->key, node->key_type) &&
             peek_value(e, node->value, node->type);
    default:
      return peek_refuse(e);
  }
}

// Keeps what the array part holds behind the list.
static bool peek_behind(struct encoder *e, const struct peek_table *t,
                        uint64_t n, size_t *pairs) {
  for (uint64_t i = n, size = peek_array_size(t); i < size; i++) {
    const struct peek_value *v = &t->array[i];
    if (peek_is_nil(v->type)) continue;
    ++*pairs;
    if (!encode_table_keep(
            e, (struct chains_key){.u.i = (lua_Integer)i + 1, .at = v}))
      return false;
  }
  return true;
}

static bool peek_pairs(struct encoder *e, const struct peek_table *t,
                       uint64_t n, size_t size_at) {
  struct encode_memory *m = e->m;
  size_t kept = m->keys_len, pairs = 0;
  const struct peek_node *end = t->nodes + ((size_t)1 << t->log2_nodes);
  for (const struct peek_node *node = t->nodes; node < end; node++) {
    if (peek_is_nil(node->type)) continue;
    pairs++;
    if (!peek_pair(e, node)) return false;
  }
  if (!peek_behind(e, t, n, &pairs) ||
      !encode_table_keys(e, kept, pairs, size_at))
    return false;
  for (size_t i = kept, last = m->keys_len; i < last; i++) {
    const struct peek_value *v = m->keys[i].at;
    if (!peek_value(e, v->u, v->type)) return false;
  }
  m->keys_len = kept;
  return true;
}

// Whether there is anything but the list of n values.
static bool peek_has_pairs(const struct peek_table *t, uint64_t n) {
  const struct peek_node *end = t->nodes + ((size_t)1 << t->log2_nodes);
  for (const struct peek_node *node = t->nodes; node < end; node++)
    if (!peek_is_nil(node->type)) return true;
  for (uint64_t size = peek_array_size(t); n < size; n++)
    if (!peek_is_nil(t->array[n].type)) return true;
  return false;
}

// The border between i, which is no nil or 0, and j, which is nil, that Lua's
// binary search finds.
static uint64_t peek_search(const struct peek_table *t, uint64_t i,
                            uint64_t j) {
  while (j - i > 1) {
    uint64_t m = (i + j) / 2;
    if (peek_is_nil(t->array[m - 1].type))
      j = m;
    else
      i = m;
  }
  return i;
}

// The length of the list: the border that luaH_getn would find in the array
// part, so that # is the same on both sides even for a list with holes.
static uint64_t peek_length(const struct peek_table *t) {
  uint64_t limit = t->limit, size = peek_array_size(t);
  if (limit > 0 && peek_is_nil(t->array[limit - 1].type)) {
    if (limit >= 2 && !peek_is_nil(t->array[limit - 2].type)) return limit - 1;
    return peek_search(t, 0, limit);
  }
  if (limit == size || peek_is_nil(t->array[limit].type)) return limit;
  if (peek_is_nil(t->array[size - 1].type)) return peek_search(t, limit, size);
  return size;
}

static bool peek_contents(struct encoder *e, const struct peek_table *t,
                          uint64_t n, bool pairs, size_t size_at) {
  if (pairs && !peek_pairs(e, t, n, size_at)) return false;
  for (uint64_t i = 0; i < n; i++)
    if (!peek_value(e, t->array[i].u, t->array[i].type)) return false;
  return true;
}

static bool peek_new_table(struct encoder *e, const struct peek_table *t) {
  uint64_t n = peek_length(t);
  bool pairs = peek_has_pairs(t, n), later = e->depth == WIRE_DEPTH;
  unsigned bits = (n > 0 ? WIRE_ARRAY : 0u) | (pairs ? WIRE_HASH : 0u) |
                  (later ? WIRE_LATER : 0u);
  size_t size_at;
  if (!encode_table_head(e, bits, n, &size_at)) return false;
  if (later) return encode_note_put_off(e, size_at, t);
  e->depth++;
  if (!peek_contents(e, t, n, pairs, size_at)) return false;
  e->depth--;
  return true;
}

static bool peek_table(struct encoder *e, const struct peek_table *t) {
  if (t->metatable != NULL || names_special(e->names, t)) return peek_refuse(e);
  int fresh = encode_identity(e, t, WIRE_REF);
  return fresh > 0 ? peek_new_table(e, t) : fresh == 0;
}

bool peek_encode(struct encoder *e, int idx) {
  if (!lua_istable(e->L, idx)) return peek_refuse(e);
  return peek_table(e, lua_topointer(e->L, idx));
}

bool peek_encode_rest(struct encoder *e) {
  while (e->queue_first < e->queue_last) {
    struct encode_put_off o = e->m->put_off[e->queue_first++];
    const struct peek_table *t = o.table;
    uint64_t n = peek_length(t);
    e->depth = 1;
    if (!peek_contents(e, t, n, peek_has_pairs(t, n), o.place)) return false;
  }
  return true;
}
