// SPDX-License-Identifier: MIT
// Writes values: see encode.h, and wire.h for the bytes.
#include "encode.h"

#include <stdlib.h>
#include <string.h>

#include "class.h"
#include "closure.h"
#include "encode_table.h"
#include "globals.h"
#include "named.h"
#include "wire.h"

enum {
  STACK_A_LEVEL = 6,  // Lua stack slots one nested table takes
  KEEP_MOST = 4096,   // entries of scratch kept from message to message
  MAX_OBJECTS = 0x7fffffff,
};

void encode_memory_free(struct encode_memory *m) {
  pointers_free(&m->objects);
  free(m->keys);
  free(m->put_off);
}

bool encode_no_memory(struct encoder *e) {
  e->failure = ENCODE_NO_MEMORY;
  return false;
}

bool encode_refuse(struct encoder *e) {
  e->failure = ENCODE_REFUSED;
  lua_copy(e->L, -1, encode_slot(e, ENCODE_BAD));
  return false;
}

bool encode_again(struct encoder *e) {
  e->failure = ENCODE_AGAIN;
  return false;
}

int encode_helper(struct encoder *e, enum encode_slot slot) {
  int at = encode_slot(e, slot);
  if (lua_isnil(e->L, at)) {
    lua_createtable(e->L, 4, 0);
    lua_replace(e->L, at);
  }
  return at;
}

int encode_names(struct encoder *e) {
  int at = encode_slot(e, ENCODE_NAMES);
  if (lua_isnil(e->L, at)) {
    names_push(e->L);
    lua_replace(e->L, at);
  }
  return at;
}

bool encode_bytes(struct encoder *e, const void *p, size_t n) {
  return buffer_put(e->b, p, n) > 0 || encode_no_memory(e);
}

// --- what is no object -----------------------------------------------------

static size_t encode_fixed(uint8_t *p, unsigned tag, const void *v, size_t n) {
  *p = (uint8_t)tag;
  memcpy(p + 1, v, n);
  return 1 + n;
}

size_t encode_integer(uint8_t *p, lua_Integer i) {
  if ((lua_Unsigned)i < 128) {
    *p = (uint8_t)i;
    return 1;
  }
  if (i == (int8_t)i) return encode_fixed(p, WIRE_INT1, &i, 1);
  if (i == (int16_t)i) return encode_fixed(p, WIRE_INT2, &i, 2);
  if (i == (int32_t)i) return encode_fixed(p, WIRE_INT4, &i, 4);
  return encode_fixed(p, WIRE_INT8, &i, 8);
}

size_t encode_float(uint8_t *p, lua_Number n) {
  return encode_fixed(p, WIRE_FLOAT, &n, sizeof(n));
}

static size_t encode_number(uint8_t *p, lua_State *L, int idx) {
  if (lua_isinteger(L, idx))
    return encode_integer(p, lua_tointegerx(L, idx, NULL));
  return encode_float(p, lua_tonumberx(L, idx, NULL));
}

// The tag and length of a string of n bytes.
static uint8_t *encode_length(uint8_t *p, size_t n) {
  if (n < 32) {
    *p++ = (uint8_t)(WIRE_STRING + n);
    return p;
  }
  if (n < 256) {
    *p++ = WIRE_STRING1;
    *p++ = (uint8_t)n;
    return p;
  }
  *p++ = WIRE_STRING8;
  return bytes_put_varint(p, n);
}

static int encode_whole_string(struct buffer *b, const char *s, size_t n) {
  if (buffer_reserve(b, 1 + BYTES_VARINT + n) < 0) return -1;
  uint8_t *p = encode_length(b->data + b->len, n);
  memcpy(p, s, n);
  b->len = (size_t)(p + n - b->data);
  return 1;
}

int encode_plain(lua_State *L, int idx, struct buffer *b) {
  size_t n;
  if (b->cap - b->len < 16 && buffer_reserve(b, 16) < 0) return -1;
  uint8_t *p = b->data + b->len;
  switch (lua_type(L, idx)) {
    case LUA_TNIL:
      *p = WIRE_NIL;
      b->len++;
      return 1;
    case LUA_TBOOLEAN:
      *p = lua_toboolean(L, idx) ? WIRE_TRUE : WIRE_FALSE;
      b->len++;
      return 1;
    case LUA_TNUMBER:
      b->len += encode_number(p, L, idx);
      return 1;
    case LUA_TSTRING: {
      const char *s = lua_tolstring(L, idx, &n);
      return encode_whole_string(b, s, n);
    }
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, idx) != NULL) return 0;
      *p = WIRE_NULL;
      b->len++;
      return 1;
    default:
      return 0;
  }
}

