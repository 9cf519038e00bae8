// SPDX-License-Identifier: MIT
// Growable bytes: see buffer.h.
#include "buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 64 };

// The capacity that holds `need` bytes: twice the old one where that is enough,
// so that appending costs no more than the bytes. 0 where none can.
static size_t buffer_grown(size_t cap, size_t need) {
  size_t twice = cap > SIZE_MAX / 2 ? SIZE_MAX : cap * 2;
  if (need > PTRDIFF_MAX) return 0;
  if (twice < SMALLEST) twice = SMALLEST;
  return twice > need && twice <= PTRDIFF_MAX ? twice : need;
}

int buffer_reserve(struct buffer *b, size_t extra) {
  if (extra <= b->cap - b->len) return 1;
  if (extra > SIZE_MAX - b->len) goto fail;
  size_t cap = buffer_grown(b->cap, b->len + extra);
  uint8_t *data = cap == 0 ? NULL : realloc(b->data, cap);
  if (data == NULL) goto fail;
  b->data = data;
  b->cap = cap;
  return 1;
fail:
  errno = ENOMEM;
  return -1;
}

int buffer_put(struct buffer *b, const void *bytes, size_t n) {
  if (n == 0) return 1;
  if (buffer_reserve(b, n) < 0) return -1;
  memcpy(b->data + b->len, bytes, n);
  b->len += n;
  return 1;
}

void buffer_drop(struct buffer *b, size_t n) {
  if (n >= b->len) {
    b->len = 0;
    return;
  }
  memmove(b->data, b->data + n, b->len - n);
  b->len -= n;
}

void buffer_reset(struct buffer *b, size_t keep) {
  b->len = 0;
  if (b->cap > keep) buffer_free(b);
}

void buffer_free(struct buffer *b) {
  free(b->data);
  *b = (struct buffer){0};
}
