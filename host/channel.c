// SPDX-License-Identifier: MIT
// Frames over a pair of descriptors (channel.h). Called by lib.c from both sides
// of the fork. Both buffers are queues: bytes enter at the end and leave at the
// front, and what has left is dropped only when that is free or paid for by as
// many bytes that have left, so that no byte is moved more than O(1) times.
#include "channel.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "process.h"

enum {
  HEADER = sizeof(struct frame_header),
  FLUSH = 1024 * 1024,  // bytes a non-blocking flush sends before it returns
};

static_assert(HEADER == 8, "no padding");

#define NO_FRAME SIZE_MAX

void channel_init(struct channel *c, int rfd, int wfd) {
  *c = (struct channel){.rfd = rfd, .wfd = wfd, .out_frame = NO_FRAME};
}

void channel_free(struct channel *c) {
  process_close(&c->rfd);
  process_close(&c->wfd);
  buffer_free(&c->in);
  buffer_free(&c->out);
  channel_init(c, -1, -1);
}

// Drops the bytes before *pos where this moves no more of them than it drops.
static void compact(struct buffer *b, size_t *pos, size_t *lately) {
  if (*pos == 0 || *pos < b->len - *pos) return;
  if (*lately < b->len) *lately = b->len;
  buffer_drop(b, *pos);
  *pos = 0;
}

// Once all bytes have left: gives memory back, but not while about as much was
// lately needed. Frames of 16 MiB one by one pass at 3.0 GB/s so, as they do
// through a bare read into memory; in fresh pages each time at 1.3 GB/s.
static void release(struct buffer *b, size_t *pos, size_t *lately) {
  if (*pos < b->len) return;
  if (b->len > 0) *lately -= *lately / 8;
  if (*lately < b->len) *lately = b->len;
  bool idle = b->cap / 8 > *lately || b->cap > CHANNEL_KEEP_MOST;
  buffer_reset(b, idle ? CHANNEL_KEEP : CHANNEL_KEEP_MOST);
  *pos = 0;
}

void channel_trim(struct channel *c) {
  c->in_lately = c->out_lately = 0;
  if (c->in_pos == c->in.len) buffer_reset(&c->in, 0), c->in_pos = 0;
  if (c->out_pos == c->out.len) buffer_reset(&c->out, 0), c->out_pos = 0;
}

// Output.

int channel_begin(struct channel *c, uint8_t type, uint16_t task) {
  struct frame_header h = {.task = task, .type = type, .magic = CHANNEL_MAGIC};
  channel_abort(c);
  compact(&c->out, &c->out_pos, &c->out_lately);
  size_t at = c->out.len;
  if (buffer_put(&c->out, &h, sizeof h) < 0) return -1;
  c->out_frame = at;
  return 1;
}

int channel_end(struct channel *c) {
  size_t n = c->out.len - c->out_frame - HEADER;
  if (n > UINT32_MAX) {
    channel_abort(c);
    errno = EMSGSIZE;
    return -1;
  }
  uint32_t length = (uint32_t)n;
  memcpy(c->out.data + c->out_frame, &length, sizeof length);
  c->out_frame = NO_FRAME;
  return 1;
}

void channel_abort(struct channel *c) {
  if (c->out_frame == NO_FRAME) return;
  c->out.len = c->out_frame;
  c->out_frame = NO_FRAME;
  release(&c->out, &c->out_pos, &c->out_lately);
}

// One write. 0: not now.
static ssize_t write_some(struct channel *c, const struct iovec *v, int n) {
  ssize_t r;
  process_pipe_guard_begin();
  do {
    r = n == 1 ? write(c->wfd, v->iov_base, v->iov_len) : writev(c->wfd, v, n);
  } while (r < 0 && errno == EINTR);
  process_pipe_guard_end();
  if (r < 0) return errno == EAGAIN ? 0 : -1;
  c->sent += (uint64_t)r;
  return r;
}

static bool blocking(int fd) { return !(fcntl(fd, F_GETFL) & O_NONBLOCK); }

