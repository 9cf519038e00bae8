// SPDX-License-Identifier: MIT
// What an error says about a value that cannot travel: what it is, and where
// among the values of the message. Looked for only then, so that encoding keeps
// no note of where it is.
#ifndef LUAPOOL_PLACE_H
#define LUAPOOL_PLACE_H

#include "codec.h"
#include "encode.h"

// Pushes "cannot send a userdata (items[3].file)" for the value in the slot
// ENCODE_BAD of a message of n values at `first`.
void place_push(struct encoder *e, int first, int n,
                const struct codec_path *path);

// Pushes the label of a field by its key at idx, as ".file" or "[3]".
void place_push_field(lua_State *L, int idx);

#endif
