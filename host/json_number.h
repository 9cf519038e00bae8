// SPDX-License-Identifier: MIT
// Numbers of JSON, whatever the locale's decimal point. Knows no text around
// them: the reader has checked the form of what json_number_push gets.
#ifndef LUAPOOL_JSON_NUMBER_H
#define LUAPOOL_JSON_NUMBER_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

enum { JSON_NUMBER = 32 };  // the most bytes that one takes

// Pushes the number that the n bytes say; behind them is one that no number
// could go on with. False, and nothing pushed, where it is too large.
bool json_number_push(lua_State *L, const char *s, size_t n);

// Write to `out` and return the end. Floats are finite, and get the shortest of
// 15, 16 or 17 digits that reads back the same.
char *json_number_integer(char *out, lua_Integer i);
char *json_number_float(char *out, lua_Number x);

#endif
