// SPDX-License-Identifier: MIT
// Reads Lua 5.4 bytecode: see dump.h. The format is that of lundump.c and
// ldump.c, the instructions those of lopcodes.h. Both are fixed for all of
// 5.4, whose lua_load takes no other version:
//
//   chunk    = header of 31 bytes, byte: upvalues, function
//   function = string: source; int, int: lines; 3 bytes;
//              int n, n instructions of 4 bytes
//              int n, n constants: byte type, then 8 bytes, a string, or nothing
//              int n, n upvalues: byte in_stack, byte index, byte kind
//              int n, n functions: those nested in it
//              debug information: int n, n bytes; int n, n pairs of int;
//              int n, n of (string, int, int); int n, n strings
//   int      = 7 bits a byte, highest first, the last byte marked by its bit 7
//   string   = int: its length + 1, or 0 for none; its bytes
//
// An access to a global x is GETTABUP: index upvalue B by constant C, which is
// "x". Where the constant's number does not fit into 8 bits, or where a program
// uses _ENV itself, there is a GETUPVAL of it instead; then the upvalue is
// `wild`, and any constant may be the name of a global.
#include "dump.h"

#include <lauxlib.h>
#include <string.h>

enum {
  OP_GETUPVAL = 9,
  OP_GETTABUP = 11,
  OP_GETTABLE = 12,
  OP_SELF = 20,
  CONSTANT_INTEGER = 0x03,
  CONSTANT_FLOAT = 0x13,
  CONSTANT_SHORT = 0x04,
  CONSTANT_LONG = 0x14,
  HEADER = 4 + 1 + 1 + 6 + 3 + 8 + 8,
  NESTED = 250,  // the compiler itself allows 200
  NO_UPVALUE = -1,
  DUMP_KEEP = 1 << 16,
};

// A walk through one chunk. `upvalues` maps those of the function at hand to
// the chunk's own, or to NO_UPVALUE.
struct dump_walk {
  lua_State *L;
  const uint8_t *p, *end;
  struct dump *d;
  int names, constants;  // stack indexes of the sets
  int numbered;          // stack index: number -> string constant
  int nested;
};

struct dump_upvalues {
  int n;
  int16_t map[256];
};

static bool dump_skip(struct dump_walk *w, size_t n) {
  if (n > (size_t)(w->end - w->p)) return false;
  w->p += n;
  return true;
}

static bool dump_size(struct dump_walk *w, size_t *n) {
  size_t got = 0;
  while (w->p < w->end && got <= SIZE_MAX >> 7) {
    uint8_t byte = *w->p++;
    got = got << 7 | (byte & 0x7f);
    if (byte & 0x80) {
      *n = got;
      return true;
    }
  }
  return false;
}

static bool dump_skip_string(struct dump_walk *w) {
  size_t n;
  return dump_size(w, &n) && (n == 0 || dump_skip(w, n - 1));
}

static bool dump_skip_sizes(struct dump_walk *w, int n) {
  for (size_t size; n > 0; n--)
    if (!dump_size(w, &size)) return false;
  return true;
}

static bool dump_skip_vector(struct dump_walk *w, size_t width) {
  size_t n;
  return dump_size(w, &n) && n <= (size_t)(w->end - w->p) &&
         dump_skip(w, n * width);
}

// A string constant: into the set of all, and under its number.
static bool dump_string(struct dump_walk *w, size_t number) {
  lua_State *L = w->L;
  size_t n;
  if (!dump_size(w, &n) || n == 0 || n - 1 > (size_t)(w->end - w->p))
    return false;
  lua_pushlstring(L, (const char *)w->p, n - 1);
  w->p += n - 1;
  lua_pushvalue(L, -1);
  lua_pushboolean(L, 1);
  lua_rawset(L, w->constants);
  lua_rawseti(L, w->numbered, (lua_Integer)number);
  return true;
}

static bool dump_constants(struct dump_walk *w) {
  size_t n;
  if (!dump_size(w, &n)) return false;
  for (size_t i = 0; i < n; i++) {
    if (w->p == w->end) return false;
    uint8_t type = *w->p++;
    bool string = type == CONSTANT_SHORT || type == CONSTANT_LONG;
    bool number = type == CONSTANT_INTEGER || type == CONSTANT_FLOAT;
    if (string && !dump_string(w, i)) return false;
    if (number && !dump_skip(w, 8)) return false;
  }
  return true;
}

static bool dump_upvalues(struct dump_walk *w,
                          const struct dump_upvalues *outer,
                          struct dump_upvalues *u) {
  size_t n;
  if (!dump_size(w, &n) || n > 255 || n * 3 > (size_t)(w->end - w->p))
    return false;
  u->n = (int)n;
  for (int i = 0; i < u->n; i++, w->p += 3) {
    bool local = w->p[0] != 0;
    int index = w->p[1];
    if (outer == NULL)
      u->map[i] = (int16_t)i;
    else
      u->map[i] = local || index >= outer->n ? NO_UPVALUE : outer->map[index];
  }
  return true;
}

