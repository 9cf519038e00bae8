// SPDX-License-Identifier: MIT
// States for the fuzz targets: see fuzz.h.
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "fuzz.h"

size_t fuzz_used, fuzz_limit = SIZE_MAX;

static bool replacing;

_Noreturn void fuzz_wrong(const char *what, const char *file, int line) {
  fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
  abort();
}

static void *counted(void *unused, void *p, size_t old, size_t n) {
  (void)unused;
  if (p == NULL) old = 0;
  fuzz_used += n - old;
  FUZZ_CHECK(fuzz_used <= fuzz_limit);
  if (n > 0) return realloc(p, n);
  free(p);
  return NULL;
}

static int panic(lua_State *L) {
  fprintf(stderr, "error: %s\n", lua_tostring(L, -1));
  abort();
}

// Finalizers are called with what was decoded as metatables: these libraries
// can do no harm then.
static const luaL_Reg libraries[] = {{"_G", luaopen_base},
                                     {"package", luaopen_package},
                                     {"coroutine", luaopen_coroutine},
                                     {"table", luaopen_table},
                                     {"string", luaopen_string},
                                     {"math", luaopen_math},
                                     {"utf8", luaopen_utf8},
                                     {NULL, NULL}};

static const char setup[] =
    "package.path, package.cpath, print, warn = '', '', nil, nil\n"
    "function helper(x) return x and other(x) end\n"
    "function other(x) return helper(not x) end\n"
    "registered, class = {1, 2, 3}, {__name = 'class'}\n"
    "class.__index = class\n"
    "function class.method(self) return self end\n"
    "return function(a, b)\n"
    "  local function recursive(n) return n == a or recursive(n - 1) end\n"
    "  return function() return a, b end, function(x) b = x end,\n"
    "    function() return helper(a) end, recursive, function() end\n"
    "end";

lua_State *fuzz_state(void) {
  replacing = false;
  lua_State *L = lua_newstate(counted, NULL);
  FUZZ_CHECK(L != NULL);
  lua_atpanic(L, panic);
  for (const luaL_Reg *l = libraries; l->name != NULL; l++) {
    luaL_requiref(L, l->name, l->func, 1);
    lua_pop(L, 1);
  }
  FUZZ_CHECK(luaL_loadbuffer(L, setup, sizeof setup - 1, "=setup") == LUA_OK);
  lua_call(L, 0, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "fuzz.make");
  lua_pushcfunction(L, codec_f_register);
  lua_pushliteral(L, "registered");
  lua_getglobal(L, "registered");
  lua_call(L, 2, 0);
  return L;
}

// --- code ------------------------------------------------------------------

void fuzz_replace_code(bool on) { replacing = on; }

int __real_lua_load(lua_State *L, lua_Reader reader, void *data,
                    const char *name, const char *mode);
int __wrap_lua_load(lua_State *L, lua_Reader reader, void *data,
                    const char *name, const char *mode);

enum { UPVALUES_AT = 31 };  // of lua_dump's format

static const char *read_once(lua_State *L, void *data, size_t *n) {
  const char **text = data, *all = *text;
  (void)L;
  *n = all == NULL ? 0 : strlen(all);
  *text = NULL;
  return all;
}

// Of n upvalues, by what stands for it; -1 where it is no code.
static int harmless(lua_State *L, unsigned n) {
  static const char *const sources[] = {
      "return",
      "local a return function() return a end",
      "local a, b return function() return a, b end",
      "local a, b, c return function() return a, b, c end",
  };
  if (n >= sizeof sources / sizeof *sources) return -1;
  const char *source = sources[n];
  if (__real_lua_load(L, read_once, &source, "=code", "t") != LUA_OK) return -1;
  if (n == 0) return 0;
  lua_call(L, 0, 1);
  return 0;
}

int __wrap_lua_load(lua_State *L, lua_Reader reader, void *data,
                    const char *name, const char *mode) {
  if (!replacing) return __real_lua_load(L, reader, data, name, mode);
  size_t n;
  const char *code = reader(L, data, &n);
  unsigned upvalues = n == 0            ? 255
                      : n > UPVALUES_AT ? (uint8_t)code[UPVALUES_AT]
                                        : (uint8_t)code[0];
  if (harmless(L, upvalues) == 0) return LUA_OK;
  lua_pushliteral(L, "no code");
  return LUA_ERRSYNTAX;
}
