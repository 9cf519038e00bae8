// SPDX-License-Identifier: MIT
// Messages, and the functions of `require "luapool.host"` about them: see
// codec.h.
#include "codec.h"

#include <lauxlib.h>
#include <string.h>

#include "class.h"
#include "decode.h"
#include "encode.h"
#include "globals.h"
#include "metatable.h"
#include "names.h"
#include "peek.h"
#include "place.h"
#include "session.h"
#include "wire.h"

static char codec_memory_key;

static int codec_no_memory(lua_State *L) {
  lua_pushliteral(L, "not enough memory");
  return lua_error(L);
}

static int codec_f_memory_gc(lua_State *L) {
  struct encode_memory *m = lua_touserdata(L, 1);
  encode_memory_free(m);
  memset(m, 0, sizeof(*m));
  return 0;
}

// A fresh memory becomes the state's own: where the old one is in use, a
// finalizer encodes in the midst of an encoding, or that one has failed.
static struct encode_memory *codec_fresh_memory(lua_State *L) {
  struct encode_memory *m = lua_newuserdatauv(L, sizeof(*m), 0);
  memset(m, 0, sizeof(*m));
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, codec_f_memory_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &codec_memory_key);
  return m;
}

// The memory for one encoding; pushes what keeps it alive.
static struct encode_memory *codec_memory(lua_State *L, struct session *s) {
  if (s != NULL && !s->memory.busy) {
    s->memory.busy = true;
    return &s->memory;
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &codec_memory_key);
  struct encode_memory *m = lua_touserdata(L, -1);
  if (m == NULL || m->busy) {
    lua_settop(L, -2);
    m = codec_fresh_memory(L);
  }
  m->busy = true;
  return m;
}

// --- writing ---------------------------------------------------------------

// Whether to try the message by peek.h: not if one of the last was found to
// hold more than plain data, and was begun in vain.
static bool codec_may_peek(struct encoder *e, int first, int n) {
  for (int i = first; i < first + n; i++)
    if (lua_type(e->L, i) > LUA_TTABLE) return false;
  if (e->m->unpeeked == 0) return peek_works(e->L);
  e->m->unpeeked--;
  return false;
}

static bool codec_put_value(struct encoder *e, int idx) {
  lua_State *L = e->L;
  int done = lua_istable(L, idx) ? 0 : encode_plain(L, idx, e->b);
  if (done < 0) return encode_no_memory(e);
  if (done == 1) return true;
  if (e->peeks) return peek_encode(e, idx);
  lua_pushvalue(L, idx);
  if (!encode_value(e)) return false;
  lua_settop(L, -2);
  return true;
}

// Writes the values and all they refer to, behind a head that is at `start`.
static bool codec_put_objects(struct encoder *e, size_t start, int first,
                              int n) {
  if (!encode_begin(e, e->m)) return false;
  for (int i = 0; i < n; i++)
    if (!codec_put_value(e, first + i)) return false;
  if (!(e->peeks ? peek_encode_rest(e) : encode_rest(e))) return false;
  if (encode_sets(e) && !globals_encode(e)) return false;
  if (e->refs) e->b->data[start] |= WIRE_REFS;
  if (e->sets_last > 0) e->b->data[start] |= WIRE_SETS;
  class_sent(e);
  return true;
}

// An attempt may fail by a finding that makes another one succeed; none is made
// twice.
static bool codec_put_attempts(struct encoder *e, size_t start, int first,
                               int n) {
  size_t len = e->b->len;
  int top = lua_gettop(e->L);
  while (!codec_put_objects(e, start, first, n)) {
    if (e->failure == ENCODE_NO_PEEK) {
      struct encode_memory *m = e->m;
      e->peeks = false;
      m->penalty = m->penalty < 64 ? m->penalty * 2 + 1 : m->penalty;
      m->unpeeked = m->penalty;
    } else if (e->failure != ENCODE_AGAIN) {
      return false;
    }
    e->b->len = len;
    lua_settop(e->L, top);
  }
  if (e->peeks) e->m->penalty = 0;
  return true;
}

