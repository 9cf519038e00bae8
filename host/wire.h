// SPDX-License-Identifier: MIT
// The bytes of a message: what encode.c writes and decode.c reads.
//
//   message = varint(count << 2 | flags), count values, the contents put off by
//             them, then with WIRE_SETS the global sets (below)
//   value   = a tag byte with what follows it, see below
//
// Objects (tables, functions, long strings inside tables, upvalue cells) are
// numbered in the order in which they begin in the message; WIRE_REF names one
// by its number. Only a message with the flag WIRE_REFS holds such references,
// so that the reader of any other keeps no list of objects.
//
// A table is a tag WIRE_TABLE | bits, then
//   with WIRE_ARRAY  varint: how many values its list has
//   with WIRE_HASH   byte: the hash part is made with 2^byte nodes; the pairs
//                    are never more than that
//   then its contents, here or (WIRE_LATER) put off:
//   with WIRE_META   the metatable
//   with WIRE_HASH   pairs of key and value, whose keys are no numbers; WIRE_END
//                    or WIRE_NUMBERS, varint n, n numbers, their n values
//   with WIRE_ARRAY  the values of the list, nil where it has holes
// Contents are put off where tables and functions are nested WIRE_DEPTH deep;
// they follow in the order in which they were put off, nested anew. So neither
// side recurses deeper than that, whatever the depth of the data.
//
// Functions: WIRE_FUNCTION or WIRE_FUNCTION_LATER, byte: number of upvalues, a
// string: the code as lua_dump writes it; then, here or put off, the upvalues:
// WIRE_GLOBALS, or WIRE_CELL for one that is shared with another function of
// the message, or its value. One with a value is an object of its own (a cell).
//
// Global sets are carried out before the values are handed over: byte 1, name,
// value: a global; byte 2, name, field, value: a field of a global table;
// byte 0: no more. After each set comes what it put off.
//
// A short string met for the second time inside tables is defined (WIRE_DEFINE):
// it gets the next of WIRE_STRINGS slots, in turn, and is one or two bytes from
// then on.
#ifndef LUAPOOL_WIRE_H
#define LUAPOOL_WIRE_H

enum {
  WIRE_DEPTH = 16,
  WIRE_SHORT = 40,     // the longest string that is ever defined
  WIRE_STRINGS = 256,  // slots of defined strings
  WIRE_LONG = 256,     // from here on strings inside tables are objects
  WIRE_FLAGS = 2,      // bits of the message's first number
  WIRE_REFS = 1,       // flag: the message holds references
  WIRE_SETS = 2,       // flag: the message ends with global sets
};

enum wire_tag {
  WIRE_SMALL = 0x00,   // 0..127: that integer
  WIRE_STRING = 0x80,  // 0x80..0x9f: a string of 0..31 bytes
  WIRE_SLOT = 0xa0,    // 0xa0..0xbf: the defined string 0..31
  WIRE_TABLE = 0xc0,   // 0xc0..0xcf: a table, with the bits below
  WIRE_END = 0xd0,     // no further pairs
  WIRE_NUMBERS,        // no further pairs but these with numbers as keys
  WIRE_NIL,
  WIRE_FALSE,
  WIRE_TRUE,
  WIRE_NULL,  // the null light userdata
  WIRE_INT1,  // integers of 1, 2, 4, 8 bytes
  WIRE_INT2,
  WIRE_INT4,
  WIRE_INT8,
  WIRE_FLOAT,    // 8 bytes
  WIRE_STRING1,  // byte: length
  WIRE_STRING8,  // varint: length
  WIRE_OBJECT,   // varint: length; a string that references may name
  WIRE_DEFINE,   // byte: length; a string that takes the next slot
  WIRE_SLOT1,    // byte: slot
  WIRE_REF,      // varint: number of an object
  WIRE_FUNCTION,
  WIRE_FUNCTION_LATER,
  WIRE_CELL,        // in place of an upvalue: varint: number of a cell
  WIRE_GLOBALS,     // the table of globals
  WIRE_NAME,        // a name as names.h has it: what it names
  WIRE_REGISTERED,  // varint: length of a name, the name: what is registered so
  WIRE_CLASS,       // varint: id; a class the other side has
  WIRE_CLASS_NEW,   // varint: id, then the class as a table
};

enum wire_set {
  WIRE_SET_END,
  WIRE_SET_GLOBAL,
  WIRE_SET_FIELD,
};

enum {
  WIRE_ARRAY = 1,
  WIRE_HASH = 2,
  WIRE_META = 4,
  WIRE_LATER = 8,
};

#endif
