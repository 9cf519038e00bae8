// SPDX-License-Identifier: MIT
// Fuzz target: JSON. Any bytes give a value or an error, in memory bounded by
// their number; what was decoded is encoded, and decoded again is the same.
#include <lauxlib.h>
#include <string.h>

#include "fuzz.h"
#include "json.h"

enum {
  MOST_A_BYTE = 1024,  // memory a byte of a text may cost
  MOST_ELSE = 1 << 20,
  RUNS = 1000,  // that a state is used for
};

// Calls the function of the module at index 1 with the value on top of the
// stack, which its result replaces. False: what that is replaced by is a message
// about a place in it.
static bool call(lua_State *L, const char *name, const char *place) {
  int top = lua_gettop(L);
  lua_getfield(L, 1, name);
  lua_insert(L, top);
  lua_call(L, 1, LUA_MULTRET);
  if (lua_gettop(L) == top) return true;
  FUZZ_CHECK(lua_gettop(L) == top + 1 && lua_isnil(L, top));
  FUZZ_CHECK(strstr(lua_tostring(L, -1), place) != NULL);
  return false;
}

static int run(lua_State *L) {
  luaL_requiref(L, "luapool.json", luaopen_luapool_json, 0);
  lua_insert(L, 1);
  fuzz_limit = fuzz_used + MOST_ELSE + lua_rawlen(L, 2) * MOST_A_BYTE;
  bool decoded = call(L, "decode", "(byte ");
  fuzz_limit = SIZE_MAX;
  if (!decoded) return 0;
  lua_pushvalue(L, 2);
  FUZZ_CHECK(call(L, "encode", "cannot encode"));
  FUZZ_CHECK(call(L, "decode", "(byte "));
  FUZZ_CHECK(fuzz_same(L, 2, 3));
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *L;
  static int runs;
  if (L == NULL) L = fuzz_state();
  lua_pushcfunction(L, run);
  lua_pushlstring(L, (const char *)data, size);
  lua_call(L, 1, 0);
  if (++runs == RUNS) {
    lua_close(L);
    FUZZ_CHECK(fuzz_used == 0);
    L = NULL;
    runs = 0;
  } else {
    lua_gc(L, LUA_GCSTEP, 0);
  }
  return 0;
}