// Takes the message back, and pushes why.
static int codec_put_fail(struct encoder *e, int top, size_t start, int first,
                          int n, const struct codec_path *path) {
  e->b->len = start;
  if (e->failure == ENCODE_NO_MEMORY) return codec_no_memory(e->L);
  place_push(e, first, n, path);
  lua_insert(e->L, top + 1);
  lua_settop(e->L, top + 1);
  return 0;
}

// As codec_put, by an encoder that knows its buffer and session. The values
// that are no objects, up to the first one that is, need nothing but themselves.
static int codec_put_by(struct encoder *e, int first, int n,
                        const struct codec_path *path) {
  lua_State *L = e->L;
  size_t start = e->b->len;
  int top = lua_gettop(L), i = 0, plain = 1;
  if (!encode_varint(e, (uint64_t)n << WIRE_FLAGS)) plain = -1;
  for (; i < n && plain > 0; i += plain > 0)
    plain = encode_plain(L, first + i, e->b);
  if (plain > 0) return 1;
  if (plain < 0) {
    e->b->len = start;
    return codec_no_memory(L);
  }
  luaL_checkstack(L, LUA_MINSTACK, "cannot encode");
  e->m = codec_memory(L, e->session);
  e->peeks = codec_may_peek(e, first + i, n - i);
  bool done = codec_put_attempts(e, start, first + i, n - i);
  encode_end(e);
  if (!done) return codec_put_fail(e, top, start, first, n, path);
  lua_settop(L, top);
  return 1;
}

// An index of a table, or 0.
static int codec_scope(lua_State *L, int idx) {
  return idx != 0 && lua_istable(L, idx) ? idx : 0;
}

int codec_put_plain(lua_State *L, struct buffer *b, int idx) {
  if (buffer_reserve(b, 1) < 0) return -1;
  b->data[b->len++] = 1 << WIRE_FLAGS;
  int done = encode_plain(L, idx, b);
  if (done <= 0) b->len--;
  return done;
}

int codec_put(lua_State *L, int session, int scope, struct buffer *b, int first,
              int n, const struct codec_path *path) {
  if (n == 1 && codec_put_plain(L, b, first) > 0) return 1;
  struct encoder e = {.L = L, .b = b};
  e.session = session_at(L, session);
  e.session_at = e.session == NULL ? 0 : session;
  e.scope_at = codec_scope(L, scope);
  return codec_put_by(&e, first, n, path);
}

// --- reading ---------------------------------------------------------------

static bool codec_get_all(struct decoder *d, uint64_t n) {
  for (uint64_t i = 0; i < n; i++)
    if (!decode_value(d)) return false;
  if (d->kit == 0 && (d->wire & WIRE_SETS) == 0) return true;
  if (d->kit == 0 && !decode_begin(d)) return false;
  if (!decode_rest(d) || !globals_decode(d)) return false;
  decode_finish(d);
  return lua_isnil(d->L, decode_slot(d, DECODE_FAILURE));
}

static bool codec_get_head(struct decoder *d, uint64_t *n) {
  if (!decode_varint(d, n)) return false;
  d->wire = (unsigned)*n & ((1 << WIRE_FLAGS) - 1);
  *n >>= WIRE_FLAGS;
  if (*n > decode_left(d) || *n > INT32_MAX ||
      !lua_checkstack(d->L, (int)*n + LUA_MINSTACK))
    return decode_wrong(d, "too many values");
  d->values = (int)*n;
  return true;
}

static int codec_get_fail(struct decoder *d, int top) {
  lua_State *L = d->L;
  if (d->wrong != NULL)
    lua_pushfstring(L, "malformed message: %s", d->wrong);
  else
    lua_pushvalue(L, decode_slot(d, DECODE_FAILURE));
  lua_insert(L, top + 1);
  lua_settop(L, top + 1);
  return -1;
}

