// SPDX-License-Identifier: MIT
#include "channel.h"

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>

#include "process.h"
#include "unit.h"

// Two channels, parent's and worker's, joined as over a fork.
struct pair {
  struct channel a, b;  // a does not block, b does
};

static struct pair joined(void) {
  struct pair p;
  int down[2], up[2];
  CHECK(process_pipe(down) == 1 && process_pipe(up) == 1);
  fcntl(down[1], F_SETFL, O_NONBLOCK);
  fcntl(up[0], F_SETFL, O_NONBLOCK);
  channel_init(&p.a, up[0], down[1]);
  channel_init(&p.b, down[0], up[1]);
  return p;
}

static void part(struct pair *p) {
  channel_free(&p->a);
  channel_free(&p->b);
}

static uint8_t byte_of(size_t size, size_t i) {
  return (uint8_t)(size * 31 + i * 7 + i / 251);
}

static int put_frame(struct channel *c, size_t size, uint16_t task) {
  if (channel_begin(c, 3, task) < 0) return -1;
  for (size_t i = 0; i < size; i++) {
    uint8_t byte = byte_of(size, i);
    if (buffer_put(&c->out, &byte, 1) < 0) return -1;
  }
  return channel_end(c);
}

static int is_frame(const struct frame *f, size_t size, uint16_t task) {
  if (f->length != size || f->task != task || f->type != 3) return 0;
  for (size_t i = 0; i < size; i++)
    if (f->bytes[i] != byte_of(size, i)) return 0;
  return 1;
}

static const size_t sizes[] = {0,     1,     7,       4087,  4088, 4089,
                               65527, 65528, 65529,   70000, 3,    1 << 20,
                               0,     0,     5000000, 100,   8,    1 << 22};
enum { SIZES = sizeof sizes / sizeof *sizes };

// Both directions of one thread: all frames are queued before one is read.
static void carries_frames(void) {
  struct pair p = joined();
  int sent = 0, got = 0, wrong = 0;
  for (uint16_t i = 0; i < SIZES; i++) sent += put_frame(&p.a, sizes[i], i);
  CHECK(sent == SIZES);
  fcntl(p.b.rfd, F_SETFL, O_NONBLOCK);
  int done = 0;
  while (got < SIZES) {
    if (!done) done = channel_flush(&p.a);
    if (done < 0 || channel_read(&p.b) < 0) break;
    struct frame f;
    while (channel_next(&p.b, &f) == 1) {
      wrong += !is_frame(&f, sizes[got], (uint16_t)got);
      got++;
    }
  }
  CHECK(got == SIZES && wrong == 0 && done == 1);
  CHECK(channel_flush(&p.a) == 1 && channel_read(&p.b) == 0);
  CHECK(p.a.sent == p.b.received);
  part(&p);
}

// Memory stays while frames are large, and goes when they are small again, or
// when it is asked for.
static void gives_memory_back(void) {
  struct pair p = joined();
  size_t large = 3 << 20, kept[2] = {0, 0};
  fcntl(p.b.rfd, F_SETFL, O_NONBLOCK);
  for (int i = 0; i < 40; i++) {
    size_t size = i < 2 ? large : 1000;
    struct frame f;
    int r = put_frame(&p.a, size, 1), next;
    while (r == 1 && (next = channel_next(&p.b, &f)) == 0)
      if (channel_flush(&p.a) < 0 || channel_read(&p.b) < 0) r = -1;
    CHECK(r == 1 && next == 1 && is_frame(&f, size, 1));
    CHECK(channel_next(&p.b, &f) == 0);
    if (i == 2) kept[0] = p.a.out.cap, kept[1] = p.b.in.cap;
  }
  CHECK(kept[0] > large && kept[1] > large);
  CHECK(p.a.out.cap <= CHANNEL_KEEP && p.b.in.cap <= CHANNEL_KEEP);
  channel_trim(&p.a);
  channel_trim(&p.b);
  CHECK(p.a.out.cap == 0 && p.b.in.cap == 0);
  // A frame given up leaves nothing large behind.
  CHECK(channel_begin(&p.a, 3, 1) == 1);
  CHECK(buffer_reserve(&p.a.out, large) == 1);
  channel_abort(&p.a);
  CHECK(p.a.out.cap == 0);
  part(&p);
}

// One byte a write, and what there is after each is one byte a read.
static void by_single_bytes(void) {
  struct pair p = joined();
  CHECK(put_frame(&p.a, 300, 1) == 1 && put_frame(&p.a, 0, 2) == 1);
  CHECK(put_frame(&p.a, 5, 3) == 1);
  static const size_t lengths[] = {300, 0, 5};
  size_t n = p.a.out.len;
  uint16_t got = 0;
  int wrong = 0;
  for (size_t i = 0; i < n; i++) {
    wrong += write(p.a.wfd, p.a.out.data + i, 1) != 1;
    wrong += channel_read(&p.b) != 1;
    struct frame f;
    while (channel_next(&p.b, &f) == 1) {
      wrong += !is_frame(&f, lengths[got], (uint16_t)(got + 1));
      got++;
    }
  }
  CHECK(wrong == 0 && got == 3);
  part(&p);
}

