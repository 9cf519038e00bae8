// SPDX-License-Identifier: MIT
// What the fuzz targets share: Lua states whose memory is counted, a comparison
// of values, and a way out where something is not as it should be. A target is
// a function LLVMFuzzerTestOneInput; libFuzzer or replay.c calls it.
#ifndef LUAPOOL_FUZZ_H
#define LUAPOOL_FUZZ_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Memory of the states, bytes: in use, and what must not be passed.
extern size_t fuzz_used, fuzz_limit;

// A state with those libraries that do nothing outside of it. In its registry
// "fuzz.make" is a function(a, b) -> functions that share a and b as upvalues.
lua_State *fuzz_state(void);

// With `on`, bytecode is not loaded but replaced by harmless code with as many
// upvalues as it says, so that all around it can be fuzzed.
void fuzz_replace_code(bool on);

// Whether the values at both indexes are alike: numbers to the bit, tables and
// functions in all they refer to, with sharing and metatables. (Which border # finds
// in a list with holes is left to Lua.)
bool fuzz_same(lua_State *L, int a, int b);

#define FUZZ_CHECK(x) ((x) ? (void)0 : fuzz_wrong(#x, __FILE__, __LINE__))
_Noreturn void fuzz_wrong(const char *what, const char *file, int line);

// The input, taken from its beginning; zeros behind its end.
struct fuzz_input {
  const uint8_t *p, *end;
};

static inline uint8_t fuzz_byte(struct fuzz_input *in) {
  return in->p < in->end ? *in->p++ : 0;
}

static inline uint64_t fuzz_word(struct fuzz_input *in) {
  uint64_t v = 0;
  for (int i = 0; i < 8; i++) v = v << 8 | fuzz_byte(in);
  return v;
}

#endif
