// SPDX-License-Identifier: MIT
// Functions by value: see closure.h.
#include "closure.h"

#include <string.h>

#include "codec.h"
#include "dump.h"
#include "globals.h"
#include "named.h"
#include "wire.h"

// --- writing ---------------------------------------------------------------

// An upvalue that functions share is an object of its own, so that they share
// it on the other side too.
static bool closure_upvalue(struct encoder *e, int function, int i) {
  lua_State *L = e->L;
  const char *name = lua_getupvalue(L, function, i);
  bool done = true;
  if (globals_is_env(L, name)) {
    done = encode_byte(e, WIRE_GLOBALS);
  } else {
    int fresh = encode_identity(e, lua_upvalueid(L, function, i), WIRE_CELL);
    done = fresh > 0 ? encode_value(e) : fresh == 0;
  }
  if (done) lua_settop(L, -2);
  return done;
}

bool closure_encode_rest(struct encoder *e) {
  lua_State *L = e->L;
  int function = lua_gettop(L);
  e->depth = 1;
  for (int i = 1; lua_getupvalue(L, function, i) != NULL; i++) {
    lua_settop(L, function);
    if (!closure_upvalue(e, function, i)) return false;
  }
  return true;
}

static bool closure_upvalues(struct encoder *e, int n) {
  int function = lua_gettop(e->L);
  e->depth++;
  for (int i = 1; i <= n; i++)
    if (!closure_upvalue(e, function, i)) return false;
  e->depth--;
  return true;
}

// Pushes the function's code.
static const struct dump *closure_code(struct encoder *e) {
  lua_State *L = e->L;
  int function = lua_gettop(L), names = encode_names(e);
  lua_getiuservalue(L, names, NAMES_DUMPS);
  lua_getiuservalue(L, names, NAMES_CODES);
  const struct dump *d =
      dump_push(L, &e->names->code, function + 1, function + 2, function);
  lua_getiuservalue(L, -1, DUMP_CODE);
  lua_replace(L, function + 1);
  lua_settop(L, function + 1);
  return d;
}

// Writes a function that has no name.
static bool closure_whole(struct encoder *e) {
  lua_State *L = e->L;
  bool later = e->depth == WIRE_DEPTH;
  uint8_t n = closure_code(e)->upvalues;
  size_t size;
  const char *code = lua_tolstring(L, -1, &size);
  if (!encode_byte(e, later ? WIRE_FUNCTION_LATER : WIRE_FUNCTION) ||
      !encode_byte(e, n) || !encode_long(e, code, size))
    return false;
  lua_settop(L, -2);
  return later ? encode_put_off(e, 0) : closure_upvalues(e, n);
}

bool closure_encode(struct encoder *e) {
  int fresh = named_refresh(e);
  if (fresh < 0) return false;
  if (fresh > 0 && names_special(e->names, lua_topointer(e->L, -1))) {
    int named = named_encode(e);
    if (named != 0) return named > 0;
  }
  return lua_iscfunction(e->L, -1) ? encode_refuse(e) : closure_whole(e);
}

// --- reading ---------------------------------------------------------------

// Cells are kept among the objects as integers: which function has them first,
// and as which of its upvalues.
static void closure_note_cell(struct decoder *d, lua_Integer number, int i) {
  lua_pushinteger(d->L, number << 8 | i);
  decode_number_object(d);
  lua_settop(d->L, -2);
}

static bool closure_join(struct decoder *d, int function, int i) {
  lua_State *L = d->L;
  int objects = decode_slot(d, DECODE_OBJECTS);
  uint64_t cell = 0;
  if (!decode_varint(d, &cell)) return false;
  if ((d->wire & WIRE_REFS) == 0 || cell >= d->objects)
    return decode_wrong(d, "reference to nothing");
  if (lua_rawgeti(L, objects, (lua_Integer)cell + 1) != LUA_TNUMBER)
    return decode_wrong(d, "reference to no upvalue");
  lua_Integer owner = lua_tointeger(L, -1);
  lua_rawgeti(L, objects, (owner >> 8) + 1);
  lua_upvaluejoin(L, function, i, -1, (int)(owner & 0xff));
  lua_settop(L, function);
  return true;
}

static bool closure_decode_upvalue(struct decoder *d, int function,
                                   lua_Integer number, int i) {
  if (d->p == d->end) return decode_wrong(d, "message ends too early");
  if (*d->p == WIRE_CELL) return d->p++, closure_join(d, function, i);
  if (*d->p == WIRE_GLOBALS) {
    d->p++;
    lua_rawgeti(d->L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  } else {
    closure_note_cell(d, number, i);
    if (!decode_value(d)) return false;
  }
  lua_setupvalue(d->L, function, i);
  return true;
}

static bool closure_decode_upvalues(struct decoder *d, lua_Integer number,
                                    int n) {
  int function = lua_gettop(d->L);
  if (d->depth == WIRE_DEPTH) return decode_wrong(d, "nested too deep");
  d->depth++;
  for (int i = 1; i <= n; i++)
    if (!closure_decode_upvalue(d, function, number, i)) return false;
  d->depth--;
  return true;
}

bool closure_decode_rest(struct decoder *d, lua_Integer number, int n) {
  d->depth = 0;
  return closure_decode_upvalues(d, number, n);
}

struct closure_reader {
  const char *code;
  size_t n;
};

static const char *closure_read(lua_State *L, void *reader, size_t *n) {
  struct closure_reader *r = reader;
  (void)L;
  *n = r->n;
  r->n = 0;
  return r->code;
}

// Replaces the code on top of the stack by a function of n upvalues.
static bool closure_load(struct decoder *d, int n) {
  lua_State *L = d->L;
  struct closure_reader r;
  lua_Debug about;
  if (lua_type(L, -1) != LUA_TSTRING) return decode_wrong(d, "code expected");
  r.code = lua_tolstring(L, -1, &r.n);
  int status = lua_load(L, closure_read, &r, "=message", "b");
  if (status == LUA_ERRMEM) lua_error(L);
  if (status != LUA_OK) return decode_wrong(d, "bad code");
  lua_remove(L, -2);
  lua_pushvalue(L, -1);
  lua_getinfo(L, ">u", &about);
  if (about.nups != n) return decode_wrong(d, "wrong number of upvalues");
  return true;
}

bool closure_decode(struct decoder *d, unsigned tag) {
  if ((d->flags & CODEC_CODE) == 0)
    return decode_wrong(d, "code is not allowed here");
  if (d->p == d->end) return decode_wrong(d, "message ends too early");
  lua_Integer number = (lua_Integer)d->objects++;
  int n = *d->p++;
  // The code is a string. A function in its place would be decoded within this
  // one, without an end.
  if (d->p < d->end && (*d->p == WIRE_FUNCTION || *d->p == WIRE_FUNCTION_LATER))
    return decode_wrong(d, "code expected");
  if (!decode_value(d) || !closure_load(d, n)) return false;
  if (d->wire & WIRE_REFS) {
    lua_pushvalue(d->L, -1);
    lua_rawseti(d->L, decode_slot(d, DECODE_OBJECTS), number + 1);
  }
  if (tag == WIRE_FUNCTION_LATER) {
    decode_put_off(d, number, n);
    return true;
  }
  return closure_decode_upvalues(d, number, n);
}
