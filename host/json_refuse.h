// SPDX-License-Identifier: MIT
// What json_encode.c says about a value that JSON cannot hold: what it is, and
// where. Each table on the way down has two slots on the stack, itself and the
// key at hand, and behind them is the value there: the next table, or what is
// refused. So the place needs no other note, and a table inside itself is found
// when it has come too deep.
#ifndef LUAPOOL_JSON_REFUSE_H
#define LUAPOOL_JSON_REFUSE_H

#include <lua.h>
#include <stdbool.h>

enum { JSON_ROOT = 3 };  // stack index of the outermost value

// Each pushes "cannot encode a function (items[3].f)" and returns false. The
// value is inside of `depth` tables, in slot JSON_ROOT + 2 * depth.
bool json_refuse(lua_State *L, int depth, const char *what);

// A value, on top of the stack, for its type.
bool json_refuse_type(lua_State *L, int depth);

// A table that is too deep, or inside itself: such a one always gets there.
bool json_refuse_depth(lua_State *L, int depth);

// A table for its keys.
bool json_refuse_keys(lua_State *L, int depth);

#endif
