// SPDX-License-Identifier: MIT
// See preload.h. builtin.h, made by CMake, holds one line a Lua file,
// MODULE(symbol, module, chunk, file), and is read three times: the first
// puts the files' text into this object, the others name it.
#include "preload.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <stddef.h>

#include "disk.h"
#include "globals.h"
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

// What they live by, whatever a script makes of its globals, of `package` and of
// `require`: globals of their own, as they were at the start, where `require`
// finds them without `package`, each as it was when it was first loaded. A
// forgotten `local` before `type` is no matter of theirs.
static const char loaders_key, values_key;  // in the registry

static void push_copy(lua_State *L, int idx) {
  lua_newtable(L);
  for (lua_pushnil(L); lua_next(L, idx);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
}

// Replaces the library on top of the stack by a copy.
static void copy_library(lua_State *L) {
  push_copy(L, lua_gettop(L));
  lua_replace(L, -2);
}

// `package` is the one that holds the paths.
static void push_globals(lua_State *L) {
  static const char *const libraries[] = {
      LUA_COLIBNAME, LUA_DBLIBNAME,  LUA_IOLIBNAME,  LUA_MATHLIBNAME,
      LUA_OSLIBNAME, LUA_STRLIBNAME, LUA_TABLIBNAME, LUA_UTF8LIBNAME};
  lua_pushglobaltable(L);
  copy_library(L);
  for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
    lua_getfield(L, -1, libraries[i]);
    copy_library(L);
    lua_setfield(L, -2, libraries[i]);
  }
}

// The loader of the Lua files; its upvalue says of which.
static int f_load(lua_State *L) {
  const struct module *m = &modules[lua_tointeger(L, lua_upvalueindex(1))];
  size_t size = (size_t)(m->end - m->text);
  if (luaL_loadbufferx(L, m->text, size, m->chunk, "t") != LUA_OK)
    return lua_error(L);
  lua_getfield(L, LUA_REGISTRYINDEX, GLOBALS_OWN);
  lua_setupvalue(L, -2, 1);
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  return 1;
}

// A loader (its upvalue) that is called once for a name.
static int f_once(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &values_key);
  lua_pushvalue(L, 1);
  if (lua_rawget(L, -2) != LUA_TNIL) return 1;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, -2);
  lua_rawset(L, -5);
  return 1;
}

// Enters the module on top of the stack in package.loaded.
static void set_loaded(lua_State *L, int name) {
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue(L, name);
  lua_pushvalue(L, -3);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

// require(name) of these modules; its upvalue is everybody's.
static int f_require(lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &loaders_key);
  lua_pushvalue(L, 1);
  bool own = lua_rawget(L, 2) != LUA_TNIL;
  if (!own) lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  if (own) set_loaded(L, 1);
  return 1;
}

// What is written in C and has a use in the host alone.
static const luaL_Reg c_modules[] = {{"luapool.disk", luaopen_luapool_disk},
                                     {"luapool.host", luaopen_luapool_host},
                                     {"luapool.http", luaopen_luapool_http},
                                     {"luapool.json", luaopen_luapool_json},
                                     {NULL, NULL}};

// Pops a loader, and enters it for both kinds of `require`.
static void enter(lua_State *L, int preload, int loaders, const char *name) {
  lua_pushcclosure(L, f_once, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, preload, name);
  lua_setfield(L, loaders, name);
}

static void enter_modules(lua_State *L, int preload, int loaders) {
  for (const struct module *m = modules; m->name != NULL; m++) {
    lua_pushinteger(L, m - modules);
    lua_pushcclosure(L, f_load, 1);
    enter(L, preload, loaders, m->name);
  }
  // In place of the Lua files of the same name.
  for (const luaL_Reg *m = c_modules; m->name != NULL; m++) {
    lua_pushcfunction(L, m->func);
    enter(L, preload, loaders, m->name);
  }
}

void luapool_preload(lua_State *L) {
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &values_key);
  push_globals(L);
  lua_getfield(L, -1, "require");
  lua_pushcclosure(L, f_require, 1);
  lua_setfield(L, -2, "require");
  lua_setfield(L, LUA_REGISTRYINDEX, GLOBALS_OWN);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_newtable(L);
  enter_modules(L, lua_gettop(L) - 1, lua_gettop(L));
  lua_rawsetp(L, LUA_REGISTRYINDEX, &loaders_key);
  lua_pop(L, 1);
}

#else

void luapool_preload(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_luapool_host);
  lua_setfield(L, -2, "luapool.host");
  lua_pop(L, 1);
}

#endif