// --- strings inside tables -------------------------------------------------

static bool encode_defined(struct encoder *e, unsigned slot) {
  uint8_t *p = encode_room(e, 2);
  if (p == NULL) return false;
  if (slot < 32) {
    *p = (uint8_t)(WIRE_SLOT + slot);
    e->b->len++;
  } else {
    p[0] = WIRE_SLOT1;
    p[1] = (uint8_t)slot;
    e->b->len += 2;
  }
  return true;
}

// Gives the string the next slot, taking it from the string that had it.
static bool encode_define(struct encoder *e, struct encode_recent *r,
                          const char *s, size_t n) {
  struct encode_memory *m = e->m;
  uint8_t slot = (uint8_t)(e->strings % WIRE_STRINGS);
  struct encode_recent *last = &m->recent[m->slots[slot]];
  uint8_t *p = encode_room(e, 2 + n);
  if (p == NULL) return false;
  if (e->strings >= WIRE_STRINGS && last->slot == slot) last->defined = NULL;
  e->strings++;
  m->slots[slot] = (uint8_t)(r - m->recent);
  r->defined = s;
  r->defined_epoch = m->epoch;
  r->slot = slot;
  p[0] = WIRE_DEFINE;
  p[1] = (uint8_t)n;
  memcpy(p + 2, s, n);
  e->b->len += 2 + n;
  return true;
}

// Lua keeps one copy of a short string, so that its address stands for it. The
// first time it goes as it is, since most strings never come again.
static bool encode_short(struct encoder *e, const char *s, size_t n) {
  struct encode_memory *m = e->m;
  size_t hash = ((uintptr_t)s * UINT64_C(0x9e3779b97f4a7c15)) >> 56;
  struct encode_recent *r = &m->recent[hash];
  if (r->defined == s && r->defined_epoch == m->epoch)
    return encode_defined(e, r->slot);
  if (r->once == s && r->once_epoch == m->epoch)
    return encode_define(e, r, s, n);
  r->once = s;
  r->once_epoch = m->epoch;
  uint8_t *p = encode_room(e, 2 + n);
  if (p == NULL) return false;
  p = encode_length(p, n);
  memcpy(p, s, n);
  e->b->len = (size_t)(p + n - e->b->data);
  return true;
}

int encode_identity(struct encoder *e, const void *p, unsigned tag) {
  struct pointers_entry *entry;
  int known = pointers_enter(&e->m->objects, p, e->objects, &entry);
  if (known < 0 || e->objects >= MAX_OBJECTS) return encode_no_memory(e), -1;
  if (known == 0) return e->objects++, 1;
  e->refs = true;
  return encode_tagged(e, tag, entry->value) ? 0 : -1;
}

bool encode_long(struct encoder *e, const char *s, size_t n) {
  int fresh = encode_identity(e, s, WIRE_REF);
  if (fresh <= 0) return fresh == 0;
  return encode_tagged(e, WIRE_OBJECT, n) && encode_bytes(e, s, n);
}

bool encode_string(struct encoder *e, const char *s, size_t n) {
  if (n > 1 && n <= WIRE_SHORT) return encode_short(e, s, n);
  if (n >= WIRE_LONG) return encode_long(e, s, n);
  if (encode_whole_string(e->b, s, n) < 0) return encode_no_memory(e);
  return true;
}

// --- objects ---------------------------------------------------------------

bool encode_note_put_off(struct encoder *e, size_t place, const void *table) {
  struct encode_memory *m = e->m;
  if (e->queue_last == m->put_off_cap) {
    size_t cap = m->put_off_cap == 0 ? 64 : m->put_off_cap * 2;
    struct encode_put_off *put_off =
        realloc(m->put_off, cap * sizeof(*put_off));
    if (put_off == NULL) return encode_no_memory(e);
    m->put_off = put_off;
    m->put_off_cap = cap;
  }
  m->put_off[e->queue_last++] = (struct encode_put_off){place, table};
  return true;
}

