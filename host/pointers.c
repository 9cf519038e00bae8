// SPDX-License-Identifier: MIT
// A map from addresses to numbers: see pointers.h.
#include "pointers.h"

#include <stdlib.h>

enum { FIRST_BITS = 6 };

// Entries of a fresh map bear the epoch 0, which is never the map's own.
static int pointers_resize(struct pointers *m, unsigned bits) {
  struct pointers fresh = {NULL, 1, bits, m->count};
  fresh.entries = calloc((size_t)1 << bits, sizeof(*fresh.entries));
  if (fresh.entries == NULL) return -1;
  size_t n = m->bits == 0 ? 0 : (size_t)1 << m->bits;
  for (size_t i = 0; i < n; i++) {
    struct pointers_entry e = m->entries[i];
    if (e.epoch != m->epoch) continue;
    e.epoch = fresh.epoch;
    *pointers_at(&fresh, e.key) = e;
  }
  free(m->entries);
  *m = fresh;
  return 1;
}

int pointers_grow(struct pointers *m) {
  return pointers_resize(m, m->bits == 0 ? FIRST_BITS : m->bits + 1);
}

void pointers_reset(struct pointers *m) {
  size_t room = m->bits == 0 ? 0 : (size_t)1 << m->bits;
  bool spare = m->bits > FIRST_BITS + 4 && m->count < room / 8;
  m->count = 0;
  m->epoch++;
  if (spare || m->epoch == 0) pointers_free(m);
}

void pointers_free(struct pointers *m) {
  free(m->entries);
  *m = (struct pointers){NULL, 1, 0, 0};
}
