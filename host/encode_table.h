// SPDX-License-Identifier: MIT
// Writing tables: by Lua's API (encode_table.c), and where a table and all in
// it is plain data, straight from its memory (peek.c). What both need is here.
#ifndef LUAPOOL_ENCODE_TABLE_H
#define LUAPOOL_ENCODE_TABLE_H

#include "encode.h"

// Writes the table on top of the stack with its contents.
bool encode_table(struct encoder *e);

// Writes the contents of the one on top of the stack, whose size byte is at
// `place`.
bool encode_table_rest(struct encoder *e, size_t place);

// Writes the head of a table whose list has n values. *size_at becomes the
// place of its size byte.
bool encode_table_head(struct encoder *e, unsigned bits, uint64_t n,
                       size_t *size_at);

// Keeps a numeric key until the other pairs of its table are written.
bool encode_table_keep(struct encoder *e, struct chains_key key);

// Writes what ends the pairs: the keys kept since there were `kept` of them,
// whose values then follow. Sets the size byte for all `pairs`.
bool encode_table_keys(struct encoder *e, size_t kept, size_t pairs,
                       size_t size_at);

#endif
