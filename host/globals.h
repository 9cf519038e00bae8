// SPDX-License-Identifier: MIT
// Which globals travel with functions: those that a function uses, itself or
// through the functions it calls, and that the worker lacks, since they were
// assigned after it was made; see view.h.
#ifndef LUAPOOL_GLOBALS_H
#define LUAPOOL_GLOBALS_H

#include <stdbool.h>

#include "decode.h"
#include "encode.h"

// In the registry: globals of functions that need nothing sent, since they and
// what they use are in every worker from its start (preload.h). May be nil.
#define GLOBALS_OWN "luapool.globals"

// Notes that the function on top of the stack is used.
void globals_reach(struct encoder *e);

// Writes the globals that the functions reached so far need, and in turn those
// that these need. Writes nothing where there are none.
bool globals_encode(struct encoder *e);

// Reads the globals that came with a message; globals_finish sets them.
bool globals_decode(struct decoder *d);
void globals_finish(struct decoder *d);

// Whether a function's upvalue of that name, its value on top of the stack, is
// where it looks up its globals.
bool globals_is_env(lua_State *L, const char *name);

#endif
