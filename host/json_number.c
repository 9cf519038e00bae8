// SPDX-License-Identifier: MIT
// See json_number.h.
#include "json_number.h"

#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t SHORT = UINT64_C(1000000000000000);  // 15 digits

// The "C" locale, which glibc has ready: nothing is allocated.
static locale_t c_locale(void) {
  static locale_t c;
  if (c == (locale_t)0) c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  return c;
}

// --- reading ---------------------------------------------------------------

// An integer of 64 bits, or false where the text holds none.
static bool read_integer(const char *s, size_t n, lua_Integer *i) {
  bool negative = *s == '-';
  uint64_t most = (uint64_t)INT64_MAX + negative, value = 0;
  for (const char *p = s + negative; p < s + n; p++) {
    unsigned digit = (unsigned)*p - '0';
    if (digit > 9 || value > (most - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *i = (lua_Integer)(negative ? -value : value);
  return true;
}

// Most floats that people write: digits with a point in them, and few. Two
// numbers below 2^53 and 10^22 are divided exactly rounded.
static bool read_short(const char *s, size_t n, double *x) {
  bool negative = *s == '-';
  uint64_t digits = 0;
  double scale = 0;  // 10 to the number of digits behind the point
  for (const char *p = s + negative; p < s + n; p++) {
    unsigned digit = (unsigned)*p - '0';
    if (*p == '.') {
      scale = 1;
      continue;
    }
    if (digit > 9 || digits >= SHORT / 10 || scale >= 1e22) return false;
    digits = digits * 10 + digit;
    scale *= 10;
  }
  *x = (double)digits / (scale > 0 ? scale : 1);
  if (negative) *x = -*x;
  return true;
}

bool json_number_push(lua_State *L, const char *s, size_t n) {
  lua_Integer i;
  if (read_integer(s, n, &i)) {
    lua_pushinteger(L, i);
    return true;
  }
  double x;
  if (!read_short(s, n, &x)) x = strtod_l(s, NULL, c_locale());
  if (isinf(x)) return false;
  lua_pushnumber(L, x);
  return true;
}

// --- writing ---------------------------------------------------------------

// The digits of v, at least so many, with zeros before them.
static char *put_digits(char *out, uint64_t v, int least) {
  char digits[24], *p = digits + sizeof digits;
  for (; v > 0 || least > 0; v /= 10, least--) *--p = (char)('0' + v % 10);
  size_t n = (size_t)(digits + sizeof digits - p);
  memcpy(out, p, n);
  return out + n;
}

char *json_number_integer(char *out, lua_Integer i) {
  if (i < 0) *out++ = '-';
  return put_digits(out, i < 0 ? -(uint64_t)i : (uint64_t)i, 1);
}

// The same the other way: the 15 digits that read back as x, of which there are
// no others. NULL where there are none, or too far behind the point.
static char *put_short(char *out, double x) {
  double scale = 1;
  uint64_t unit = 1;
  for (int places = 0; places <= 15; places++, scale *= 10, unit *= 10) {
    double scaled = x * scale;
    if (scaled >= SHORT) return NULL;
    uint64_t digits = (uint64_t)(scaled + 0.5);
    if ((double)digits / scale != x) continue;
    out = put_digits(out, digits / unit, 1);
    *out++ = '.';
    return put_digits(out, digits % unit, places > 0 ? places : 1);
  }
  return NULL;
}

// Of so many digits or more, until it reads back as x: 17 always do.
static char *put_printed(char *out, double x, int digits) {
  locale_t c = c_locale(), before = uselocale(c);
  int n;
  do n = snprintf(out, JSON_NUMBER - 4, "%.*g", digits, x);
  while (digits++ < 17 && strtod_l(out, NULL, c) != x);
  uselocale(before);
  if (strpbrk(out, ".e") != NULL) return out + n;
  out[n] = '.';
  out[n + 1] = '0';
  return out + n + 2;
}

char *json_number_float(char *out, lua_Number x) {
  if (signbit(x)) {
    *out++ = '-';
    x = -x;
  }
  char *end = x == 0 || x >= 1e-4 ? put_short(out, x) : NULL;
  if (end != NULL) return end;
  return put_printed(out, x, x >= 0.1 && x < 1e15 ? 16 : 15);
}
