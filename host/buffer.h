// SPDX-License-Identifier: MIT
// Growable bytes. Knows nothing of Lua: whoever embeds a buffer in a Lua
// userdata frees it from that userdata's __gc, so that an error leaks nothing.
#ifndef LUAPOOL_BUFFER_H
#define LUAPOOL_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct buffer {
  uint8_t *data;
  size_t len;
  size_t cap;
};

// Makes room for `extra` bytes after len. Grows by doubling.
// Returns 1, or -1 with errno ENOMEM and the buffer as it was.
int buffer_reserve(struct buffer *b, size_t extra);

// Appends n bytes. Returns 1, or -1 with errno ENOMEM.
int buffer_put(struct buffer *b, const void *bytes, size_t n);

// Drops the first n bytes by moving the rest down.
void buffer_drop(struct buffer *b, size_t n);

// Empties the buffer, and gives its memory back where it holds more than
// `keep` bytes of it.
void buffer_reset(struct buffer *b, size_t keep);

void buffer_free(struct buffer *b);

#endif
