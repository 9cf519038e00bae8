// SPDX-License-Identifier: MIT
// Reads plain data straight from Lua's memory: tables without metatables whose
// keys and values are numbers, strings, booleans, and such tables. Lists of
// records are encoded three times as fast as by the API, whose lua_next looks
// each key up to find the next one, and a table in which keys collide is not
// walked in quadratic time.
//
// The layout of Lua 5.4's tables and strings is no part of its API, but part of
// no release of 5.4 has changed it. Whether this is so here is checked against
// the API once; where it is not, all of this says no, and the API does the work.
#ifndef LUAPOOL_PEEK_H
#define LUAPOOL_PEEK_H

#include "encode.h"

// Whether messages may be tried this way. Looks, the first time, and may raise
// for want of memory.
bool peek_works(lua_State *L);

// Writes the table at idx. On false with ENCODE_NO_PEEK it is no plain data, and
// the message is to be written by the API.
bool peek_encode(struct encoder *e, int idx);

// Writes the contents that were put off.
bool peek_encode_rest(struct encoder *e);

// Whether the key n of the table at idx, which is not nil there, lies in the
// array part. Where that cannot be known it says no.
bool peek_in_array(lua_State *L, int idx, lua_Integer n);

#endif
