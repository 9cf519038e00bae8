// SPDX-License-Identifier: MIT
// `require "luapool.json"`: text of RFC 8259 to values and back, exactly.
//
//   decode(text) -> value | nil, message
//   encode(value) -> text | nil, message
//   null    what null is: the null light userdata, as in cjson
//   array   the metatable of what is an array even where it is empty
//
// Numbers without fraction or exponent that fit 64 bits are integers, all
// others floats, which are written with a fraction or an exponent.
#ifndef LUAPOOL_JSON_H
#define LUAPOOL_JSON_H

#include <lua.h>

// Of arrays and objects within each other, both ways.
enum { JSON_LEVELS = 1000 };

int luaopen_luapool_json(lua_State *L);

// The two halves. Their first upvalue is the metatable of arrays.
int json_f_decode(lua_State *L);
int json_f_encode(lua_State *L);

#endif
