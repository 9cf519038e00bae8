// SPDX-License-Identifier: MIT
#include "ledger.h"

#include <stdint.h>
#include <string.h>
#include <sys/time.h>

#include "unit.h"

static void claims(void) {
  struct ledger *l = ledger_new();
  CHECK(l != NULL);
  ledger_open(l, 1, 3);
  CHECK(ledger_claimed(l, 1) == 0);
  CHECK(!ledger_claim(l, 1, 1));  // not its turn
  CHECK(ledger_claim(l, 1, 0));
  ledger_start(l);
  CHECK(atomic_load(&l->started) > 0);
  CHECK(!ledger_claim(l, 1, 0));  // once only
  CHECK(ledger_claim(l, 1, 1));
  CHECK(ledger_claimed(l, 1) == 2);
  CHECK(ledger_revoke(l, 1, 0) == 2);
  CHECK(!ledger_claim(l, 1, 2));
  CHECK(ledger_claimed(l, 1) == 2);
  CHECK(ledger_revoke(l, 1, 7) == 2);  // it never gets more

  ledger_open(l, 2, LEDGER_ITEMS_MAX);
  CHECK(ledger_revoke(l, 2, LEDGER_ITEMS_MAX) == LEDGER_ITEMS_MAX);
  CHECK(ledger_claim(l, 2, 0));
  CHECK(ledger_revoke(l, 2, 5) == 5);
  CHECK(!ledger_claim(l, 2 + LEDGER_CHUNKS, 1));  // another one's word
  CHECK(ledger_claim(l, 2 + 65536, 1));           // low 16 bits count
  ledger_open(l, 3, 0);
  CHECK(!ledger_claim(l, 3, 0));
  ledger_free(l);
  ledger_free(NULL);
}

static void damaged_words(void) {
  struct ledger *l = ledger_new();
  ledger_open(l, 5, 10);
  for (unsigned i = 0; i < LEDGER_CHUNKS; i++)
    atomic_store(&l->claim[i], UINT64_MAX - i);
  CHECK(ledger_claimed(l, 5) == LEDGER_ITEMS_MAX);
  CHECK(ledger_revoke(l, 5, 4) == 4);
  CHECK(!ledger_claim(l, 5, 0));
  ledger_free(l);
}

static void put(struct ledger *l, const char *s) {
  memcpy(ledger_tail(l), s, strlen(s));
  ledger_commit(l, strlen(s));
}

static void outbox(void) {
  struct ledger *l = ledger_new();
  const uint8_t *bytes;
  CHECK(ledger_room(l) == LEDGER_OUTBOX);
  CHECK(ledger_salvage(l, 0, &bytes) == 0);
  put(l, "one");
  put(l, "two");
  CHECK(ledger_filled(l) == 6 && ledger_room(l) == LEDGER_OUTBOX - 6);
  CHECK(ledger_salvage(l, 0, &bytes) == 6 && memcmp(bytes, "onetwo", 6) == 0);
  CHECK(ledger_salvage(l, 4, &bytes) == 2 && memcmp(bytes, "wo", 2) == 0);
  CHECK(ledger_salvage(l, 6, &bytes) == 0);
  CHECK(ledger_salvage(l, 7, &bytes) == 0);
  ledger_sent(l, 0);
  CHECK(ledger_room(l) == LEDGER_OUTBOX);
  CHECK(ledger_salvage(l, 6, &bytes) == 0);
  put(l, "three");
  CHECK(ledger_salvage(l, 5, &bytes) == 0);  // a gap
  CHECK(ledger_salvage(l, 8, &bytes) == 3 && memcmp(bytes, "ree", 3) == 0);
  ledger_sent(l, UINT64_C(1) << 33);
  CHECK(atomic_load(&l->end) == 11 + (UINT64_C(1) << 33));
  CHECK(ledger_room(l) == LEDGER_OUTBOX);
  ledger_free(l);
}

static void damaged_outbox(void) {
  static const uint64_t values[] = {
      0,       1, 65535, LEDGER_OUTBOX, 65537, UINT64_C(1) << 40, SIZE_MAX - 1,
      SIZE_MAX};
  enum { N = sizeof values / sizeof *values };
  struct ledger *l = ledger_new();
  int outside = 0;
  for (int i = 0; i < N * N * N; i++) {
    atomic_store(&l->start, values[i % N]);
    atomic_store(&l->end, values[i / N % N]);
    const uint8_t *bytes;
    size_t n = ledger_salvage(l, values[i / N / N], &bytes);
    outside += bytes < l->outbox || bytes + n > l->outbox + LEDGER_OUTBOX;
    outside += ledger_tail(l) + ledger_room(l) > l->outbox + LEDGER_OUTBOX;
  }
  CHECK(outside == 0);
  ledger_free(l);
}

static void hidden(void) {
  struct ledger *l = ledger_new();
  ledger_open(l, 1, 1);
  ledger_hide(l);
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGSEGV, SIG_DFL);
    volatile _Atomic uint64_t *p = l->claim;
    _exit((int)(*p & 1));
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  ledger_free(l);
}

