// SPDX-License-Identifier: MIT
#include "buffer.h"

#include <string.h>

#include "unit.h"

static void grows(void) {
  struct buffer b = {0};
  for (unsigned i = 0; i < 100000; i++) {
    uint8_t byte = (uint8_t)i;
    if (buffer_put(&b, &byte, 1) != 1) break;
  }
  CHECK(b.len == 100000);
  CHECK(b.cap >= b.len && b.cap <= 4 * b.len);
  size_t wrong = 0;
  for (unsigned i = 0; i < b.len; i++) wrong += b.data[i] != (uint8_t)i;
  CHECK(wrong == 0);
  buffer_free(&b);
  CHECK(b.data == NULL && b.len == 0 && b.cap == 0);
}

static void reserves(void) {
  struct buffer b = {0};
  CHECK(buffer_reserve(&b, 1000) == 1);
  CHECK(b.cap >= 1000 && b.len == 0);
  CHECK(buffer_put(&b, "abc", 3) == 1);
  uint8_t *data = b.data;
  size_t cap = b.cap;
  errno = 0;
  CHECK(buffer_reserve(&b, SIZE_MAX) == -1 && errno == ENOMEM);
  CHECK(buffer_reserve(&b, SIZE_MAX - 3) == -1 && errno == ENOMEM);
  CHECK(buffer_reserve(&b, SIZE_MAX / 2) == -1 && errno == ENOMEM);
  CHECK(b.data == data && b.cap == cap && b.len == 3);
  CHECK(memcmp(b.data, "abc", 3) == 0);
  buffer_free(&b);
}

static void drops_and_resets(void) {
  struct buffer b = {0};
  CHECK(buffer_put(&b, "abcdef", 6) == 1);
  buffer_drop(&b, 0);
  CHECK(b.len == 6);
  buffer_drop(&b, 2);
  CHECK(b.len == 4 && memcmp(b.data, "cdef", 4) == 0);
  buffer_drop(&b, 4);
  CHECK(b.len == 0);
  CHECK(buffer_put(&b, NULL, 0) == 1 && b.len == 0);
  buffer_reset(&b, b.cap);
  CHECK(b.len == 0 && b.cap > 0);
  CHECK(buffer_reserve(&b, 5000) == 1);
  buffer_reset(&b, 1000);
  CHECK(b.len == 0 && b.cap <= 1000);
  buffer_free(&b);
  buffer_free(&b);
  CHECK(b.data == NULL);
}

int main(void) {
  unit_begin(20);
  grows();
  reserves();
  drops_and_resets();
  return unit_end();
}
