// SPDX-License-Identifier: MIT
// Lua values to bytes and back. Knows no file descriptor and no process.
//
// A message is self-delimiting: a count, that many values, then the contents of
// the tables and functions they refer to, breadth first, so that depth costs no
// C stack and a reference never meets a half-known object.
#ifndef LUAPOOL_CODEC_H
#define LUAPOOL_CODEC_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

// How an error names the values being encoded. index 0: no index.
//   {"items", 3, false}: the one value is items[3]
//   {"items", 3, true}:  the values are items[3][1], items[3][2] ...
//   {"args", 0, true}:   args[1], args[2] ...
//   {"result", 0, false}
struct codec_path {
  const char *base;
  lua_Integer index;
  bool each;
};

// Encodes the n values at stack slots first .. first+n-1 as one message,
// appended to b. `session` is the stack index of a session userdata or 0;
// `scope` that of a scope table or 0 (see codec_f_session). Returns 1; or 0 with
// the message "cannot send a userdata (items[3].file)" pushed, b as it was and
// the scope untouched. Raises only for want of memory (b then holds a half
// message for the caller to drop). Calls no user code.
int codec_put(lua_State *L, int session, int scope, struct buffer *b, int first,
              int n, const struct codec_path *path);

// The short way for one value that refers to nothing, which is what most items
// of a map are. Returns 0, with nothing done, for any other value; 1; -1 for
// want of memory.
int codec_put_plain(lua_State *L, struct buffer *b, int idx);

enum {
  CODEC_CODE = 1,  // bytecode may be loaded, modules required
};

// Decodes one message from [*p, end), pushes its values, moves *p behind it.
// Returns their number; or -1 with a message pushed and nothing else left on the
// stack. Raises only for want of memory. Any bytes give a value or an error, in
// time and memory bounded by their number.
int codec_get(lua_State *L, int session, int scope, unsigned flags,
              const uint8_t **p, const uint8_t *end);

// The short way where the message is one such value; false, with nothing done,
// where it is not.
bool codec_get_plain(lua_State *L, const uint8_t **p, const uint8_t *end);

// Functions of `require "luapool.host"` that live here.
int codec_f_encode(lua_State *L);    // encode(v, ...) -> string
int codec_f_decode(lua_State *L);    // decode(s, {code = true}) -> v, ...
int codec_f_register(lua_State *L);  // register(name, value)
int codec_f_session(lua_State *L);   // session(serial) -> session

// Methods of a session; the others are in session.c.
int codec_f_session_define(lua_State *L);   // define(name) -> string
int codec_f_session_defined(lua_State *L);  // defined(string)

#endif
