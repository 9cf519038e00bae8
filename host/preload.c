// SPDX-License-Identifier: MIT
// See preload.h. builtin.h, made by CMake, holds one line a Lua file,
// MODULE(symbol, module, chunk, file), and is read three times: the first
// puts the files' text into this object, the others name it.
#include "preload.h"

#include <lauxlib.h>
#include <stddef.h>

#include "disk.h"
#include "http.h"
#include "json.h"
#include "lib.h"

#ifndef LUAPOOL_MODULE

#define MODULE(symbol, name, chunk, file)                           \
  __asm__(".pushsection .rodata\n" #symbol "_text: .incbin \"" file \
          "\"\n" #symbol                                            \
          "_end: .byte 0\n"                                         \
          ".popsection\n");
#include "builtin.h"
#undef MODULE

#define MODULE(symbol, name, chunk, file) \
  extern const char symbol##_text[], symbol##_end[];
#include "builtin.h"
#undef MODULE

static const struct module {
  const char *name, *chunk, *text, *end;
} modules[] = {
#define MODULE(symbol, name, chunk, file) \
  {name, "@" chunk, symbol##_text, symbol##_end},
#include "builtin.h"
#undef MODULE
    {NULL, NULL, NULL, NULL}};

// The loader of all of them; its upvalue says which.
static int f_load(lua_State *L) {
  const struct module *m = &modules[lua_tointeger(L, lua_upvalueindex(1))];
  size_t size = (size_t)(m->end - m->text);
  if (luaL_loadbufferx(L, m->text, size, m->chunk, "t") != LUA_OK)
    return lua_error(L);
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  return 1;
}

// What is written in C and has a use in the host alone.
static const luaL_Reg c_modules[] = {{"luapool.disk", luaopen_luapool_disk},
                                     {"luapool.http", luaopen_luapool_http},
                                     {"luapool.json", luaopen_luapool_json},
                                     {NULL, NULL}};

static void preload_host(lua_State *L) {
  for (const struct module *m = modules; m->name != NULL; m++) {
    lua_pushinteger(L, m - modules);
    lua_pushcclosure(L, f_load, 1);
    lua_setfield(L, -2, m->name);
  }
  luaL_setfuncs(L, c_modules, 0);  // in place of the Lua files of the same name
}

#else

static void preload_host(lua_State *L) { (void)L; }

#endif

void luapool_preload(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  preload_host(L);
  lua_pushcfunction(L, luaopen_luapool_host);
  lua_setfield(L, -2, "luapool.host");
  lua_pop(L, 1);
}
