// SPDX-License-Identifier: MIT
// What a worker has: names, globals, and functions in global tables, as they are
// at the moment it is forked. Kept by the parent, which
// compares with it: what is the same there need not travel, and what has been
// assigned since must. To Lua a view is an opaque value.
#ifndef LUAPOOL_VIEW_H
#define LUAPOOL_VIEW_H

#include <lua.h>
#include <stdbool.h>

#include "names.h"

// User values of a view.
enum view_value {
  VIEW_INDEX = 1,  // value -> rank byte, name; see names.h
  VIEW_MODULES,    // name of a module -> true
  VIEW_GLOBALS,    // name -> value
  VIEW_FIELDS,     // global table -> name -> function; true: not looked at
  VIEW_VALUES = VIEW_FIELDS
};

// Pushes the view of a worker forked now; or of one that opens a fresh Lua
// state (`spawn`). `at`: stack index of the names.
void view_push(lua_State *L, struct names *n, int at, bool spawn);

// Whether the value at idx is a view.
bool view_is(lua_State *L, int idx);

#endif