bool codec_get_plain(lua_State *L, const uint8_t **p, const uint8_t *end) {
  return decode_item(L, p, end);
}

int codec_get(lua_State *L, int session, int scope, unsigned flags,
              const uint8_t **p, const uint8_t *end) {
  if (decode_item(L, p, end)) return 1;
  struct decoder d = {.L = L, .p = *p, .end = end, .flags = flags};
  int top = lua_gettop(L);
  uint64_t n = 0;
  d.session = session_at(L, session);
  d.session_at = d.session == NULL ? 0 : session;
  d.scope_at = codec_scope(L, scope);
  if (!codec_get_head(&d, &n) || !codec_get_all(&d, n))
    return codec_get_fail(&d, top);
  decode_end(&d);
  *p = d.p;
  return (int)n;
}

// Raises an error of the library, by the function that luapool.error left.
static int codec_raise(lua_State *L, const char *kind) {
  lua_getfield(L, LUA_REGISTRYINDEX, "luapool.raise");
  if (lua_isnil(L, -1)) {
    lua_settop(L, -2);
    return lua_error(L);
  }
  lua_insert(L, -2);
  lua_pushstring(L, kind);
  lua_insert(L, -2);
  lua_call(L, 2, 0);
  return luaL_error(L, "luapool.raise returned");
}

static int codec_f_buffer_gc(lua_State *L) {
  buffer_free(lua_touserdata(L, 1));
  return 0;
}

static struct buffer *codec_new_buffer(lua_State *L) {
  static const luaL_Reg methods[] = {{"__gc", codec_f_buffer_gc}, {NULL, NULL}};
  struct buffer *b = lua_newuserdatauv(L, sizeof(*b), 0);
  memset(b, 0, sizeof(*b));
  metatable_push(L, "luapool.bytes", methods);
  lua_setmetatable(L, -2);
  return b;
}

int codec_f_encode(lua_State *L) {
  static const struct codec_path path = {"args", 0, true};
  int n = lua_gettop(L);
  struct buffer *b = codec_new_buffer(L);
  if (!codec_put(L, 0, 0, b, 1, n, &path)) return codec_raise(L, "encode");
  lua_pushlstring(L, (const char *)b->data, b->len);
  buffer_free(b);
  return 1;
}

// The options of decode: code alone, a boolean.
static unsigned codec_flags(lua_State *L, int arg) {
  unsigned flags = 0;
  if (lua_isnoneornil(L, arg)) return 0;
  luaL_checktype(L, arg, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, arg); lua_settop(L, -2)) {
    if (lua_type(L, -2) != LUA_TSTRING ||
        strcmp(lua_tostring(L, -2), "code") != 0) {
      const char *name = luaL_tolstring(L, -2, NULL);
      luaL_argerror(L, arg, lua_pushfstring(L, "unknown option '%s'", name));
    }
    luaL_argcheck(L, lua_isboolean(L, -1), arg,
                  "option 'code': boolean "
                  "expected");
    if (lua_toboolean(L, -1)) flags |= CODEC_CODE;
  }
  return flags;
}

int codec_f_decode(lua_State *L) {
  size_t len;
  const uint8_t *p = (const uint8_t *)luaL_checklstring(L, 1, &len);
  unsigned flags = codec_flags(L, 2);
  const uint8_t *end = p + len;
  lua_settop(L, 1);
  int n = codec_get(L, 0, 0, flags, &p, end);
  if (n >= 0 && p != end) {
    lua_pushliteral(L, "malformed message: trailing bytes");
    n = -1;
  }
  if (n < 0) return codec_raise(L, "decode");
  return n;
}

// register(name, value)
int codec_f_register(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  int type = lua_type(L, 2);
  luaL_argexpected(L, type == LUA_TTABLE || type == LUA_TFUNCTION, 2,
                   "table or function");
  lua_settop(L, 2);
  struct names *n = names_push(L);
  names_register(L, n, 3, 1, 2);
  return 0;
}

