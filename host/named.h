// SPDX-License-Identifier: MIT
// What travels by name: the globals, what is registered, what modules name.
#ifndef LUAPOOL_NAMED_H
#define LUAPOOL_NAMED_H

#include <stdbool.h>

#include "decode.h"
#include "encode.h"

// Writes the table or function on top of the stack by name, or by id where it
// is a class. Returns 1; 0 where it has neither; -1 on failure.
int named_encode(struct encoder *e);

// Whether the value on top of the stack has a name that the other side knows;
// then pushes its entry: rank byte, name.
bool named_find(struct encoder *e);

// Whether the value on top of the stack travels by name; that of a class is
// its id, which does not count here.
bool named_is(struct encoder *e);

// To be called where a value has no name: looks, once in a message, whether
// there are more names now. Returns 1 where it is worth another look, else 0;
// -1 where the message is to begin anew.
int named_refresh(struct encoder *e);

bool named_decode(struct decoder *d, unsigned tag);

#endif
