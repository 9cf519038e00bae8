// SPDX-License-Identifier: MIT
// Text to values: yajl reads, and its callbacks build the values straight on
// the Lua stack. See json.h.
//
// What is in an array or object that is still open lies above its slot on the
// stack: key and value in turn, or elements. There it is collected until the
// end is seen, so that the table is made in its size, or until there are
// PENDING of them, so that long ones cost no stack.
//
// yajl's memory is Lua's own: blocks are userdata, held by a table on the
// stack. So errors of Lua may leave through yajl, and nothing is left behind.
#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "json.h"
#include "json_number.h"
#include "json_text.h"

enum { PENDING = 64 };  // even: no key without its value

// Stack indexes in f_decode.
enum { TEXT = 1, BLOCKS };

struct level {
  int slot;       // stack index of the table; nil as long as it is not made
  lua_Integer n;  // elements of an array that are in the table
};

struct decoder {
  lua_State *L;
  const char *refused;  // by us, and why: a token of so many bytes
  size_t token;
  int depth;
  struct level levels[JSON_LEVELS];  // those open: depth of them
};

// --- memory of yajl --------------------------------------------------------

static void *f_malloc(void *ctx, size_t n) {
  lua_State *L = ((struct decoder *)ctx)->L;
  void *p = lua_newuserdatauv(L, n, 0);
  lua_rawsetp(L, BLOCKS, p);
  return p;
}

static void f_free(void *ctx, void *p) {
  lua_State *L = ((struct decoder *)ctx)->L;
  lua_pushnil(L);
  lua_rawsetp(L, BLOCKS, p);
}

static void *f_realloc(void *ctx, void *p, size_t n) {
  lua_State *L = ((struct decoder *)ctx)->L;
  void *more = f_malloc(ctx, n);
  if (p == NULL) return more;
  lua_rawgetp(L, BLOCKS, p);
  size_t old = lua_rawlen(L, -1);
  memcpy(more, p, old < n ? old : n);
  lua_pop(L, 1);
  f_free(ctx, p);
  return more;
}

// --- tables ----------------------------------------------------------------

// Moves what is pending for the innermost level into its table. In order, so
// that of a key that occurs twice the last value stays.
static void flush_object(struct decoder *d, struct level *at) {
  lua_State *L = d->L;
  int top = lua_gettop(L);
  if (lua_isnil(L, at->slot)) {
    lua_createtable(L, 0, (top - at->slot) / 2);
    lua_replace(L, at->slot);
  }
  for (int i = at->slot + 1; i < top; i += 2) {
    lua_pushvalue(L, i);
    lua_pushvalue(L, i + 1);
    lua_rawset(L, at->slot);
  }
  lua_settop(L, at->slot);
}

static void flush_array(struct decoder *d, struct level *at) {
  lua_State *L = d->L;
  int top = lua_gettop(L);
  if (lua_isnil(L, at->slot)) {
    lua_createtable(L, top - at->slot, 0);
    lua_replace(L, at->slot);
  }
  for (int i = at->slot + 1; i <= top; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, at->slot, ++at->n);
  }
  lua_settop(L, at->slot);
}

static int refuse(struct decoder *d, size_t token, const char *why) {
  d->refused = why;
  d->token = token;
  return 0;
}

static int begin(struct decoder *d, lua_Integer n) {
  if (d->depth == JSON_LEVELS)
    return refuse(d, 1, "more than 1000 levels of arrays and objects");
  luaL_checkstack(d->L, PENDING + LUA_MINSTACK, "cannot decode JSON");
  lua_pushnil(d->L);
  d->levels[d->depth++] = (struct level){lua_gettop(d->L), n};
  return 1;
}

// --- what yajl calls: 1 to go on ---------------------------------------------

// A value is on top of the stack. Those of objects have n < 0.
static int added(struct decoder *d) {
  if (d->depth == 0) return 1;
  struct level *at = &d->levels[d->depth - 1];
  if (lua_gettop(d->L) - at->slot < PENDING) return 1;
  if (at->n < 0)
    flush_object(d, at);
  else
    flush_array(d, at);
  return 1;
}

static int f_null(void *ctx) {
  struct decoder *d = ctx;
  lua_pushlightuserdata(d->L, NULL);
  return added(d);
}

