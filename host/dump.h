// SPDX-License-Identifier: MIT
// The bytecode of a Lua function, and which globals and fields it names: found
// once for each function's code and kept. Works on what lua_dump writes, since
// the API shows no more of a function.
#ifndef LUAPOOL_DUMP_H
#define LUAPOOL_DUMP_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

// What a dump holds. User values of its userdata: below.
struct dump {
  uint8_t upvalues;
  bool indexes;        // it has an index that is no constant: t[k]
  bool calls_methods;  // it has a method call: s:f()
  uint8_t wild[32];    // bit i: upvalue i is used as a value, not just indexed
};

enum dump_value {
  DUMP_CODE = 1,   // the bytes, a string
  DUMP_NAMES,      // upvalue, from 1 -> set of the names it is indexed with
  DUMP_CONSTANTS,  // set of all string constants
  DUMP_VALUES = DUMP_CONSTANTS
};

// Pushes the dump of the Lua function at idx. `dumps` is the stack index of a
// weak table function -> dump, `codes` that of one code -> dump; b: scratch.
const struct dump *dump_push(lua_State *L, struct buffer *b, int dumps,
                             int codes, int idx);

static inline bool dump_wild(const struct dump *d, int upvalue) {
  return d->wild[upvalue / 8] >> upvalue % 8 & 1;
}

#endif
