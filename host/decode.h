// SPDX-License-Identifier: MIT
// The reading half of the codec, as its own files see it: codec.c starts it,
// closure.c adds functions. It believes nothing the bytes say: every length and
// count is held against the bytes that are left before memory is taken for it,
// and all counts of a message together against its length, so that nested ones
// do not multiply.
#ifndef LUAPOOL_DECODE_H
#define LUAPOOL_DECODE_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "session.h"
#include "wire.h"

// Helper slots on the stack, nil until they are needed.
enum decode_slot {
  DECODE_OBJECTS,  // number -> object, from 0; a cell is an integer
  DECODE_STRINGS,  // slot -> string, from 1
  DECODE_QUEUE,    // what is put off: object, size, bits; from 1
  DECODE_METAS,    // table, metatable; set when all contents are there
  DECODE_CLASSES,  // id, class, new contents or false; likewise
  DECODE_SETS,     // global, nil or field, value; likewise
  DECODE_FAILURE,  // why the message is refused though its bytes are right
  DECODE_SLOTS
};

struct decoder {
  lua_State *L;
  struct session *session;   // or NULL
  int session_at, scope_at;  // stack indexes; 0: none
  const uint8_t *p, *end;
  unsigned flags;  // CODEC_CODE
  unsigned wire;   // WIRE_REFS, WIRE_SETS
  int kit;         // stack index of the helper slots; 0: none yet
  int values;      // how many the message has
  int near;        // so many defined strings have slots behind these
  int depth;
  uint64_t objects;    // how many have been numbered
  uint64_t strings;    // how many have been defined
  uint64_t allowance;  // list values and table nodes that may still be claimed
  uint64_t steps;      // steps along chains that may still be taken
  lua_Integer queue_first, queue_last, metas, classes, sets;
  const char *wrong;  // what is wrong with the bytes
};

// Pushes the next value. On false d->wrong says why, and the stack is higher by
// any number of values.
bool decode_value(struct decoder *d);

// Pushes the value of a message that is just one number or short string, and
// moves *p behind it; or returns false.
bool decode_item(lua_State *L, const uint8_t **p, const uint8_t *end);

// Fills the contents that were put off.
bool decode_rest(struct decoder *d);

// Does what had to wait for the contents: classes, metatables, global sets.
void decode_finish(struct decoder *d);

// Refuses the message, whose bytes are right, with the text on top of the
// stack, which becomes a table in place of the value: all else is still read,
// since classes in it will not be sent again.
void decode_refuse(struct decoder *d);

// The table in a helper slot; made at its first use.
int decode_helper(struct decoder *d, enum decode_slot slot);

// Appends the value on top of the stack to the table in a helper slot.
void decode_append(struct decoder *d, enum decode_slot slot, lua_Integer *n);

// Takes the helper slots, and gives them back from below the values.
bool decode_begin(struct decoder *d);
void decode_end(struct decoder *d);

// Refuse the bytes.
bool decode_wrong(struct decoder *d, const char *what);
bool decode_truncated(struct decoder *d);

bool decode_byte(struct decoder *d, unsigned *v);
bool decode_varint(struct decoder *d, uint64_t *v);

// Gives the object on top of the stack the next number.
void decode_number_object(struct decoder *d);

// Notes that the contents of the object on top of the stack come later.
void decode_put_off(struct decoder *d, lua_Integer size, lua_Integer bits);

static inline size_t decode_left(const struct decoder *d) {
  return (size_t)(d->end - d->p);
}

static inline int decode_slot(const struct decoder *d, enum decode_slot slot) {
  return d->kit + (int)slot;
}

// Pushes a defined string.
static inline bool decode_defined(struct decoder *d, unsigned slot) {
  if (slot >= d->strings) return decode_wrong(d, "unknown string");
  if ((int)slot < d->near)
    lua_pushvalue(d->L, decode_slot(d, DECODE_SLOTS) + (int)slot);
  else
    lua_rawgeti(d->L, decode_slot(d, DECODE_STRINGS), (lua_Integer)slot + 1);
  return true;
}

// The commonest values, without a call.
static inline bool decode_quick(struct decoder *d) {
  if (d->p < d->end) {
    unsigned tag = *d->p;
    if (tag < WIRE_STRING) {
      d->p++;
      lua_pushinteger(d->L, (lua_Integer)tag);
      return true;
    }
    if (tag >= WIRE_SLOT && tag < WIRE_TABLE) {
      d->p++;
      return decode_defined(d, tag - WIRE_SLOT);
    }
  }
  return decode_value(d);
}

#endif
