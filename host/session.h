// SPDX-License-Identifier: MIT
// What encoding and decoding know of the other side beyond one message: its
// view, and which class of ours is which class of theirs. A pool has one
// session, which its forked workers inherit; a spawned worker makes its own.
//
// A class is a table that nothing names and that is a metatable or has a string
// key beginning with "__". It has an id, unique among all workers of a pool, so
// that each side has one table for it. Ids and classes hold each other weakly:
// a class that both sides have dropped is collected.
#ifndef LUAPOOL_SESSION_H
#define LUAPOOL_SESSION_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "encode_memory.h"
#include "names.h"

struct session {
  uint64_t serial;  // 0: the parent
  uint64_t ids;     // given so far
  bool child;       // results are encoded here: no globals travel
  bool viewed;      // there is a view
  struct names *names;
  struct encode_memory memory;
};

// User values of a session.
enum session_value {
  SESSION_NAMES = 1,
  SESSION_IDS,      // class -> id, weak
  SESSION_CLASSES,  // id -> class, weak
  SESSION_VIEW,
  SESSION_LAST,     // the view taken last: that of the worker forked next
  SESSION_DEFINED,  // in a child: name -> value, of what the parent registered
  SESSION_ORDERS,   // likewise: name -> how manieth registration that was
  SESSION_VALUES = SESSION_ORDERS
};

// The session at idx, or NULL where idx is 0 or nil.
struct session *session_at(lua_State *L, int idx);

// The session that is a method's argument.
struct session *session_check(lua_State *L, int arg);

// The id of the class at idx, or 0. `session`: stack index.
uint64_t session_id(lua_State *L, int session, int idx);

// Whether the parent gave the id.
bool session_is_first(uint64_t id);

// Gives the table at idx an id.
uint64_t session_new_class(lua_State *L, int session, int idx);

// Pushes the class of that id, or nil.
void session_push_class(lua_State *L, int session, uint64_t id);

// Enters the class on top of the stack under an id from elsewhere.
void session_enter_class(lua_State *L, int session, uint64_t id);

// Registers a value that the parent has registered under the name, as the
// order-th of all (stack indexes; the session's is 1), unless that was done.
void session_define(lua_State *L, int name, int order, int value);

int session_f_new(lua_State *L);

#endif
