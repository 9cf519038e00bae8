// SPDX-License-Identifier: MIT
// Reads values: see decode.h, and wire.h for the bytes.
#include "decode.h"

#include <string.h>

#include "class.h"
#include "closure.h"
#include "decode_table.h"
#include "globals.h"
#include "named.h"
#include "wire.h"

enum {
  STACK_A_LEVEL = 4,
  NEAR_FROM = 512,  // bytes of a message that makes use of many strings
};

bool decode_wrong(struct decoder *d, const char *what) {
  d->wrong = what;
  return false;
}

bool decode_truncated(struct decoder *d) {
  return decode_wrong(d, "message ends too early");
}

bool decode_varint(struct decoder *d, uint64_t *v) {
  const uint8_t *p = bytes_get_varint(d->p, d->end, v);
  if (p == NULL) return decode_wrong(d, "bad number or end of message");
  d->p = p;
  return true;
}

bool decode_byte(struct decoder *d, unsigned *v) {
  if (d->p == d->end) return decode_truncated(d);
  *v = *d->p++;
  return true;
}

int decode_helper(struct decoder *d, enum decode_slot slot) {
  int at = decode_slot(d, slot);
  if (lua_isnil(d->L, at)) {
    lua_createtable(d->L, 4, 0);
    lua_replace(d->L, at);
  }
  return at;
}

void decode_append(struct decoder *d, enum decode_slot slot, lua_Integer *n) {
  int at = decode_helper(d, slot);
  lua_rawseti(d->L, at, ++*n);
}

void decode_refuse(struct decoder *d) {
  int at = decode_slot(d, DECODE_FAILURE);
  if (lua_isnil(d->L, at)) lua_copy(d->L, -1, at);
  lua_settop(d->L, -2);
  lua_createtable(d->L, 0, 0);
}

// --- strings ---------------------------------------------------------------

static bool decode_string(struct decoder *d, uint64_t n) {
  if (n > decode_left(d)) return decode_truncated(d);
  lua_pushlstring(d->L, (const char *)d->p, (size_t)n);
  d->p += n;
  return true;
}

static bool decode_long_string(struct decoder *d) {
  uint64_t n = 0;
  return decode_varint(d, &n) && decode_string(d, n);
}

static bool decode_short_string(struct decoder *d) {
  unsigned n = 0;
  return decode_byte(d, &n) && decode_string(d, n);
}

static bool decode_define(struct decoder *d) {
  if (!decode_short_string(d)) return false;
  int slot = (int)(d->strings++ % WIRE_STRINGS);
  if (slot < d->near) {
    lua_copy(d->L, -1, decode_slot(d, DECODE_SLOTS) + slot);
    return true;
  }
  int strings = decode_helper(d, DECODE_STRINGS);
  lua_pushvalue(d->L, -1);
  lua_rawseti(d->L, strings, (lua_Integer)slot + 1);
  return true;
}

// --- objects ---------------------------------------------------------------

void decode_number_object(struct decoder *d) {
  lua_Integer number = (lua_Integer)d->objects++;
  if ((d->wire & WIRE_REFS) == 0) return;
  lua_pushvalue(d->L, -1);
  lua_rawseti(d->L, decode_slot(d, DECODE_OBJECTS), number + 1);
}

static bool decode_reference(struct decoder *d) {
  uint64_t number = 0;
  if (!decode_varint(d, &number)) return false;
  if ((d->wire & WIRE_REFS) == 0 || number >= d->objects)
    return decode_wrong(d, "reference to nothing");
  lua_rawgeti(d->L, decode_slot(d, DECODE_OBJECTS), (lua_Integer)number + 1);
  int type = lua_type(d->L, -1);
  if (type == LUA_TNUMBER || type == LUA_TNIL)
    return decode_wrong(d, "reference to no value");
  return true;
}

