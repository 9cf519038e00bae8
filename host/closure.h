// SPDX-License-Identifier: MIT
// Functions by value: their code and their upvalues.
#ifndef LUAPOOL_CLOSURE_H
#define LUAPOOL_CLOSURE_H

#include <stdbool.h>

#include "decode.h"
#include "encode.h"

// Writes the function on top of the stack, which is new to the message and has
// had no name so far; closure_encode_rest its upvalues where they were put off.
bool closure_encode(struct encoder *e);
bool closure_encode_rest(struct encoder *e);

// Pushes the function whose tag has been read; closure_decode_rest reads the
// upvalues that were put off, of the function on top of the stack, which is
// object `number` and has n of them.
bool closure_decode(struct decoder *d, unsigned tag);
bool closure_decode_rest(struct decoder *d, lua_Integer number, int n);

#endif