static void drops_half_frames(void) {
  struct pair p = joined();
  struct frame f;
  CHECK(put_frame(&p.a, 10, 1) == 1);
  CHECK(channel_begin(&p.a, 3, 2) == 1);
  CHECK(buffer_put(&p.a.out, "secret", 6) == 1);
  CHECK(channel_flush(&p.a) == 1);  // the first one only
  CHECK(p.a.sent == 18);
  channel_abort(&p.a);
  channel_abort(&p.a);
  CHECK(channel_flush(&p.a) == 1 && p.a.sent == 18);
  CHECK(channel_begin(&p.a, 3, 3) == 1);  // dropped by the next begin
  CHECK(put_frame(&p.a, 20, 4) == 1);
  CHECK(channel_flush(&p.a) == 1 && p.a.sent == 18 + 28);
  CHECK(channel_read(&p.b) == 1);
  CHECK(channel_next(&p.b, &f) == 1 && is_frame(&f, 10, 1));
  CHECK(channel_next(&p.b, &f) == 1 && is_frame(&f, 20, 4));
  CHECK(channel_next(&p.b, &f) == 0);
  // Built across a flush: what was sent before it leaves the buffer.
  CHECK(put_frame(&p.a, 10, 5) == 1 && channel_begin(&p.a, 3, 6) == 1);
  CHECK(channel_flush(&p.a) == 1 && channel_end(&p.a) == 1);
  CHECK(channel_flush(&p.a) == 1 && channel_read(&p.b) == 1);
  CHECK(channel_next(&p.b, &f) == 1 && is_frame(&f, 10, 5));
  CHECK(channel_next(&p.b, &f) == 1 && is_frame(&f, 0, 6));
  part(&p);
}

// A full pipe: nothing waits, nothing is lost, nothing piles up.
static void full_pipe(void) {
  struct pair p = joined();
  fcntl(p.a.wfd, F_SETPIPE_SZ, 4096);
  fcntl(p.b.rfd, F_SETFL, O_NONBLOCK);
  uint16_t sent = 0, got = 0;
  int wrong = 0;
  size_t most = 0;
  while (got < 3000) {
    if (sent < 3000) wrong += put_frame(&p.a, sent % 3000, sent) < 0, sent++;
    int r = channel_flush(&p.a);
    if (sent > 200) {  // from then on as fast as it comes
      wrong += channel_read(&p.b) < 0;
      wrong += channel_read(&p.b) < 0;
    }
    struct frame f;
    while (channel_next(&p.b, &f) == 1) {
      wrong += !is_frame(&f, got % 3000, got);
      got++;
    }
    wrong += r < 0;
    if (most < p.a.out.cap) most = p.a.out.cap;
  }
  CHECK(wrong == 0 && got == sent);
  CHECK(p.b.in.cap <= 4 * CHANNEL_READ);
  CHECK(p.a.out.len == 0);
  part(&p);
}

static void trusts_no_length(void) {
  struct pair p = joined();
  struct frame f;
  struct frame_header h = {UINT32_MAX, 1, 1, CHANNEL_MAGIC};
  CHECK(write(p.a.wfd, &h, sizeof h) == sizeof h);
  CHECK(channel_read(&p.b) == 1 && channel_next(&p.b, &f) == 0);
  CHECK(p.b.in.cap <= 2 * CHANNEL_READ);
  static uint8_t junk[60000];
  for (int i = 0; i < 50; i++) {
    CHECK(write(p.a.wfd, junk, sizeof junk) == sizeof junk);
    CHECK(channel_read(&p.b) == 1 && channel_next(&p.b, &f) == 0);
    CHECK(p.b.in.cap <= 2 * p.b.in.len + 2 * CHANNEL_READ);
  }
  process_close(&p.a.wfd);
  errno = 0;
  CHECK(channel_read(&p.b) == -1 && errno == EPIPE);
  part(&p);

  p = joined();
  CHECK(write(p.a.wfd, "GET / HTTP/1.1\r\n", 16) == 16);
  errno = 0;
  CHECK(channel_read(&p.b) == 1);
  CHECK(channel_next(&p.b, &f) == -1 && errno == EPROTO);
  part(&p);
}

static void feeds(void) {
  struct pair p = joined();
  struct frame f;
  CHECK(put_frame(&p.a, 100, 1) == 1 && put_frame(&p.a, 50, 2) == 1);
  size_t n = p.a.out.len;
  CHECK(write(p.a.wfd, p.a.out.data, 40) == 40);
  CHECK(channel_read(&p.b) == 1 && channel_next(&p.b, &f) == 0);
  CHECK(channel_feed(&p.b, p.a.out.data + 40, n - 40) == 1);
  CHECK(p.b.received == n);
  CHECK(channel_next(&p.b, &f) == 1 && is_frame(&f, 100, 1));
  CHECK(channel_next(&p.b, &f) == 1 && is_frame(&f, 50, 2));
  CHECK(channel_next(&p.b, &f) == 0);
  part(&p);
}

