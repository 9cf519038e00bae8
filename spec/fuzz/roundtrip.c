// SPDX-License-Identifier: MIT
// Fuzz target: values that are made from the input go through the codec and
// must come back alike. The first byte says by which way: plainly, or as from a
// pool to a worker and back, through two sessions in two states.
#include <lauxlib.h>
#include <string.h>

#include "codec.h"
#include "fuzz.h"

enum way {
  WAY_SESSIONS = 1,
  WAY_FORK =
      2,  // the view the parent has of the worker: of a fork, not a spawn
  WAY_MOST_VALUES = 4,
};

enum {
  DEEPEST = 40,
  LARGEST = 64,
  RUNS = 500,  // that the states are used for
};

static const struct codec_path path = {"value", 0, true};

// --- making values ---------------------------------------------------------

// What has been made so far is in the list at `made`, to be referred to.
struct maker {
  lua_State *L;
  struct fuzz_input *in;
  int made;
  lua_Integer n;
  int depth;
  int left;  // objects that may still be made
};

static void make(struct maker *m);

static void keep(struct maker *m) {
  lua_pushvalue(m->L, -1);
  lua_rawseti(m->L, m->made, ++m->n);
  m->left--;
}

static void make_string(struct maker *m, size_t n) {
  luaL_Buffer b;
  luaL_buffinit(m->L, &b);
  uint8_t seed = fuzz_byte(m->in);
  for (size_t i = 0; i < n; i++)
    luaL_addchar(&b, (char)(i < 4 ? seed : seed + i * i));
  luaL_pushresult(&b);
}

// Numbers around the borders of their encodings, and any.
static void make_integer(struct maker *m) {
  uint8_t b = fuzz_byte(m->in);
  int64_t power = (int64_t)(UINT64_C(1) << (b & 63));
  if (b < 64)
    lua_pushinteger(m->L, (int8_t)fuzz_byte(m->in));
  else if (b < 128)
    lua_pushinteger(m->L, (lua_Integer)((uint64_t)power - 1));
  else if (b < 192)
    lua_pushinteger(m->L, (lua_Integer) - (uint64_t)power);
  else
    lua_pushinteger(m->L, (lua_Integer)fuzz_word(m->in));
}

static void make_float(struct maker *m, bool nan_too) {
  uint64_t bits = fuzz_word(m->in);
  lua_Number n;
  memcpy(&n, &bits, sizeof n);
  if (n != n && !nan_too) n = 0.5;
  lua_pushnumber(m->L, n);
}

static void make_key(struct maker *m, bool *object) {
  static const char *const words[] = {"a",    "name",    "n",    "value",
                                      "__x",  "__index", "item", "__eq",
                                      "self", "length",  "",     "key"};
  uint8_t b = fuzz_byte(m->in);
  switch (b & 7) {
    case 0:
    case 1:
    case 2:
      lua_pushstring(m->L, words[(b >> 3) % (sizeof words / sizeof *words)]);
      break;
    case 3:
      make_string(m, b >> 3);
      break;
    case 4:
      make_integer(m);
      break;
    case 5:
      make_float(m, false);
      break;
    case 6:
      lua_pushboolean(m->L, b >> 3 & 1);
      break;
    default:
      // One only: which of two is which could not be told.
      if (*object || m->n == 0) {
        lua_pushinteger(m->L, b);
        break;
      }
      *object = true;
      lua_rawgeti(m->L, m->made, 1 + (b >> 3) % m->n);
  }
}

static void make_list(struct maker *m, int t) {
  int n = fuzz_byte(m->in) % LARGEST;
  for (int i = 1; i <= n; i++) {
    make(m);
    lua_rawseti(m->L, t, i);
  }
}

static void make_pairs(struct maker *m, int t) {
  bool object = false;
  for (int n = fuzz_byte(m->in) % LARGEST; n > 0; n--) {
    make_key(m, &object);
    make(m);
    lua_rawset(m->L, t);
  }
}

// Keys that share a chain of a table's nodes.
static void make_numbers(struct maker *m, int t) {
  int n = fuzz_byte(m->in) % LARGEST;
  lua_Integer by = (lua_Integer)fuzz_word(m->in);
  for (int i = 1; i <= n; i++) {
    lua_pushinteger(m->L, (lua_Integer)((lua_Unsigned)i * (lua_Unsigned)by));
    lua_pushinteger(m->L, i);
    lua_rawset(m->L, t);
  }
}

