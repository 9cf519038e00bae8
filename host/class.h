// SPDX-License-Identifier: MIT
// Classes in messages: tables that have an id in the session, so that each side
// has one table for each of them.
#ifndef LUAPOOL_CLASS_H
#define LUAPOOL_CLASS_H

#include <stdbool.h>

#include "decode.h"
#include "encode.h"

// Writes the class on top of the stack by id, with its contents where the scope
// does not say that the other side has them.
bool class_encode(struct encoder *e, uint64_t id);

// Readies the metatable on top of the stack, that of the table at idx: it gets
// an id unless it has a name. False where such a table cannot travel.
bool class_prepare(struct encoder *e, int idx);

// Looks at a string key of the table at idx: with two underscores in front it
// makes a class of it.
bool class_key(struct encoder *e, int idx, const char *key);

// Gives the table on top of the stack an id if it looks like a class.
void class_look(struct encoder *e);

// Enters the classes that went with their contents into the scope.
void class_sent(struct encoder *e);

bool class_decode(struct decoder *d, unsigned tag);

// Gives the classes their fields, and enters them into the scope; then, when
// metatables have been set, theirs.
void class_finish(struct decoder *d);
void class_finish_metas(struct decoder *d);

#endif