int channel_flush(struct channel *c) {
  // A frame being built may still be dropped.
  size_t end = c->out_frame == NO_FRAME ? c->out.len : c->out_frame;
  size_t sent = 0;
  while (c->out_pos < end) {
    struct iovec v = {c->out.data + c->out_pos, end - c->out_pos};
    ssize_t n = write_some(c, &v, 1);
    if (n < 0) return -1;
    if (n == 0) return 0;
    c->out_pos += (size_t)n;
    sent += (size_t)n;
    // A peer that reads as fast as we write must not keep us from the others.
    if (sent < FLUSH || c->out_pos == end) continue;
    if (!blocking(c->wfd)) return 0;
    sent = 0;
  }
  release(&c->out, &c->out_pos, &c->out_lately);
  return 1;
}

static int wait_writable(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLOUT};
  return poll(&p, 1, -1) < 0 && errno != EINTR ? -1 : 1;
}

int channel_write(struct channel *c, const void *bytes, size_t n) {
  if (c->out_frame != NO_FRAME) {
    errno = EINVAL;  // these bytes would come before that frame's queued ones
    return -1;
  }
  const uint8_t *p = bytes;
  while (c->out_pos < c->out.len || n > 0) {
    size_t queued = c->out.len - c->out_pos;
    struct iovec v[2] = {{NULL, queued}, {(void *)(uintptr_t)p, n}};
    if (queued) v[0].iov_base = c->out.data + c->out_pos;
    ssize_t r = queued ? write_some(c, v, 2) : write_some(c, v + 1, 1);
    if (r < 0 || (r == 0 && wait_writable(c->wfd) < 0)) return -1;
    size_t first = (size_t)r < queued ? (size_t)r : queued;
    c->out_pos += first;
    p += (size_t)r - first;
    n -= (size_t)r - first;
  }
  release(&c->out, &c->out_pos, &c->out_lately);
  return 1;
}

// Input.

// Room for the next read. The buffer at most doubles what has arrived: the
// length of a frame alone allocates nothing.
static int make_room(struct channel *c) {
  release(&c->in, &c->in_pos, &c->in_lately);
  // Now, while little follows the last frame, and not once the room is used up:
  // half of a long frame would have to be moved then.
  compact(&c->in, &c->in_pos, &c->in_lately);
  return buffer_reserve(&c->in, CHANNEL_READ);
}

// Enters what was read, but for what had been fed before.
static void take_read(struct channel *c, size_t n) {
  size_t known = c->ahead < n ? (size_t)c->ahead : n;
  uint8_t *at = c->in.data + c->in.len;
  if (known > 0) memmove(at, at + known, n - known);
  c->ahead -= known;
  c->in.len += n - known;
  c->received += n - known;
}

int channel_read(struct channel *c) {
  if (make_room(c) < 0) return -1;
  ssize_t n;
  do {
    n = read(c->rfd, c->in.data + c->in.len, c->in.cap - c->in.len);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return errno == EAGAIN ? 0 : -1;
  if (n == 0) {
    errno = EPIPE;
    return -1;
  }
  take_read(c, (size_t)n);
  return 1;
}

int channel_next(struct channel *c, struct frame *f) {
  release(&c->in, &c->in_pos, &c->in_lately);
  size_t unread = c->in.len - c->in_pos;
  if (unread < HEADER) return 0;
  const uint8_t *at = c->in.data + c->in_pos;
  struct frame_header h;
  memcpy(&h, at, sizeof h);
  if (h.magic != CHANNEL_MAGIC) {
    errno = EPROTO;
    return -1;
  }
  if (unread - HEADER < h.length) return 0;
  *f = (struct frame){at + HEADER, h.length, h.task, h.type};
  c->in_pos += HEADER + (size_t)h.length;
  return 1;
}

bool channel_partial(const struct channel *c) {
  size_t unread = c->in.len - c->in_pos;
  if (unread < HEADER) return unread > 0;
  struct frame_header h;
  memcpy(&h, c->in.data + c->in_pos, sizeof h);
  return unread - HEADER < h.length;
}

void channel_drop(struct channel *c) {
  c->received -= c->in.len - c->in_pos;
  c->in.len = c->in_pos;
  c->ahead = 0;
}

int channel_feed(struct channel *c, const void *bytes, size_t n) {
  if (buffer_put(&c->in, bytes, n) < 0) return -1;
  c->received += n;
  return 1;
}

int channel_feed_early(struct channel *c, const void *bytes, size_t n) {
  if (channel_feed(c, bytes, n) < 0) return -1;
  c->ahead += n;
  return 1;
}
