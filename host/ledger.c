// SPDX-License-Identifier: MIT
// The ledger of one worker: claim words and outbox in shared pages (ledger.h).
// Called by lib.c, from both sides of the fork. No Lua, no lock.
//
// Memory orders. A living peer reads the claim words and `started`, which are
// ordered by acquire and release, and may look into the outbox of a worker that
// is writing there: it trusts what it has read if `start` has not moved, so that
// a new start must be seen before any byte that is written over. For the parent
// of a dead worker the order of the program is enough: a worker stops between
// two instructions, with all before it done and none after.
#include "ledger.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>
#include <time.h>

static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock would die with its owner");
static_assert((LEDGER_CHUNKS & (LEDGER_CHUNKS - 1)) == 0, "a power of 2");

// A claim word: chunk in the top 16 bits, next and limit in 24 bits each. next
// is never above limit.
struct word {
  uint16_t chunk;
  uint32_t next, limit;
};

static uint64_t pack(struct word w) {
  return (uint64_t)w.chunk << 48 | (uint64_t)w.next << 24 | w.limit;
}

static struct word unpack(uint64_t bits) {
  return (struct word){
      .chunk = (uint16_t)(bits >> 48),
      .next = (uint32_t)(bits >> 24) & LEDGER_ITEMS_MAX,
      .limit = (uint32_t)bits & LEDGER_ITEMS_MAX,
  };
}

static _Atomic uint64_t *claim_of(struct ledger *l, uint32_t chunk) {
  return &l->claim[chunk & (LEDGER_CHUNKS - 1)];
}

// Is this the word of that chunk, and one that we could have written?
static bool sound(struct word w, uint32_t chunk) {
  return w.chunk == (uint16_t)chunk && w.next <= w.limit;
}

static bool may_claim(struct word w, uint32_t chunk, uint32_t item) {
  return sound(w, chunk) && w.next == item && item < w.limit;
}

struct ledger *ledger_new(void) {
  void *p = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

void ledger_free(struct ledger *l) {
  int saved = errno;
  if (l) munmap(l, sizeof *l);
  errno = saved;
}

void ledger_hide(struct ledger *l) {
  int saved = errno;
  madvise(l, sizeof *l, MADV_DONTFORK);  // failing, it is merely not hidden
  errno = saved;
}

void ledger_open(struct ledger *l, uint32_t chunk, uint32_t n) {
  assert(n <= LEDGER_ITEMS_MAX);
  struct word w = {.chunk = (uint16_t)chunk, .limit = n};
  // The worker hears of the chunk through its pipe, which orders everything.
  atomic_store_explicit(claim_of(l, chunk), pack(w), memory_order_release);
}

bool ledger_claim(struct ledger *l, uint32_t chunk, uint32_t item) {
  _Atomic uint64_t *claim = claim_of(l, chunk);
  uint64_t old = atomic_load_explicit(claim, memory_order_relaxed);
  struct word w;
  do {
    w = unpack(old);  // the parent may have lowered limit meanwhile
    if (!may_claim(w, chunk, item)) return false;
    w.next++;
  } while (!atomic_compare_exchange_weak_explicit(
      claim, &old, pack(w), memory_order_release, memory_order_relaxed));
  return true;
}

void ledger_start(struct ledger *l) {
  atomic_store_explicit(&l->started, ledger_now(), memory_order_relaxed);
}

uint32_t ledger_claimed(struct ledger *l, uint32_t chunk) {
  uint64_t bits =
      atomic_load_explicit(claim_of(l, chunk), memory_order_acquire);
  struct word w = unpack(bits);
  return sound(w, chunk) ? w.next : LEDGER_ITEMS_MAX;
}

uint32_t ledger_revoke(struct ledger *l, uint32_t chunk, uint32_t keep) {
  _Atomic uint64_t *claim = claim_of(l, chunk);
  uint64_t old = atomic_load_explicit(claim, memory_order_acquire);
  struct word w;
  do {
    w = unpack(old);
    if (!sound(w, chunk)) return keep;
    if (keep < w.next) keep = w.next;
    if (keep >= w.limit) return w.limit;
    w.limit = keep;
  } while (!atomic_compare_exchange_weak_explicit(
      claim, &old, pack(w), memory_order_acq_rel, memory_order_acquire));
  return keep;
}

uint64_t ledger_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// Bytes in the outbox as its owner, the worker, sees them. A task that
// scribbled over the page must not make the worker write outside it.
static size_t filled(const struct ledger *l) {
  uint64_t start = atomic_load_explicit(&l->start, memory_order_relaxed);
  uint64_t end = atomic_load_explicit(&l->end, memory_order_relaxed);
  return end - start <= LEDGER_OUTBOX ? (size_t)(end - start) : LEDGER_OUTBOX;
}

size_t ledger_room(const struct ledger *l) { return LEDGER_OUTBOX - filled(l); }

uint8_t *ledger_tail(struct ledger *l) { return l->outbox + filled(l); }

size_t ledger_filled(const struct ledger *l) { return filled(l); }

void ledger_commit(struct ledger *l, size_t n) {
  uint64_t end = atomic_load_explicit(&l->end, memory_order_relaxed);
  // Release: the frame is in place before it counts.
  atomic_store_explicit(&l->end, end + n, memory_order_release);
}

void ledger_sent(struct ledger *l, uint64_t beyond) {
  uint64_t at = atomic_load_explicit(&l->end, memory_order_relaxed) + beyond;
  // Killed between the two stores: start > end, an empty outbox; which it is,
  // all of it being in the pipe.
  atomic_store_explicit(&l->start, at, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);  // before end and the next frames
  atomic_store_explicit(&l->end, at, memory_order_relaxed);
}

size_t ledger_salvage(const struct ledger *l, uint64_t received,
                      const uint8_t **bytes) {
  uint64_t start = atomic_load_explicit(&l->start, memory_order_acquire);
  uint64_t end = atomic_load_explicit(&l->end, memory_order_acquire);
  *bytes = l->outbox;
  if (start > end || end - start > LEDGER_OUTBOX) return 0;
  if (received < start || received > end) return 0;
  *bytes = l->outbox + (received - start);
  return (size_t)(end - received);
}

// The worker only appends to the outbox until it has written all of it, and says
// so by moving start, which comes before the first byte that it writes over.
ssize_t ledger_peek(const struct ledger *l, uint64_t received,
                    struct buffer *copy) {
  uint64_t start = atomic_load_explicit(&l->start, memory_order_acquire);
  const uint8_t *bytes;
  size_t n = ledger_salvage(l, received, &bytes);
  if (n == 0) return 0;
  size_t before = copy->len;
  if (buffer_put(copy, bytes, n) < 0) return -1;
  atomic_thread_fence(memory_order_acquire);
  if (atomic_load_explicit(&l->start, memory_order_relaxed) == start)
    return (ssize_t)n;
  copy->len = before;
  return 0;
}
