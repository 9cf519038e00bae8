// SPDX-License-Identifier: MIT
// The writing half of the codec, as its own files see it: codec.c starts it,
// closure.c adds functions. Values are taken from the Lua stack; no metamethod
// and no other user code is called.
#ifndef LUAPOOL_ENCODE_H
#define LUAPOOL_ENCODE_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "bytes.h"
#include "encode_memory.h"
#include "names.h"
#include "session.h"

enum encode_failure {
  ENCODE_FINE,
  ENCODE_NO_MEMORY,
  ENCODE_REFUSED,  // the value in the slot ENCODE_BAD cannot travel
  ENCODE_AGAIN,    // something came to have a name or an id: begin anew
  ENCODE_NO_PEEK,  // not by peek.h: begin anew
};

// Helper slots on the stack, nil until they are needed.
enum encode_slot {
  ENCODE_BAD,      // the value that cannot travel
  ENCODE_QUEUE,    // what is put off, from 1
  ENCODE_NAMES,    // the state's names
  ENCODE_CLASSES,  // id -> class: those that went with their contents
  ENCODE_REACHED,  // functions to search for globals, from 1; each -> true
  ENCODE_SETS,     // global, false or field, value; from 1; each name -> true
  ENCODE_SLOTS
};

struct encoder {
  lua_State *L;
  struct buffer *b;
  struct session *session;   // or NULL
  int session_at, scope_at;  // stack indexes; 0: none
  // While a registered value is defined: what was registered later is not there.
  lua_Integer defined;  // how manieth registration it was; 0: none is defined
  int exempt_at;        // stack index: set of what goes by value
  int missing_at;       // stack index: set of names that are not there

  enum encode_failure failure;
  bool fresh_names;  // the names have been looked at again for this message
  bool wary;         // look at each table whether it is a class
  bool peeks;        // it is written by peek.h

  struct encode_memory *m;  // NULL until the first object

  // From here on set by encode_begin.
  struct names *names;
  int kit;  // stack index of the helper slots
  int depth;
  bool refs;
  uint32_t objects;  // how many have been numbered
  uint32_t strings;  // how many have been defined
  size_t queue_first, queue_last;
  lua_Integer reached_first, reached_last;
  lua_Integer sets_first, sets_last;
};

static inline int encode_slot(const struct encoder *e, enum encode_slot slot) {
  return e->kit + (int)slot;
}

// Writes the value at idx if it is no object. Returns 1; 0 where it is one
// (nothing is written); -1 for want of memory.
int encode_plain(lua_State *L, int idx, struct buffer *b);

// Readies e for objects: takes stack slots and empties the memory.
bool encode_begin(struct encoder *e, struct encode_memory *m);

// Gives the memory back, whatever has become of the message.
void encode_end(struct encoder *e);

// Writes the value on top of the stack and leaves it there. On false e->failure
// says why, and the stack is higher by any number of values.
bool encode_value(struct encoder *e);

// Writes the contents that were put off.
bool encode_rest(struct encoder *e);

// Stack index of the state's names.
int encode_names(struct encoder *e);

// Whether the other side's view is known.
static inline bool encode_viewed(const struct encoder *e) {
  return e->session != NULL && e->session->viewed;
}

// Whether the globals that functions use are to travel with them.
static inline bool encode_sets(const struct encoder *e) {
  return encode_viewed(e) && !e->session->child;
}

// Writes n bytes as they are.
bool encode_bytes(struct encoder *e, const void *p, size_t n);

// Numbers the object at address p. Returns 1 where it is new; 0 where it had a
// number, which is then written with the tag; -1 on failure.
int encode_identity(struct encoder *e, const void *p, unsigned tag);

// The table in a helper slot; made at its first use.
int encode_helper(struct encoder *e, enum encode_slot slot);

// Fails so that the message is begun anew.
bool encode_again(struct encoder *e);

// Fails because of the value on top of the stack.
bool encode_refuse(struct encoder *e);
bool encode_no_memory(struct encoder *e);

// Notes that the contents of the object on top of the stack come later.
// encode_note_put_off is for a table that is not on the stack.
bool encode_put_off(struct encoder *e, size_t place);
bool encode_note_put_off(struct encoder *e, size_t place, const void *table);

// Writes an integer or a float at p, where there is room for 16 bytes. Returns
// how many bytes it took.
size_t encode_integer(uint8_t *p, lua_Integer i);
size_t encode_float(uint8_t *p, lua_Number n);

// Writes the string at s, where a live Lua string has its bytes.
bool encode_string(struct encoder *e, const char *s, size_t n);

// Writes it so that it goes only once, however short it is.
bool encode_long(struct encoder *e, const char *s, size_t n);

// Room for n bytes at the end of the message, or NULL and the failure noted.
static inline uint8_t *encode_room(struct encoder *e, size_t n) {
  struct buffer *b = e->b;
  if (b->cap - b->len < n && buffer_reserve(b, n) < 0) {
    encode_no_memory(e);
    return NULL;
  }
  return b->data + b->len;
}

static inline bool encode_byte(struct encoder *e, unsigned byte) {
  uint8_t *p = encode_room(e, 1);
  if (p == NULL) return false;
  *p = (uint8_t)byte;
  e->b->len++;
  return true;
}

static inline bool encode_tagged(struct encoder *e, unsigned tag, uint64_t v) {
  uint8_t *p = encode_room(e, 1 + BYTES_VARINT);
  if (p == NULL) return false;
  *p++ = (uint8_t)tag;
  e->b->len = (size_t)(bytes_put_varint(p, v) - e->b->data);
  return true;
}

static inline bool encode_varint(struct encoder *e, uint64_t v) {
  uint8_t *p = encode_room(e, BYTES_VARINT);
  if (p == NULL) return false;
  e->b->len = (size_t)(bytes_put_varint(p, v) - e->b->data);
  return true;
}

#endif
