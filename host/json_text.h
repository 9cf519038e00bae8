// SPDX-License-Identifier: MIT
// What text of JSON is made of: UTF-8, without control characters.
#ifndef LUAPOOL_JSON_TEXT_H
#define LUAPOOL_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bytes.h"  // the order of bytes in a word

// Bytes of the character at p, which is below `end`; 0 where there is none:
// Unicode's own rules, so no overlong forms, no surrogates, nothing behind
// U+10FFFF.
unsigned json_text_character(const uint8_t *p, const uint8_t *end);

// How many of the eight bytes at p are ASCII and neither control characters nor
// backslashes, and with `quoted` neither quotes nor DEL. In each line the high
// bit of the first byte to be found is set, and of none before it.
static inline unsigned json_text_plain(const uint8_t *p, bool quoted) {
  const uint64_t ones = UINT64_C(0x0101010101010101);
  uint64_t w;
  memcpy(&w, p, sizeof w);
  uint64_t found = w | (w - ones * ' ');
  found |= (w ^ ones * '\\') - ones;
  if (quoted) found |= ((w ^ ones * '"') - ones) | ((w ^ ones * 0x7f) - ones);
  found &= ones * 0x80;
  return found == 0 ? 8 : (unsigned)__builtin_ctzll(found) / 8;
}

// Looks through a whole text for what yajl lets pass: bytes that are no UTF-8,
// control characters, and escapes of halves of surrogate pairs. NULL where
// there is nothing of it, else what, and its place (from 0).
const char *json_text_check(const char *text, size_t n, size_t *place);

#endif
