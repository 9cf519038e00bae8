// SPDX-License-Identifier: MIT
// Numbers as bytes: varints (seven bits a byte, lowest first) and fixed widths
// in the machine's order, which is little-endian everywhere luapool runs.
// Writers get a place with room enough; readers check against `end` and return
// the place behind, or NULL where the bytes do not hold one.
#ifndef LUAPOOL_BYTES_H
#define LUAPOOL_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "fixed-width numbers travel as they lie in memory");

enum { BYTES_VARINT = 10 };  // the most a varint takes

static inline uint8_t *bytes_put_varint(uint8_t *p, uint64_t v) {
  for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
  *p++ = (uint8_t)v;
  return p;
}

static inline const uint8_t *bytes_get_varint(const uint8_t *p,
                                              const uint8_t *end, uint64_t *v) {
  uint64_t got = 0;
  for (unsigned shift = 0; p < end && shift < 64; shift += 7) {
    uint8_t byte = *p++;
    if (shift == 63 && byte > 1) return NULL;  // more than 64 bits
    got |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *v = got;
      return p;
    }
  }
  return NULL;
}

#endif