void decode_put_off(struct decoder *d, lua_Integer size, lua_Integer bits) {
  lua_State *L = d->L;
  lua_pushvalue(L, -1);
  decode_append(d, DECODE_QUEUE, &d->queue_last);
  lua_pushinteger(L, size);
  decode_append(d, DECODE_QUEUE, &d->queue_last);
  lua_pushinteger(L, bits);
  decode_append(d, DECODE_QUEUE, &d->queue_last);
}

// --- values ----------------------------------------------------------------

static bool decode_fixed(struct decoder *d, void *v, size_t n) {
  if (decode_left(d) < n) return decode_truncated(d);
  memcpy(v, d->p, n);
  d->p += n;
  return true;
}

static bool decode_integer(struct decoder *d, unsigned tag) {
  int8_t i1 = 0;
  int16_t i2 = 0;
  int32_t i4 = 0;
  int64_t i8 = 0;
  bool done = tag == WIRE_INT1   ? decode_fixed(d, &i1, 1)
              : tag == WIRE_INT2 ? decode_fixed(d, &i2, 2)
              : tag == WIRE_INT4 ? decode_fixed(d, &i4, 4)
                                 : decode_fixed(d, &i8, 8);
  if (done) lua_pushinteger(d->L, i1 + i2 + i4 + i8);
  return done;
}

static bool decode_float(struct decoder *d) {
  lua_Number n;
  if (!decode_fixed(d, &n, sizeof(n))) return false;
  lua_pushnumber(d->L, n);
  return true;
}

static bool decode_object(struct decoder *d, unsigned tag) {
  if (d->kit == 0 && !decode_begin(d)) return false;
  switch (tag) {
    case WIRE_OBJECT:
      if (!decode_long_string(d)) return false;
      decode_number_object(d);
      return true;
    case WIRE_DEFINE:
      return decode_define(d);
    case WIRE_REF:
      return decode_reference(d);
    case WIRE_FUNCTION:
    case WIRE_FUNCTION_LATER:
      return closure_decode(d, tag);
    case WIRE_GLOBALS:
    case WIRE_NAME:
    case WIRE_REGISTERED:
      return named_decode(d, tag);
    case WIRE_CLASS:
    case WIRE_CLASS_NEW:
      return class_decode(d, tag);
    default:
      return decode_wrong(d, "unknown tag");
  }
}

static bool decode_other(struct decoder *d, unsigned tag) {
  unsigned slot = 0;
  switch (tag) {
    case WIRE_NIL:
      lua_pushnil(d->L);
      return true;
    case WIRE_FALSE:
    case WIRE_TRUE:
      lua_pushboolean(d->L, tag == WIRE_TRUE);
      return true;
    case WIRE_NULL:
      lua_pushlightuserdata(d->L, NULL);
      return true;
    case WIRE_INT1:
    case WIRE_INT2:
    case WIRE_INT4:
    case WIRE_INT8:
      return decode_integer(d, tag);
    case WIRE_FLOAT:
      return decode_float(d);
    case WIRE_STRING1:
      return decode_short_string(d);
    case WIRE_STRING8:
      return decode_long_string(d);
    case WIRE_SLOT1:
      return decode_byte(d, &slot) && decode_defined(d, slot);
    default:
      return decode_object(d, tag);
  }
}

bool decode_value(struct decoder *d) {
  if (d->p == d->end) return decode_truncated(d);
  unsigned tag = *d->p++;
  if (tag < WIRE_STRING) {
    lua_pushinteger(d->L, (lua_Integer)tag);
    return true;
  }
  if (tag < WIRE_SLOT) return decode_string(d, tag - WIRE_STRING);
  if (tag < WIRE_TABLE) return decode_defined(d, tag - WIRE_SLOT);
  if (tag < WIRE_END) {
    if (d->kit == 0 && !decode_begin(d)) return false;
    d->p--;
    return decode_table(d, true);
  }
  return decode_other(d, tag);
}