static void peer_is_gone(void) {
  struct pair p = joined();
  process_prepare();
  process_close(&p.b.rfd);
  CHECK(put_frame(&p.a, 100, 1) == 1);
  errno = 0;
  CHECK(channel_flush(&p.a) == -1 && errno == EPIPE);
  process_close(&p.a.rfd);
  errno = 0;
  CHECK(channel_write(&p.b, "x", 1) == -1 && errno == EPIPE);
  part(&p);
}

static int status_of(struct process *child) {
  struct pollfd fd = {child->pidfd, POLLIN, 0};
  while (process_reap(child) == 0) poll(&fd, 1, -1);
  return child->status;
}

// A timer that sends SIGALRM, without SA_RESTART, so many times a second.
static int ticks;
static void on_tick(int sig) {
  (void)sig;
  if (++ticks > 30000) abort();  // it hangs, and alarm() is in use here
}

static void tick(int hz) {
  struct sigaction sa = {.sa_handler = on_tick};
  struct itimerval every = {{0, hz ? 1000000 / hz : 0}, {0, 0}};
  every.it_value = every.it_interval;
  sigaction(SIGALRM, &sa, NULL);
  setitimer(ITIMER_REAL, &every, NULL);
}

// Sends back what comes. The header waits in the queue, the payload goes without
// a copy.
static int echo(struct channel *c) {
  struct frame f;
  for (;;) {
    while (channel_next(c, &f) == 1) {
      struct frame_header h = {f.length, f.task, f.type, CHANNEL_MAGIC};
      if (buffer_put(&c->out, &h, sizeof h) < 0) return 1;
      if (channel_write(c, f.bytes, f.length) < 0) return 2;
    }
    if (channel_read(c) < 0) return errno == EPIPE ? 0 : 3;
  }
}

// All the sizes there and back, by pipes of one page; both ends are interrupted
// all the time.
static void echo_under_signals(void) {
  struct pair p = joined();
  fcntl(p.a.wfd, F_SETPIPE_SZ, 4096);
  fcntl(p.b.wfd, F_SETPIPE_SZ, 4096);
  struct process child;
  int keep[] = {p.b.rfd, p.b.wfd};
  if (process_fork(&child, keep, 2) == 0) {
    tick(1000);
    int status = echo(&p.b);
    tick(0);
    process_exit(status);
  }
  tick(1000);
  process_close(&p.b.rfd);
  process_close(&p.b.wfd);
  int got = 0, wrong = 0;
  for (uint16_t i = 0; i < SIZES; i++)
    wrong += put_frame(&p.a, sizes[i], i) < 0;
  while (got < SIZES) {
    int left = channel_flush(&p.a);
    struct pollfd fds[] = {{p.a.rfd, POLLIN, 0}, {p.a.wfd, POLLOUT, 0}};
    poll(fds, left == 0 ? 2 : 1, -1);
    if (left < 0 || channel_read(&p.a) < 0) break;
    struct frame f;
    while (channel_next(&p.a, &f) == 1) {
      wrong += !is_frame(&f, sizes[got], (uint16_t)got);
      got++;
    }
  }
  CHECK(got == SIZES && wrong == 0);
  CHECK(ticks > 0);
  process_close(&p.a.wfd);
  CHECK(status_of(&child) == 0);
  tick(0);
  signal(SIGALRM, SIG_DFL);
  alarm(30);
  part(&p);
}

// A peer that takes as much as there is must not keep a flush for ever.
static void flush_returns(void) {
  struct pair p = joined();
  struct process child;
  if (process_fork(&child, &p.b.rfd, 1) == 0) {
    static char bytes[65536];
    while (read(p.b.rfd, bytes, sizeof bytes) > 0) continue;
    process_exit(0);
  }
  size_t size = 64 << 20;
  CHECK(channel_begin(&p.a, 3, 1) == 1);
  CHECK(buffer_reserve(&p.a.out, size) == 1);
  memset(p.a.out.data + p.a.out.len, 1, size);
  p.a.out.len += size;
  CHECK(channel_end(&p.a) == 1);
  uint64_t most = 0, before = 0;
  int r;
  while ((r = channel_flush(&p.a)) == 0) {
    if (p.a.sent - before > most) most = p.a.sent - before;
    before = p.a.sent;
    struct pollfd fd = {p.a.wfd, POLLOUT, 0};
    poll(&fd, 1, -1);
  }
  CHECK(r == 1 && p.a.sent == size + 8);
  CHECK(most <= 2 << 20);
  CHECK(p.a.out.cap == 0);
  process_close(&p.a.wfd);
  CHECK(status_of(&child) == 0);
  part(&p);
}

int main(void) {
  unit_begin(60);
  carries_frames();
  gives_memory_back();
  by_single_bytes();
  drops_half_frames();
  full_pipe();
  trusts_no_length();
  feeds();
  peer_is_gone();
  echo_under_signals();
  flush_returns();
  return unit_end();
}
