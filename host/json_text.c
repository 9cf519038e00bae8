// SPDX-License-Identifier: MIT
// See json_text.h.
#include "json_text.h"

// The least and the most that the second byte may be, by the first one: the
// table of Unicode's standard (3-7), where all others are 80 to BF.
static bool second_fits(uint8_t first, uint8_t second) {
  uint8_t least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  uint8_t most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  return second >= least && second <= most;
}

unsigned json_text_character(const uint8_t *p, const uint8_t *end) {
  uint8_t first = *p;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  unsigned n = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if ((size_t)(end - p) < n || !second_fits(first, p[1])) return 0;
  for (unsigned i = 2; i < n; i++)
    if ((p[i] & 0xc0) != 0x80) return 0;
  return n;
}

// --- escapes ---------------------------------------------------------------

// The code of a \uXXXX at p, or -1.
static int escaped(const uint8_t *p, const uint8_t *end) {
  int code = 0;
  if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return -1;
  for (int i = 2; i < 6; i++) {
    uint8_t c = p[i] | 0x20;
    bool letter = c >= 'a' && c <= 'f';
    if (!letter && (p[i] < '0' || p[i] > '9')) return -1;
    code = code << 4 | (letter ? c - 'a' + 10 : p[i] - '0');
  }
  return code;
}

// Bytes of the escape at p, 0 for half a surrogate pair. One byte where it is
// no escape of JSON: the parser says so.
static unsigned escape_length(const uint8_t *p, const uint8_t *end) {
  if (end - p > 1 && p[1] == '\\') return 2;
  int code = escaped(p, end);
  if (code < 0) return 1;
  if (code < 0xd800 || code > 0xdfff) return 6;
  int low = escaped(p + 6, end);
  return code < 0xdc00 && low >= 0xdc00 && low <= 0xdfff ? 12 : 0;
}

// --- the whole -------------------------------------------------------------

// Controls that may stand between tokens. In strings the parser refuses them.
static bool is_space(uint8_t c) { return c == '\t' || c == '\n' || c == '\r'; }

// Bytes to go on by at p, or 0 and what is wrong there.
static unsigned step(const uint8_t *p, const uint8_t *end, const char **what) {
  unsigned plain = end - p >= 8 ? json_text_plain(p, false) : 0;
  if (plain > 0) return plain;
  if (*p == '\\') {
    *what = "half a surrogate pair";
    return escape_length(p, end);
  }
  *what = *p < ' ' ? "a control character" : "invalid UTF-8";
  return *p < ' ' ? is_space(*p) : json_text_character(p, end);
}

const char *json_text_check(const char *text, size_t n, size_t *place) {
  const uint8_t *begin = (const uint8_t *)text, *p = begin, *end = p + n;
  const char *what;
  for (unsigned length; p < end; p += length) {
    length = step(p, end, &what);
    if (length > 0) continue;
    *place = (size_t)(p - begin);
    return what;
  }
  return NULL;
}