bool decode_item(lua_State *L, const uint8_t **p, const uint8_t *end) {
  const uint8_t *q = *p;
  if (end - q < 2 || q[0] != 1 << WIRE_FLAGS || !lua_checkstack(L, 1))
    return false;
  unsigned tag = q[1];
  q += 2;
  if (tag < WIRE_STRING) {
    lua_pushinteger(L, (lua_Integer)tag);
  } else if (tag == WIRE_INT4 && end - q >= 4) {
    int32_t i;
    memcpy(&i, q, 4);
    q += 4;
    lua_pushinteger(L, i);
  } else if (tag == WIRE_INT2 && end - q >= 2) {
    int16_t i;
    memcpy(&i, q, 2);
    q += 2;
    lua_pushinteger(L, i);
  } else if (tag == WIRE_FLOAT && end - q >= 8) {
    lua_Number n;
    memcpy(&n, q, 8);
    q += 8;
    lua_pushnumber(L, n);
  } else if (tag < WIRE_SLOT && (size_t)(end - q) >= tag - WIRE_STRING) {
    lua_pushlstring(L, (const char *)q, tag - WIRE_STRING);
    q += tag - WIRE_STRING;
  } else {
    return false;
  }
  *p = q;
  return true;
}

static bool decode_one_rest(struct decoder *d) {
  lua_State *L = d->L;
  int queue = decode_slot(d, DECODE_QUEUE);
  lua_rawgeti(L, queue, d->queue_first + 2);
  lua_rawgeti(L, queue, d->queue_first + 3);
  lua_Integer size = lua_tointeger(L, -2);
  lua_Integer bits = lua_tointeger(L, -1);
  lua_settop(L, -3);
  lua_rawgeti(L, queue, d->queue_first + 1);
  lua_pushnil(L);
  lua_rawseti(L, queue, d->queue_first + 1);
  d->queue_first += 3;
  bool done = lua_istable(L, -1) ? decode_table_rest(d, size, (unsigned)bits)
                                 : closure_decode_rest(d, size, (int)bits);
  if (done) lua_settop(L, -2);
  return done;
}

bool decode_rest(struct decoder *d) {
  while (d->queue_first < d->queue_last)
    if (!decode_one_rest(d)) return false;
  return true;
}

static void decode_finish_metas(struct decoder *d) {
  lua_State *L = d->L;
  int metas = decode_slot(d, DECODE_METAS);
  for (lua_Integer i = 0; i < d->metas; i += 2) {
    lua_rawgeti(L, metas, i + 1);
    lua_rawgeti(L, metas, i + 2);
    lua_setmetatable(L, -2);
    lua_settop(L, -2);
  }
}

void decode_finish(struct decoder *d) {
  class_finish(d);
  if (!lua_isnil(d->L, decode_slot(d, DECODE_FAILURE))) return;
  decode_finish_metas(d);
  class_finish_metas(d);
  globals_finish(d);
}

bool decode_begin(struct decoder *d) {
  lua_State *L = d->L;
  d->near = decode_left(d) < NEAR_FROM ? 0 : WIRE_TABLE - WIRE_SLOT;
  if (!lua_checkstack(L, DECODE_SLOTS + d->near + d->values +
                             (WIRE_DEPTH + 4) * STACK_A_LEVEL))
    return decode_wrong(d, "no room on the stack");
  d->kit = lua_gettop(L) + 1;
  d->depth = 0;
  d->allowance = decode_left(d) + 1;
  d->steps = decode_left(d) * 16 + (1 << 22);
  lua_settop(L, d->kit + DECODE_SLOTS + d->near - 1);
  if (d->wire & WIRE_REFS) decode_helper(d, DECODE_OBJECTS);
  return true;
}

void decode_end(struct decoder *d) {
  if (d->kit == 0) return;
  int n = DECODE_SLOTS + d->near;
  lua_rotate(d->L, d->kit, -n);
  lua_settop(d->L, -n - 1);
}