static void make_metatable(struct maker *m, int t) {
  make(m);
  if (!lua_istable(m->L, -1)) {
    lua_pop(m->L, 1);
    lua_newtable(m->L);
  }
  lua_setmetatable(m->L, t);
}

static void make_table(struct maker *m, uint8_t b) {
  lua_newtable(m->L);
  int t = lua_gettop(m->L);
  keep(m);
  if (b & 1) make_list(m, t);
  if (b & 2) make_pairs(m, t);
  if (b & 4) make_numbers(m, t);
  if ((b & 24) == 24) make_metatable(m, t);
}

// Functions that share two values.
static void make_function(struct maker *m, uint8_t b) {
  lua_State *L = m->L;
  int top = lua_gettop(L);
  lua_getfield(L, LUA_REGISTRYINDEX, "fuzz.make");
  make(m);
  make(m);
  lua_call(L, 2, 5);
  for (int i = 1; i <= 5; i++) {
    lua_pushvalue(L, top + i);
    keep(m);
    lua_pop(L, 1);
  }
  lua_settop(L, top + 1 + b % 5);
  lua_replace(L, top + 1);
  lua_settop(L, top + 1);
}

static void make_chain(struct maker *m) {
  lua_State *L = m->L;
  int n = fuzz_byte(m->in);
  lua_newtable(L);
  keep(m);
  lua_pushvalue(L, -1);
  for (int i = 0; i < n; i++) {
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, 1);
    lua_replace(L, -2);
  }
  lua_pop(L, 1);
}

static void make_named(struct maker *m, uint8_t b) {
  static const char *const code[] = {
      "return string.format", "return registered",
      "return math",          "return class",
      "return class.method",  "return setmetatable({}, class)"};
  luaL_loadstring(m->L, code[b % (sizeof code / sizeof *code)]);
  lua_call(m->L, 0, 1);
}

static void make_object(struct maker *m, uint8_t b) {
  if (m->left <= 0 || m->depth >= DEEPEST) {
    lua_pushboolean(m->L, 1);
    return;
  }
  luaL_checkstack(m->L, LUA_MINSTACK, NULL);
  m->depth++;
  if (b < 192)
    make_table(m, b);
  else if (b < 224)
    make_function(m, b);
  else if (b < 240)
    make_chain(m);
  else
    make_named(m, b);
  m->depth--;
}

// Pushes a value.
static void make(struct maker *m) {
  lua_State *L = m->L;
  uint8_t b = fuzz_byte(m->in);
  switch (b & 15) {
    case 0:
      lua_pushnil(L);
      break;
    case 1:
      lua_pushboolean(L, b >> 4 & 1);
      break;
    case 2:
      lua_pushinteger(L, b);
      break;
    case 3:
      make_integer(m);
      break;
    case 4:
      make_float(m, true);
      break;
    case 5:
    case 6:
      make_string(m, b >> 4);
      break;
    case 7:
      make_string(m, fuzz_byte(m->in) * (b & 128 ? 16u : 1u));
      break;
    case 8:
      lua_pushlightuserdata(L, NULL);
      break;
    case 9:
    case 10:
      if (m->n == 0)
        lua_pushnil(L);
      else
        lua_rawgeti(L, m->made, 1 + (b >> 4) * fuzz_byte(m->in) % m->n);
      break;
    default:
      make_object(m, fuzz_byte(m->in));
  }
}

// --- their way -------------------------------------------------------------

// The other end: a state with a session, and the classes of a call.
struct end {
  lua_State *L;
  int session, scope;
};

static void put(const struct end *e, struct buffer *b, int first, int n) {
  int top = lua_gettop(e->L);
  int done = codec_put(e->L, e->session, e->scope, b, first, n, &path);
  if (!done) fuzz_wrong(lua_tostring(e->L, -1), __FILE__, __LINE__);
  FUZZ_CHECK(lua_gettop(e->L) == top);
}

// Decodes what is in the buffer, and bytes that may follow are left alone; less
// of it is refused.
static void get(const struct end *e, struct buffer *b, int n, uint64_t some) {
  const uint8_t *p = b->data, *end = p + b->len;
  int top = lua_gettop(e->L);
  FUZZ_CHECK(b->len > 0);
  size_t less = (size_t)(some % b->len);
  int got = codec_get(e->L, e->session, e->scope, CODEC_CODE, &p, p + less);
  FUZZ_CHECK(got == -1 && lua_gettop(e->L) == top + 1);
  FUZZ_CHECK(p == b->data);
  lua_settop(e->L, top);
  FUZZ_CHECK(buffer_put(b, &some, sizeof some) == 1);
  p = b->data;
  end = p + b->len;
  got = codec_get(e->L, e->session, e->scope, CODEC_CODE, &p, end);
  if (got < 0) fuzz_wrong(lua_tostring(e->L, -1), __FILE__, __LINE__);
  FUZZ_CHECK(got == n && lua_gettop(e->L) == top + n);
  FUZZ_CHECK(p == end - sizeof some);
}

