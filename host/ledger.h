// SPDX-License-Identifier: MIT
// What a worker has started and what it has finished, kept in anonymous shared
// memory so that it outlives the worker. One ledger a worker; the parent makes
// it before the fork, and both sides then see the same pages. No device, no
// name, no lock: every word here is one atomic.
//
// Claims. Each chunk has one word {chunk, next, limit} in a ring. The worker
// claims item `next` by compare-and-swap just before it runs it; the parent
// takes items back by lowering `limit`, likewise. So an item is run or taken
// back, never both.
//
// Outbox. The worker writes finished frames into `outbox` first and from there
// into its pipe. `start` and `end` are offsets in the stream of all bytes it
// has ever sent: outbox[0] is stream offset `start`, and everything before `end`
// is whole frames. After a death the parent, which counts what it has received,
// reads the rest from here.
#ifndef LUAPOOL_LEDGER_H
#define LUAPOOL_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buffer.h"

enum {
  LEDGER_CHUNKS = 64,                // chunks outstanding at most, power of 2
  LEDGER_OUTBOX = 64 * 1024,         // bytes
  LEDGER_ITEMS_MAX = (1 << 24) - 1,  // items of one chunk at most
};

struct ledger {
  _Atomic uint64_t claim[LEDGER_CHUNKS];
  _Atomic uint64_t start;    // stream offset of outbox[0]
  _Atomic uint64_t end;      // stream offset after the last whole frame
  _Atomic uint64_t started;  // CLOCK_MONOTONIC ns of the last ledger_start
  _Atomic uint64_t busy;     // ns spent in tasks
  _Atomic uint32_t reading;  // 1 while the worker waits for its request pipe
  _Atomic uint32_t writes;   // odd while the worker writes to its result pipe
  uint8_t outbox[LEDGER_OUTBOX];
};

// Maps a fresh, zeroed ledger; NULL with errno.
struct ledger *ledger_new(void);
void ledger_free(struct ledger *l);  // NULL is fine

// Parent, right after the fork of the ledger's worker: children forked from now
// on do not get these pages, so that no worker can scribble over another's.
void ledger_hide(struct ledger *l);

// Parent: chunk (a serial number; only its low 16 bits are kept) of n items is
// about to be sent. The chunk LEDGER_CHUNKS before it must be over; n is at
// most LEDGER_ITEMS_MAX.
void ledger_open(struct ledger *l, uint32_t chunk, uint32_t n);

// Worker: may item number `item` (0, 1 ...) of chunk be run? Items are claimed in
// order, each once.
bool ledger_claim(struct ledger *l, uint32_t chunk, uint32_t item);

// Worker, just before a claim where the parent is to know when an item was
// started. A parent that sees the claim sees this start, or a later one: never
// that of the item before, by which this one would seem overdue.
void ledger_start(struct ledger *l);

// Parent: items of chunk, an open one, claimed so far. LEDGER_ITEMS_MAX where the
// worker has scribbled over the word: assume then that it was running one.
uint32_t ledger_claimed(struct ledger *l, uint32_t chunk);

// Parent: takes back the items from number `keep` on, except those claimed
// already. Returns the number of items the chunk has from now on; `keep` where
// the word is scribbled over (the worker can claim no more in it then).
uint32_t ledger_revoke(struct ledger *l, uint32_t chunk, uint32_t keep);

// CLOCK_MONOTONIC in ns, the clock of `started` and `busy`.
uint64_t ledger_now(void);

// Worker: room left in the outbox, bytes; how many are in it, not yet sent; where
// to write; n bytes there are now whole frames; the outbox has been written to
// the pipe, `beyond` bytes that never were in it too.
size_t ledger_room(const struct ledger *l);
size_t ledger_filled(const struct ledger *l);
uint8_t *ledger_tail(struct ledger *l);
void ledger_commit(struct ledger *l, size_t n);
void ledger_sent(struct ledger *l, uint64_t beyond);

// Parent, after the worker's death and once its pipe is drained: the bytes of
// whole frames from stream offset `received` on. Stores the start in *bytes and
// returns their number; 0 where nothing is left. Trusts nothing it reads.
size_t ledger_salvage(const struct ledger *l, uint64_t received,
                      const uint8_t **bytes);

// The same while the worker is alive, for whoever does not want to wait until it
// writes: appends them to `copy`. 0 also where they are being written just now.
// -1: errno.
ssize_t ledger_peek(const struct ledger *l, uint64_t received,
                    struct buffer *copy);

#endif