int codec_f_session(lua_State *L) { return session_f_new(L); }

// Stack indexes while session:define runs. The values to be defined are name,
// order, value, and again, from the last one on.
enum {
  DEFINE_BUFFER = 3,
  DEFINE_NAMES,
  DEFINE_REGISTERED,
  DEFINE_ORDER,
  DEFINE_EXEMPT,   // set of the values
  DEFINE_MISSING,  // set of the names that the last attempt found missing
  DEFINE_FIRST,
};

// Appends the name on top of the stack, its order, and what is registered under
// it. False where that is nothing.
static bool codec_define_push(lua_State *L) {
  int name = lua_gettop(L);
  luaL_checkstack(L, 6, "too many values");
  lua_pushvalue(L, name);
  lua_rawget(L, DEFINE_ORDER);
  lua_pushvalue(L, name);
  if (lua_rawget(L, DEFINE_REGISTERED) == LUA_TNIL) {
    lua_settop(L, name - 1);
    return false;
  }
  lua_pushvalue(L, -1);
  lua_pushboolean(L, 1);
  lua_rawset(L, DEFINE_EXEMPT);
  return true;
}

// Appends the names that are missing. Returns whether there are any.
static bool codec_define_missing(lua_State *L) {
  bool any = false;
  for (lua_pushnil(L); lua_next(L, DEFINE_MISSING); lua_pushnil(L)) {
    lua_settop(L, -2);
    lua_pushvalue(L, -1);
    lua_pushnil(L);
    lua_rawset(L, DEFINE_MISSING);
    any = codec_define_push(L) || any;
  }
  return any;
}

// session:define(name) -> string. The other side has, or will have got by then,
// what was registered earlier; what was registered later, and the value refers
// to, is defined with it.
int codec_f_session_define(lua_State *L) {
  static const struct codec_path path = {"registered", 0, true};
  struct encoder e = {.L = L,
                      .session_at = 1,
                      .exempt_at = DEFINE_EXEMPT,
                      .missing_at = DEFINE_MISSING};
  e.session = session_check(L, 1);
  luaL_checktype(L, 2, LUA_TSTRING);
  lua_settop(L, 2);
  e.b = codec_new_buffer(L);
  lua_getiuservalue(L, 1, SESSION_NAMES);
  lua_getiuservalue(L, DEFINE_NAMES, NAMES_REGISTERED);
  lua_getiuservalue(L, DEFINE_NAMES, NAMES_ORDER);
  lua_createtable(L, 0, 1);
  lua_createtable(L, 0, 1);
  lua_pushvalue(L, 2);
  if (!codec_define_push(L))
    return luaL_argerror(L, 2, "nothing is registered under this name");
  e.defined = lua_tointeger(L, DEFINE_FIRST + 1);
  do {
    int n = lua_gettop(L) - DEFINE_FIRST + 1;
    e.b->len = 0;
    if (!codec_put_by(&e, DEFINE_FIRST, n, &path))
      return codec_raise(L, "encode");
  } while (codec_define_missing(L));
  lua_pushlstring(L, (const char *)e.b->data, e.b->len);
  buffer_free(e.b);
  return 1;
}

// session:defined(string): in a worker. What has come before is not replaced.
int codec_f_session_defined(lua_State *L) {
  size_t len;
  session_check(L, 1);
  const uint8_t *p = (const uint8_t *)luaL_checklstring(L, 2, &len);
  lua_settop(L, 2);
  int n = codec_get(L, 1, 0, CODEC_CODE, &p, p + len);
  if (n < 0) return codec_raise(L, "decode");
  for (int i = 3; i + 2 < 3 + n; i += 3)
    if (lua_type(L, i) == LUA_TSTRING) session_define(L, i, i + 1, i + 2);
  return 0;
}
