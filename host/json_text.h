// SPDX-License-Identifier: MIT
// What text of JSON is made of: UTF-8, without control characters.
#ifndef LUAPOOL_JSON_TEXT_H
#define LUAPOOL_JSON_TEXT_H

#include <stddef.h>
#include <stdint.h>

// Bytes of the character at p, which is below `end`; 0 where there is none:
// Unicode's own rules, so no overlong forms, no surrogates, nothing behind
// U+10FFFF.
unsigned json_text_character(const uint8_t *p, const uint8_t *end);

// Looks through a whole text for what yajl lets pass: bytes that are no UTF-8,
// control characters, and escapes of halves of surrogate pairs. NULL where
// there is nothing of it, else what, and its place (from 0).
const char *json_text_check(const char *text, size_t n, size_t *place);

#endif
