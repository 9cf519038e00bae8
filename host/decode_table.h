// SPDX-License-Identifier: MIT
// Reading tables.
#ifndef LUAPOOL_DECODE_TABLE_H
#define LUAPOOL_DECODE_TABLE_H

#include "decode.h"

// Pushes a table, whose tag is the next byte. `object`: give it a number.
bool decode_table(struct decoder *d, bool object);

// Fills the table on top of the stack, which had been put off with these.
bool decode_table_rest(struct decoder *d, lua_Integer n, unsigned bits);

#endif
