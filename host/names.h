// SPDX-License-Identifier: MIT
// Which tables and functions have a name that another Lua state understands:
// those of the standard libraries, of loaded modules, their fields and the
// fields of those; and what luapool.register named. One index a Lua state,
// made when it is first needed and again when modules have been loaded since.
//
// A name is written as bytes: how many parts, then each as varint length and
// bytes: {"string", "format"}, {"mymod"}, {"mymod", "Class", "method"}. The
// functions of the base library are {"_G", "print"} and so on, though the table
// _G is no module: what a script itself puts there has no name.
#ifndef LUAPOOL_NAMES_H
#define LUAPOOL_NAMES_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "bytes.h"
#include "pointers.h"

struct names {
  // All addresses that ever had a name, or for which a session has a note: most
  // tables are in no way special, and this says so quickly. One that is in here
  // need not be.
  struct pointers special;
  uint64_t loaded;  // what package.loaded held when the index was made
  bool made;
  lua_Integer registered;  // how many registrations there were
  struct buffer code;      // scratch of dump.c
};

// User values of the userdata that names_push pushes.
enum names_value {
  NAMES_INDEX = 1,      // value -> rank byte, name
  NAMES_MODULES,        // name of a module -> true
  NAMES_REGISTERED,     // name -> value
  NAMES_REGISTERED_AS,  // value -> name
  NAMES_ORDER,          // name -> how manieth registration that was
  NAMES_METATABLES,     // weak keys: table seen as a metatable -> true
  NAMES_FOUND,          // module that a fresh state finds -> true
  NAMES_DUMPS,          // weak keys: Lua function -> its dump, see dump.h
  NAMES_CODES,          // weak values: bytecode -> its dump
  NAMES_VALUES = NAMES_CODES
};

// The first byte of an entry of the index: of two names the lower one counts.
enum names_rank {
  NAMES_STANDARD = 0,  // + depth
  NAMES_MODULE = 3,    // + depth
};

// Pushes the state's names.
struct names *names_push(lua_State *L);

// Makes the index anew: always, or where other modules are loaded than then.
// Returns whether it did. `at`: stack index of the names.
bool names_make(lua_State *L, struct names *n, int at);
bool names_refresh(lua_State *L, struct names *n, int at);

static inline bool names_special(const struct names *n, const void *p) {
  return pointers_find(&n->special, p) != NULL;
}

// Notes the address of the value at idx as special. Raises for want of memory.
void names_note(lua_State *L, struct names *n, int idx);

// Registers a value under a name, both stack indexes. `at`: that of the names.
void names_register(lua_State *L, struct names *n, int at, int name, int value);

// Whether the table at idx looks like a class: it has been a metatable, or has
// a string key that begins with two underscores.
bool names_class_like(lua_State *L, int at, int idx);

// Pushes the value named by the bytes: of loaded modules alone, or (`require`)
// of others too, which are then loaded. Returns the place behind the name; or
// NULL with a message pushed.
const uint8_t *names_resolve(lua_State *L, const uint8_t *p, const uint8_t *end,
                             bool require);

// The place behind a name, or NULL where there is none.
const uint8_t *names_skip(const uint8_t *p, const uint8_t *end);

// Pushes the name of the module, the first part, of the name (no rank byte).
void names_push_module(lua_State *L, const char *name);

// Whether a fresh state would find the module whose name is on top of the
// stack: by package.searchpath, or among the modules built into the host.
bool names_findable(lua_State *L, int at);

// Whether a name (no rank byte) of n bytes still names the value at idx here.
bool names_holds(lua_State *L, const char *name, size_t n, int idx);

// The n-th name of the base library or of the standard libraries, or NULL.
const char *names_base(unsigned n);
const char *names_standard(unsigned n);

// name(f) -> "string.format", as "module.function" where a module names it; nil
int names_f_name(lua_State *L);

#endif