// A state keeps its session, and the views it has of a worker, for all runs.
static void make_session(lua_State *L, int serial) {
  static const char *const modes[] = {"fork", "spawn"};
  lua_pushcfunction(L, codec_f_session);
  lua_pushinteger(L, serial);
  lua_call(L, 1, 1);
  for (int i = 0; i < 2; i++) {
    lua_getfield(L, -1, "snapshot");
    lua_pushvalue(L, -2);
    lua_pushstring(L, modes[i]);
    lua_call(L, 2, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, modes[i]);
  }
  lua_setfield(L, LUA_REGISTRYINDEX, "session");
}

static void open_end(struct end *e, lua_State *L) {
  e->L = L;
  lua_getfield(L, LUA_REGISTRYINDEX, "session");
  e->session = lua_gettop(L);
  lua_newtable(L);
  e->scope = lua_gettop(L);
}

static void set_view(const struct end *e, bool fork) {
  lua_getfield(e->L, e->session, "view");
  lua_pushvalue(e->L, e->session);
  lua_getfield(e->L, LUA_REGISTRYINDEX, fork ? "fork" : "spawn");
  lua_call(e->L, 2, 0);
}

static void through_sessions(lua_State *L, lua_State *other, unsigned way,
                             int first, int n, uint64_t some) {
  struct end a, b;
  struct buffer bytes = {0};
  open_end(&a, L);
  open_end(&b, other);
  set_view(&a, way & WAY_FORK);
  put(&a, &bytes, first, n);
  get(&b, &bytes, n, some);
  buffer_reset(&bytes, 0);
  put(&b, &bytes, b.scope + 1, n);
  // Once only: a message that is cut short may still leave classes behind.
  const uint8_t *p = bytes.data;
  int got = codec_get(L, a.session, a.scope, CODEC_CODE, &p, p + bytes.len);
  if (got < 0) fuzz_wrong(lua_tostring(L, -1), __FILE__, __LINE__);
  FUZZ_CHECK(got == n);
  buffer_free(&bytes);
  lua_settop(other, 0);
}

static void plainly(lua_State *L, int first, int n, uint64_t some) {
  struct end a = {L, 0, 0};
  struct buffer bytes = {0};
  put(&a, &bytes, first, n);
  get(&a, &bytes, n, some);
  buffer_free(&bytes);
}

static int run(lua_State *L) {
  struct fuzz_input *in = lua_touserdata(L, 1);
  lua_State *other = lua_touserdata(L, 2);
  lua_newtable(L);
  struct maker m = {L, in, lua_gettop(L), 0, 0, 400};
  unsigned way = fuzz_byte(in);
  uint64_t some = fuzz_byte(in) * UINT64_C(0x9e3779b97f4a7c15) >> 20;
  int n = (int)(way >> 2) % WAY_MOST_VALUES, first = m.made + 1;
  for (int i = 0; i < n; i++) make(&m);
  if (way & WAY_SESSIONS)
    through_sessions(L, other, way, first, n, some);
  else
    plainly(L, first, n, some);
  // As one list, so that what they share is compared too.
  int back = lua_gettop(L) - n + 1;
  luaL_checkstack(L, 2 * LUA_MINSTACK, NULL);
  lua_newtable(L);
  lua_newtable(L);
  for (int i = 0; i < n; i++) {
    lua_pushvalue(L, first + i);
    lua_rawseti(L, -3, i + 1);
    lua_pushvalue(L, back + i);
    lua_rawseti(L, -2, i + 1);
  }
  FUZZ_CHECK(fuzz_same(L, -2, -1));
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *L, *other;
  static int runs;
  struct fuzz_input in = {data, data + size};
  if (L == NULL) {
    L = fuzz_state();
    other = fuzz_state();
    make_session(L, 0);
    make_session(other, 1);
  }
  lua_pushcfunction(L, run);
  lua_pushlightuserdata(L, &in);
  lua_pushlightuserdata(L, other);
  lua_call(L, 2, 0);
  if (++runs == RUNS) {
    lua_close(L);
    lua_close(other);
    FUZZ_CHECK(fuzz_used == 0);
    L = other = NULL;
    runs = 0;
  }
  return 0;
}
