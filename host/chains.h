// SPDX-License-Identifier: MIT
// How long the chains of a Lua table's hash part get under given numeric keys.
// Lua hashes integers and floats without a seed, so that keys, chosen or just
// unlucky, may all share one chain, and entering n of them takes n * n steps.
// The encoder asks here for a size at which they do not; the decoder believes
// no one and asks again. Knows nothing of Lua's stack.
#ifndef LUAPOOL_CHAINS_H
#define LUAPOOL_CHAINS_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chains_key {
  union {
    lua_Integer i;
    lua_Number n;
  } u;
  bool is_float;
  const void *at;  // the caller's
};

// Below so many keys no chain is worth a thought.
enum { CHAINS_FEW = 64 };

// The steps it takes to enter n keys into a table of 2^bits nodes: the sum over
// all keys of those before them in their chain. UINT64_MAX for want of memory.
uint64_t chains_steps(const struct chains_key *keys, size_t n, unsigned bits);

// The bits, from `least` to a little above, that keep the chains of n keys
// shortest, the smallest that will do first.
unsigned chains_choose(const struct chains_key *keys, size_t n, unsigned least);

#endif
