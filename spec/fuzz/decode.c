// SPDX-License-Identifier: MIT
// Fuzz target: the decoder. The first byte of the input says how, the rest is
// the message. Any bytes give a value or an error, in memory bounded by their
// number; what was decoded can be encoded again, or is refused.
#include <lauxlib.h>
#include <string.h>

#include "codec.h"
#include "fuzz.h"
#include "wire.h"

enum how {
  HOW_CODE = 1,     // functions may be loaded, globals set
  HOW_SESSION = 2,  // as a parent does from a worker
  HOW_CHILD = 4,    // or as a worker does from its parent
  HOW_TWICE = 8,    // the second time its classes are known
};

enum {
  MOST_A_BYTE = 1024,  // memory a byte of a message may cost
  MOST_ELSE = 1 << 20,
  RUNS = 1000,  // that a state is used for
};

static const struct codec_path path = {"value", 0, true};

static void push_session(lua_State *L, bool child) {
  lua_pushcfunction(L, codec_f_session);
  lua_pushinteger(L, child);
  lua_call(L, 1, 1);
}

// Encodes the n values at `first` and decodes that.
static void again(lua_State *L, int session, int scope, unsigned flags,
                  int first, int n) {
  struct buffer b = {0};
  int top = lua_gettop(L);
  if (codec_put(L, session, scope, &b, first, n, &path)) {
    const uint8_t *p = b.data, *end = p + b.len;
    FUZZ_CHECK(lua_gettop(L) == top);
    int got = codec_get(L, session, scope, flags, &p, end);
    FUZZ_CHECK(got == n && p == end);
  } else {
    FUZZ_CHECK(lua_gettop(L) == top + 1 && lua_isstring(L, -1));
    FUZZ_CHECK(b.len == 0);
  }
  buffer_free(&b);
  lua_settop(L, top);
}

static void decode(lua_State *L, unsigned how, const uint8_t *p,
                   const uint8_t *end) {
  const uint8_t *begin = p;
  unsigned flags = how & HOW_CODE ? CODEC_CODE : 0u;
  bool session = how & HOW_SESSION;
  int top = lua_gettop(L), at = session ? top - 1 : 0;
  int n = codec_get(L, at, session ? top : 0, flags, &p, end);
  if (n < 0) {
    FUZZ_CHECK(n == -1 && lua_gettop(L) == top + 1 && lua_isstring(L, -1));
    FUZZ_CHECK(p == begin);
  } else {
    FUZZ_CHECK(lua_gettop(L) == top + n && p > begin && p <= end);
    luaL_checkstack(L, LUA_MINSTACK, NULL);
    fuzz_limit = SIZE_MAX;
    again(L, at, session ? top : 0, flags, top + 1, n);
  }
  lua_settop(L, top);
}

static int run(lua_State *L) {
  const uint8_t *data = lua_touserdata(L, 1);
  size_t size = (size_t)lua_tointeger(L, 2);
  unsigned how = data[0];
  lua_settop(L, 0);
  if (how & HOW_SESSION) {
    push_session(L, how & HOW_CHILD);
    lua_newtable(L);
  }
  for (unsigned times = how & HOW_TWICE ? 2 : 1; times > 0; times--) {
    fuzz_limit = fuzz_used + MOST_ELSE + size * MOST_A_BYTE;
    decode(L, how, data + 1, data + size);
    fuzz_limit = SIZE_MAX;
  }
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *L;
  static int runs;
  if (size == 0) return 0;
  if (L == NULL) L = fuzz_state();
  fuzz_replace_code(true);
  lua_gc(L, LUA_GCSTOP);  // weak tables would change in the middle
  lua_pushcfunction(L, run);
  lua_pushlightuserdata(L, (void *)(uintptr_t)data);
  lua_pushinteger(L, (lua_Integer)size);
  lua_call(L, 2, 0);
  lua_gc(L, LUA_GCRESTART);
  bool sets = size > 1 && (data[0] & HOW_CODE) && (data[1] & WIRE_SETS);
  if (sets || ++runs == RUNS) {
    lua_close(L);
    FUZZ_CHECK(fuzz_used == 0);
    L = NULL;
    runs = 0;
  } else {
    lua_gc(L, LUA_GCSTEP, 0);
  }
  return 0;
}
