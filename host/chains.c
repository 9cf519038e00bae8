// SPDX-License-Identifier: MIT
// Chains of numeric keys: see chains.h.
#include "chains.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

enum {
  CHAINS_MORE = 2,      // sizes tried above the least
  CHAINS_GOOD = 4,      // steps a key that need no better size
  CHAINS_MAX_BITS = 30  // Lua's own limit
};

// As l_hashfloat of ltable.c: the upper 31 bits of the mantissa and the
// exponent, whose lower bits are not looked at.
static uint64_t chains_hash_float(lua_Number n) {
  int exponent;
  n = frexp(n, &exponent) * -(lua_Number)INT_MIN;
  if (!(n >= (lua_Number)INT_MIN * 2 && n <= -(lua_Number)INT_MIN * 2))
    return 0;
  unsigned u = (unsigned)exponent + (unsigned)(lua_Integer)n;
  return u <= INT_MAX ? u : ~u;
}

// As hashint and hashmod: both take the remainder by one less than the size.
static size_t chains_node(const struct chains_key *key, uint64_t divisor) {
  uint64_t h = key->is_float ? chains_hash_float(key->u.n) : (uint64_t)key->u.i;
  return (size_t)(h % divisor);
}

uint64_t chains_steps(const struct chains_key *keys, size_t n, unsigned bits) {
  size_t nodes = (size_t)1 << bits;
  uint32_t *lengths = calloc(nodes, sizeof(*lengths));
  if (lengths == NULL) return UINT64_MAX;
  uint64_t steps = 0;
  for (size_t i = 0; i < n; i++)
    steps += lengths[chains_node(&keys[i], (nodes - 1) | 1)]++;
  free(lengths);
  return steps;
}

unsigned chains_choose(const struct chains_key *keys, size_t n,
                       unsigned least) {
  if (n < CHAINS_FEW) return least;
  unsigned best = least;
  uint64_t fewest = UINT64_MAX;
  for (unsigned bits = least;
       bits <= least + CHAINS_MORE && bits <= CHAINS_MAX_BITS; bits++) {
    uint64_t steps = chains_steps(keys, n, bits);
    if (steps < fewest) {
      fewest = steps;
      best = bits;
    }
    if (steps / n < CHAINS_GOOD) break;
  }
  return best;
}