// A worker claims as fast as it can while the parent takes back: an item is run
// or taken back, one of the two.
static void claim_races_revoke(void) {
  enum { ROUNDS = 500, ITEMS = 20000, STEP = 100 };
  struct ledger *l = ledger_new();
  int go[2], done[2], wrong = 0;
  CHECK(pipe(go) == 0 && pipe(done) == 0);
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    close(go[1]);
    uint32_t chunk;
    while (read(go[0], &chunk, sizeof chunk) == sizeof chunk) {
      uint32_t n = 0;
      while (ledger_claim(l, chunk, n)) n++;
      if (write(done[1], &n, sizeof n) != sizeof n) _exit(1);
    }
    _exit(0);
  }
  close(go[0]);
  close(done[1]);
  for (uint32_t chunk = 1; chunk <= ROUNDS; chunk++) {
    uint32_t limit = ITEMS, ran = 0;
    ledger_open(l, chunk, ITEMS);
    if (write(go[1], &chunk, sizeof chunk) != sizeof chunk) break;
    while (ledger_claimed(l, chunk) < chunk) continue;
    for (uint32_t keep = ITEMS; keep > chunk + STEP; keep -= STEP)
      limit = ledger_revoke(l, chunk, keep);
    if (read(done[0], &ran, sizeof ran) != sizeof ran) break;
    wrong += ran != limit || ledger_claimed(l, chunk) != ran;
  }
  CHECK(wrong == 0);
  close(go[1]);
  close(done[0]);
  int status = -1;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  ledger_free(l);
}

// The worker of the test below: frames are numbers, 0, 1, 2 ... Some are
// too long for the outbox and go straight into the pipe.
enum { LONG = LEDGER_OUTBOX / 8 + 100 };

static int is_long(uint64_t i) { return i % 20011 == 0; }

static void send_all(int fd, const void *bytes, size_t n) {
  const uint8_t *p = bytes;
  while (n > 0) {
    ssize_t r = write(fd, p, n);
    if (r < 0) _exit(1);
    p += r;
    n -= (size_t)r;
  }
}

static void flush_outbox(struct ledger *l, int fd, uint64_t beyond) {
  send_all(fd, l->outbox, ledger_filled(l));
  static uint64_t number[LONG];
  if (beyond) {
    for (size_t i = 0; i < LONG; i++) number[i] = beyond;
    send_all(fd, number, sizeof number);
  }
  ledger_sent(l, beyond ? sizeof number : 0);
}

static _Noreturn void count(struct ledger *l, int fd) {
  for (uint64_t i = 1;; i++) {
    ledger_open(l, (uint32_t)i, 1);
    ledger_claim(l, (uint32_t)i, 0);
    if (is_long(i)) {
      flush_outbox(l, fd, i);
    } else {
      if (ledger_room(l) < sizeof i || i % 1777 == 0) flush_outbox(l, fd, 0);
      memcpy(ledger_tail(l), &i, sizeof i);
      ledger_commit(l, sizeof i);
    }
  }
}

// Takes whole frames off the stream; returns where it stops.
static size_t parse(const uint64_t *words, size_t n, uint64_t *last) {
  size_t at = 0;
  while (at < n && words[at] == *last + 1) {
    size_t len = is_long(words[at]) ? LONG : 1;
    if (at + len > n) break;
    at += len;
    (*last)++;
  }
  return at;
}

// Killed anywhere, exactly the frames that were finished come out.
static void killed_anywhere(void) {
  static uint64_t words[1 << 20];
  int gaps = 0, lost = 0, saved = 0, rounds = 150;
  for (int i = 0; i < rounds; i++) {
    struct ledger *l = ledger_new();
    int fds[2];
    CHECK(pipe(fds) == 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) count(l, fds[1]);
    close(fds[1]);
    uint8_t *bytes = (uint8_t *)words;
    size_t got = 0, stop = 1 + (size_t)i * 7919 % 900000;
    while (got < stop) {
      ssize_t r = read(fds[0], bytes + got, 4096);
      if (r <= 0) break;
      got += (size_t)r;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ssize_t r;
    while ((r = read(fds[0], bytes + got, 65536)) > 0) got += (size_t)r;
    const uint8_t *rest;
    size_t n = ledger_salvage(l, got, &rest);
    memcpy(bytes + got, rest, n);
    got += n;
    saved += n > 0;
    uint64_t last = 0;
    size_t whole = parse(words, got / 8, &last);
    // What is left over can only be a part of a frame that went straight out.
    gaps += whole * 8 != got && !is_long(last + 1);
    // All but the one that it was at are there.
    uint64_t at = last + 1;
    lost += !is_long(at) && ledger_claimed(l, (uint32_t)at + 1) == 1;
    close(fds[0]);
    ledger_free(l);
  }
  CHECK(gaps == 0);
  CHECK(lost == 0);
  CHECK(saved > 0);
}

// Looked into while it is written: the same stream, only sooner.
static void looked_into(void) {
  struct ledger *l = ledger_new();
  struct buffer all = {0};
  int fds[2], peeks = 0;
  CHECK(pipe(fds) == 0);
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) count(l, fds[1]);
  close(fds[1]);
  size_t ahead = 0;  // bytes in `all` that the pipe will bring again
  while (all.len < 6000000) {
    ssize_t n = ledger_peek(l, all.len, &all);
    peeks += n > 0;
    ahead += (size_t)n;
    static uint8_t bytes[4096];
    ssize_t r = read(fds[0], bytes, sizeof bytes);
    if (n < 0 || r <= 0) break;
    size_t known = ahead < (size_t)r ? ahead : (size_t)r;
    ahead -= known;
    if (buffer_put(&all, bytes + known, (size_t)r - known) < 0) break;
  }
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  uint64_t last = 0;
  size_t n = all.len / 8, whole = parse((const void *)all.data, n, &last);
  CHECK(all.len >= 6000000 && peeks > 0);
  CHECK(whole == n || is_long(last + 1));
  buffer_free(&all);
  close(fds[0]);
  ledger_free(l);
}

int main(void) {
  unit_begin(60);
  claims();
  damaged_words();
  outbox();
  damaged_outbox();
  hidden();
  claim_races_revoke();
  killed_anywhere();
  looked_into();
  return unit_end();
}
