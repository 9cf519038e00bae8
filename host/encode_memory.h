// SPDX-License-Identifier: MIT
// What encoding needs beside the bytes, kept from message to message so that
// small messages cost no set-up.
#ifndef LUAPOOL_ENCODE_MEMORY_H
#define LUAPOOL_ENCODE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "chains.h"
#include "pointers.h"

enum { ENCODE_RECENT = 256 };

// Short strings met in this message, found by their addresses: the last one
// that was met once, which most are, and the last one that has a slot.
struct encode_recent {
  const char *once, *defined;
  uint32_t once_epoch, defined_epoch;  // in use where they are the memory's
  uint8_t slot;
};

// What was put off.
struct encode_put_off {
  size_t place;       // of the byte of the table's size
  const void *table;  // for peek.h
};

struct encode_memory {
  struct pointers objects;  // address -> number of the object
  struct encode_recent recent[ENCODE_RECENT];
  uint8_t slots[256];       // slot -> place in `recent` that holds it
  uint32_t epoch;           // of `recent`
  struct chains_key *keys;  // numeric keys of the tables being written
  size_t keys_len, keys_cap;
  struct encode_put_off *put_off;
  size_t put_off_cap;
  unsigned unpeeked;  // messages to come that are not tried by peek.h
  unsigned penalty;   // the last number of these
  bool busy;
};

void encode_memory_free(struct encode_memory *m);

#endif