bool encode_put_off(struct encoder *e, size_t place) {
  lua_State *L = e->L;
  if (!encode_note_put_off(e, place, NULL)) return false;
  int queue = encode_helper(e, ENCODE_QUEUE);
  lua_pushvalue(L, -1);
  lua_rawseti(L, queue, (lua_Integer)e->queue_last);
  return true;
}

static bool encode_object(struct encoder *e, int type) {
  const void *p = lua_topointer(e->L, -1);
  int fresh = encode_identity(e, p, WIRE_REF);
  if (fresh <= 0) return fresh == 0;
  if (e->wary && type == LUA_TTABLE) class_look(e);
  if (type == LUA_TFUNCTION && encode_sets(e)) globals_reach(e);
  if (names_special(e->names, p)) {
    int named = named_encode(e);
    if (named != 0) return named > 0;
  }
  return type == LUA_TTABLE ? encode_table(e) : closure_encode(e);
}

bool encode_value(struct encoder *e) {
  lua_State *L = e->L;
  int type = lua_type(L, -1);
  switch (type) {
    case LUA_TNUMBER: {
      uint8_t *p = encode_room(e, 16);
      if (p == NULL) return false;
      e->b->len += encode_number(p, L, -1);
      return true;
    }
    case LUA_TSTRING: {
      size_t n;
      const char *s = lua_tolstring(L, -1, &n);
      return encode_string(e, s, n);
    }
    case LUA_TTABLE:
    case LUA_TFUNCTION:
      return encode_object(e, type);
    default: {
      int done = encode_plain(L, -1, e->b);
      if (done < 0) return encode_no_memory(e);
      return done == 1 || encode_refuse(e);
    }
  }
}

bool encode_rest(struct encoder *e) {
  lua_State *L = e->L;
  int queue = encode_slot(e, ENCODE_QUEUE);
  while (e->queue_first < e->queue_last) {
    size_t place = e->m->put_off[e->queue_first++].place;
    lua_rawgeti(L, queue, (lua_Integer)e->queue_first);
    lua_pushnil(L);
    lua_rawseti(L, queue, (lua_Integer)e->queue_first);
    bool done = lua_istable(L, -1) ? encode_table_rest(e, place)
                                   : closure_encode_rest(e);
    if (!done) return false;
    lua_settop(L, -2);
  }
  return true;
}

// Without a session the index is looked at anew for each message; with one,
// only when a function or a metatable has no name.
static void encode_begin_names(struct encoder *e) {
  if (e->session != NULL && e->session->names->made) {
    e->names = e->session->names;
    return;
  }
  int at = encode_slot(e, ENCODE_NAMES);
  e->names = names_push(e->L);
  lua_replace(e->L, at);
  if (!e->fresh_names) names_refresh(e->L, e->names, at);
}

bool encode_begin(struct encoder *e, struct encode_memory *m) {
  lua_State *L = e->L;
  if (!lua_checkstack(L, ENCODE_SLOTS + (WIRE_DEPTH + 3) * STACK_A_LEVEL))
    return encode_no_memory(e);
  e->m = m;
  pointers_reset(&m->objects);
  if (++m->epoch == 0) {
    memset(m->recent, 0, sizeof(m->recent));
    m->epoch = 1;
  }
  m->keys_len = 0;
  e->depth = 0;
  e->refs = false;
  e->objects = e->strings = 0;
  e->queue_first = e->queue_last = 0;
  e->reached_first = e->reached_last = 0;
  e->sets_first = e->sets_last = 0;
  e->kit = lua_gettop(L) + 1;
  lua_settop(L, e->kit + ENCODE_SLOTS - 1);
  encode_begin_names(e);
  return true;
}

void encode_end(struct encoder *e) {
  struct encode_memory *m = e->m;
  if (m == NULL) return;
  if (m->keys_cap > KEEP_MOST) {
    free(m->keys);
    m->keys = NULL;
    m->keys_cap = 0;
  }
  if (m->put_off_cap > KEEP_MOST) {
    free(m->put_off);
    m->put_off = NULL;
    m->put_off_cap = 0;
  }
  m->busy = false;
}