static int f_boolean(void *ctx, int value) {
  struct decoder *d = ctx;
  lua_pushboolean(d->L, value);
  return added(d);
}

static int f_number(void *ctx, const char *s, size_t n) {
  struct decoder *d = ctx;
  if (json_number_push(d->L, s, n)) return added(d);
  return refuse(d, n, "number out of range");
}

static int f_string(void *ctx, const unsigned char *s, size_t n) {
  struct decoder *d = ctx;
  lua_pushlstring(d->L, (const char *)s, n);
  return added(d);
}

static int f_key(void *ctx, const unsigned char *s, size_t n) {
  struct decoder *d = ctx;
  lua_pushlstring(d->L, (const char *)s, n);
  return 1;
}

static int f_begin_object(void *ctx) { return begin(ctx, -1); }

static int f_begin_array(void *ctx) { return begin(ctx, 0); }

static int f_end_object(void *ctx) {
  struct decoder *d = ctx;
  flush_object(d, &d->levels[--d->depth]);
  return added(d);
}

static int f_end_array(void *ctx) {
  struct decoder *d = ctx;
  flush_array(d, &d->levels[--d->depth]);
  lua_pushvalue(d->L, lua_upvalueindex(1));
  lua_setmetatable(d->L, -2);
  return added(d);
}

static const yajl_callbacks callbacks = {
    .yajl_null = f_null,
    .yajl_boolean = f_boolean,
    .yajl_number = f_number,
    .yajl_string = f_string,
    .yajl_start_map = f_begin_object,
    .yajl_map_key = f_key,
    .yajl_end_map = f_end_object,
    .yajl_start_array = f_begin_array,
    .yajl_end_array = f_end_array,
};

// --- the whole ---------------------------------------------------------------

// nil, message; `place` counts bytes from 0.
static int fail(lua_State *L, const char *why, size_t place) {
  lua_pushnil(L);
  lua_pushfstring(L, "cannot decode JSON: %s (byte %I)", why,
                  (LUAI_UACINT)place + 1);
  return 2;
}

// yajl has stopped, at the end of the n bytes or before it. It says "lexical
// error: invalid char in json text.\n" and has read up to that, or "parse error:
// ..." and has read the token that does not fit.
static int fail_parsed(struct decoder *d, yajl_handle h, size_t n, bool ended) {
  lua_State *L = d->L;
  size_t read = ended ? n : yajl_get_bytes_consumed(h);
  luaL_checkstack(L, LUA_MINSTACK, "cannot decode JSON");
  if (d->refused != NULL) return fail(L, d->refused, read - d->token);
  const char *text = (const char *)yajl_get_error(h, 0, NULL, 0);
  const char *why = strstr(text, ": ");
  why = why != NULL ? why + 2 : text;
  lua_pushlstring(L, why, strcspn(why, ".\n"));
  return fail(L, lua_tostring(L, -1), read - (!ended && text[0] == 'p'));
}

// At the end yajl waits for what may follow: a number might go on, and a string
// that begins behind the value be closed, which a line break forbids.
static yajl_status finish(struct decoder *d, yajl_handle h) {
  static const unsigned char line_break[] = "\n";
  bool whole = d->depth == 0 && lua_gettop(d->L) > BLOCKS;
  return whole ? yajl_parse(h, line_break, 1) : yajl_complete_parse(h);
}

int json_f_decode(lua_State *L) {
  size_t n, place;
  struct decoder d;
  const char *text = luaL_checklstring(L, TEXT, &n);
  lua_settop(L, TEXT);
  const char *wrong = json_text_check(text, n, &place);
  if (wrong != NULL) return fail(L, wrong, place);
  lua_createtable(L, 0, 8);
  d.L = L;
  d.refused = NULL;
  d.depth = 0;
  yajl_alloc_funcs memory = {f_malloc, f_realloc, f_free, &d};
  yajl_handle h = yajl_alloc(&callbacks, &memory, &d);
  yajl_config(h, yajl_dont_validate_strings, 1);  // done above, and better
  if (yajl_parse(h, (const unsigned char *)text, n) != yajl_status_ok)
    return fail_parsed(&d, h, n, false);
  if (finish(&d, h) != yajl_status_ok) return fail_parsed(&d, h, n, true);
  return 1;
}