// Notes that the chunk's upvalue is indexed with a constant.
static void dump_note(struct dump_walk *w, int upvalue, unsigned constant) {
  lua_State *L = w->L;
  if (lua_rawgeti(L, w->names, upvalue + 1) == LUA_TNIL) {
    lua_settop(L, -2);
    lua_createtable(L, 0, 4);
    lua_pushvalue(L, -1);
    lua_rawseti(L, w->names, upvalue + 1);
  }
  if (lua_rawgeti(L, w->numbered, constant) == LUA_TSTRING) {
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
  } else {
    lua_settop(L, -2);
  }
  lua_settop(L, -2);
}

static void dump_instruction(struct dump_walk *w, uint32_t code,
                             const struct dump_upvalues *u) {
  unsigned b = code >> 16 & 0xff, c = code >> 24;
  int upvalue = (int)b < u->n ? u->map[b] : NO_UPVALUE;
  switch (code & 0x7f) {
    case OP_GETTABUP:
      if (upvalue != NO_UPVALUE) dump_note(w, upvalue, c);
      break;
    case OP_GETUPVAL:
      if (upvalue != NO_UPVALUE)
        w->d->wild[upvalue / 8] |= (uint8_t)(1 << upvalue % 8);
      break;
    case OP_GETTABLE:
      w->d->indexes = true;
      break;
    case OP_SELF:
      w->d->calls_methods = true;
      break;
    default:
      break;
  }
}

static bool dump_debug(struct dump_walk *w) {
  size_t n;
  if (!dump_skip_vector(w, 1) || !dump_size(w, &n)) return false;
  for (; n > 0; n--)
    if (!dump_skip_sizes(w, 2)) return false;
  if (!dump_size(w, &n)) return false;
  for (; n > 0; n--)
    if (!dump_skip_string(w) || !dump_skip_sizes(w, 2)) return false;
  if (!dump_size(w, &n)) return false;
  for (; n > 0; n--)
    if (!dump_skip_string(w)) return false;
  return true;
}

// One function and those nested in it, as deep as its source nests them.
static bool dump_function(struct dump_walk *w,
                          const struct dump_upvalues *outer) {
  struct dump_upvalues u;
  size_t n;
  if (w->nested == NESTED || !dump_skip_string(w) || !dump_skip_sizes(w, 2) ||
      !dump_skip(w, 3) || !dump_size(w, &n))
    return false;
  const uint8_t *code = w->p;
  if (n > (size_t)(w->end - w->p) / 4) return false;
  w->p += n * 4;
  lua_createtable(w->L, 0, 0);
  lua_replace(w->L, w->numbered);
  if (!dump_constants(w) || !dump_upvalues(w, outer, &u)) return false;
  for (size_t i = 0; i < n; i++) {
    uint32_t instruction;
    memcpy(&instruction, code + i * 4, 4);
    dump_instruction(w, instruction, &u);
  }
  if (!dump_size(w, &n)) return false;
  w->nested++;
  for (; n > 0; n--)
    if (!dump_function(w, &u)) return false;
  w->nested--;
  return dump_debug(w);
}

// Pushes a dump for the code on top of the stack, and fills it. Bytecode that
// this reader does not understand counts as using anything.
static void dump_read(lua_State *L) {
  size_t n;
  int code = lua_gettop(L);
  const uint8_t *p = (const uint8_t *)lua_tolstring(L, code, &n);
  struct dump *d = lua_newuserdatauv(L, sizeof(*d), DUMP_VALUES);
  memset(d, 0, sizeof(*d));
  lua_createtable(L, 0, 0);
  lua_createtable(L, 0, 8);
  lua_pushnil(L);
  struct dump_walk w = {L, p, p + n, d, code + 2, code + 3, code + 4, 0};
  luaL_checkstack(L, 16, "cannot read bytecode");
  if (!dump_skip(&w, HEADER + 1) || !dump_function(&w, NULL)) {
    memset(d->wild, 0xff, sizeof(d->wild));
    d->indexes = d->calls_methods = true;
  }
  d->upvalues = n > HEADER ? p[HEADER] : 0;
  lua_settop(L, code + 3);
  lua_setiuservalue(L, code + 1, DUMP_CONSTANTS);
  lua_setiuservalue(L, code + 1, DUMP_NAMES);
  lua_pushvalue(L, code);
  lua_setiuservalue(L, code + 1, DUMP_CODE);
}

static int dump_writer(lua_State *L, const void *p, size_t n, void *b) {
  (void)L;
  return buffer_put(b, p, n) < 0;
}

// Pushes the code of the Lua function on top of the stack.
static void dump_code(lua_State *L, struct buffer *b) {
  b->len = 0;
  if (lua_dump(L, dump_writer, b, 0) != 0) luaL_error(L, "not enough memory");
  lua_pushlstring(L, (const char *)b->data, b->len);
  buffer_reset(b, DUMP_KEEP);
}

const struct dump *dump_push(lua_State *L, struct buffer *b, int dumps,
                             int codes, int idx) {
  lua_pushvalue(L, idx);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, dumps) == LUA_TUSERDATA) goto done;
  lua_settop(L, -2);
  dump_code(L, b);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, codes) != LUA_TUSERDATA) {
    lua_settop(L, -2);
    dump_read(L);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, codes);
  }
  lua_remove(L, -2);
  lua_pushvalue(L, -2);
  lua_pushvalue(L, -2);
  lua_rawset(L, dumps);
done:
  lua_remove(L, -2);
  return lua_touserdata(L, -1);
}
