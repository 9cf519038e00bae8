// SPDX-License-Identifier: MIT
// A map from addresses to numbers: open addressing, emptied in constant time,
// its memory kept from message to message. Knows nothing of Lua. It does not
// keep what the addresses point to alive.
#ifndef LUAPOOL_POINTERS_H
#define LUAPOOL_POINTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pointers_entry {
  const void *key;
  uint32_t epoch;  // in use where it is the map's
  uint32_t value;
};

struct pointers {
  struct pointers_entry *entries;
  uint32_t epoch;
  unsigned bits;  // 2^bits entries; 0: none yet
  size_t count;
};

// Empties the map; gives memory back that the last use needed an eighth of.
void pointers_reset(struct pointers *m);
void pointers_free(struct pointers *m);

// Makes room for one more entry. Returns 1, or -1 for want of memory.
int pointers_grow(struct pointers *m);

static inline size_t pointers_hash(const struct pointers *m, const void *key) {
  uint64_t h = (uint64_t)(uintptr_t)key * UINT64_C(0x9e3779b97f4a7c15);
  return (size_t)(h >> (64 - m->bits));
}

// The entry of key, or the empty one where it belongs. Needs a map that has
// been grown.
static inline struct pointers_entry *pointers_at(const struct pointers *m,
                                                 const void *key) {
  size_t mask = ((size_t)1 << m->bits) - 1;
  size_t i = pointers_hash(m, key);
  while (m->entries[i].epoch == m->epoch && m->entries[i].key != key)
    i = (i + 1) & mask;
  return &m->entries[i];
}

// Finds key, or enters it with `value`. *entry is valid until the next call.
// Returns 1 where it was there, 0 where it is new, -1 for want of memory.
static inline int pointers_enter(struct pointers *m, const void *key,
                                 uint32_t value,
                                 struct pointers_entry **entry) {
  if (m->bits == 0 || m->count >= ((size_t)1 << m->bits) / 8 * 5)
    if (pointers_grow(m) < 0) return -1;
  struct pointers_entry *at = pointers_at(m, key);
  *entry = at;
  if (at->epoch == m->epoch) return 1;
  *at = (struct pointers_entry){key, m->epoch, value};
  m->count++;
  return 0;
}

// The entry of key, or NULL.
static inline struct pointers_entry *pointers_find(const struct pointers *m,
                                                   const void *key) {
  if (m->count == 0) return NULL;
  struct pointers_entry *at = pointers_at(m, key);
  return at->epoch == m->epoch ? at : NULL;
}

#endif
