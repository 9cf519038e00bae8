// SPDX-License-Identifier: MIT
// Fuzz target: frames. The input is a byte n, n steps, and a stream of bytes;
// the steps, again and again from the first, say in which pieces the stream
// comes to a channel. What the channel makes of it must be what a plain look at
// the whole stream gives. Then the frames found go through a second channel.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "fuzz.h"
#include "process.h"

enum { HEADER = sizeof(struct frame_header) };

// A pipe that lives as long as the program.
static int ends[2] = {-1, -1};

struct reader {
  struct channel c;
  const uint8_t *stream;
  size_t size;
  size_t piped;   // bytes of the stream that went into the pipe
  size_t fed;     // bytes that the channel knows
  size_t parsed;  // bytes of the frames taken
  bool ended;     // nothing more comes through the pipe
  bool wrong;     // no frame any more
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static void by_pipe(struct reader *r, size_t n) {
  n = least(n, r->size - r->piped);
  if (n == 0 || r->ended) return;
  FUZZ_CHECK(write(ends[1], r->stream + r->piped, n) == (ssize_t)n);
  r->piped += n;
  if (r->fed < r->piped) r->fed = r->piped;
  FUZZ_CHECK(channel_read(&r->c) == 1);
  FUZZ_CHECK(channel_read(&r->c) == 0);
}

static void early(struct reader *r, size_t n) {
  n = least(n, r->size - r->fed);
  if (r->ended) return;
  FUZZ_CHECK(channel_feed_early(&r->c, r->stream + r->fed, n) == 1);
  r->fed += n;
}

static void salvaged(struct reader *r, size_t n) {
  n = least(n, r->size - r->fed);
  r->ended = true;
  FUZZ_CHECK(channel_feed(&r->c, r->stream + r->fed, n) == 1);
  r->fed += n;
}

// Takes one frame, and looks whether it is the next one of the stream.
static int take(struct reader *r) {
  const uint8_t *at = r->stream + r->parsed;
  size_t left = r->fed - r->parsed;
  struct frame_header h = {0};
  struct frame f;
  int got = channel_next(&r->c, &f);
  if (left >= HEADER) memcpy(&h, at, HEADER);
  if (left < HEADER || (h.magic == CHANNEL_MAGIC && left - HEADER < h.length)) {
    FUZZ_CHECK(got == 0);
  } else if (h.magic != CHANNEL_MAGIC) {
    FUZZ_CHECK(got == -1);
    r->wrong = true;
  } else {
    FUZZ_CHECK(got == 1 && f.length == h.length);
    FUZZ_CHECK(f.task == h.task && f.type == h.type);
    FUZZ_CHECK(memcmp(f.bytes, at + HEADER, f.length) == 0);
    r->parsed += HEADER + (size_t)f.length;
  }
  return got;
}

static void step(struct reader *r, unsigned op) {
  size_t n = op >> 3;
  switch (op & 7) {
    case 0:
    case 1:
      by_pipe(r, n * n + 1);
      break;
    case 2:
      early(r, n * n);
      break;
    case 3:
      take(r);
      break;
    case 4:
      channel_trim(&r->c);
      break;
    case 5:
      if (n == 31) salvaged(r, 1000);
      break;
    default:
      by_pipe(r, n);
      take(r);
  }
}

static void drain(int fd) {
  char rest[4096];
  while (read(fd, rest, sizeof rest) > 0) continue;
}

static void read_stream(const uint8_t *ops, size_t n_ops, const uint8_t *stream,
                        size_t size) {
  struct reader r = {.stream = stream, .size = size};
  channel_init(&r.c, ends[0], -1);
  for (size_t i = 0; i < 4096 && r.fed < size && !r.wrong && n_ops > 0; i++)
    step(&r, ops[i % n_ops]);
  if (r.ended)
    salvaged(&r, size);
  else
    while (r.fed < size) by_pipe(&r, 1000);
  while (!r.wrong && take(&r) == 1) continue;
  FUZZ_CHECK(r.c.received == r.fed);
  FUZZ_CHECK(r.c.in.cap <= 4 * size + 4 * CHANNEL_READ);
  r.c.rfd = -1;
  channel_free(&r.c);
  drain(ends[0]);
}

// Each byte of the stream does something to a channel's output; what was ended
// comes out of the pipe, and nothing else.
static void write_stream(const uint8_t *stream, size_t size) {
  struct channel out, in;
  struct buffer wanted = {0};
  struct frame f;
  size_t begun = SIZE_MAX, at = 0;  // begun: bytes put into the frame so far
  channel_init(&out, -1, ends[1]);
  channel_init(&in, ends[0], -1);
  for (size_t i = 0; i < size; i++) {
    uint8_t op = stream[i];
    size_t n = least(op >> 3, size - i);
    if ((op & 7) == 0) {
      FUZZ_CHECK(channel_begin(&out, op, op) == 1);
      if (begun != SIZE_MAX) wanted.len -= begun;
      begun = 0;
    } else if ((op & 7) < 4 && begun != SIZE_MAX) {
      FUZZ_CHECK(buffer_put(&out.out, stream + i, n) == 1);
      FUZZ_CHECK(buffer_put(&wanted, stream + i, n) == 1);
      begun += n;
    } else if ((op & 7) == 4 && begun != SIZE_MAX) {
      FUZZ_CHECK(channel_end(&out) == 1);
      begun = SIZE_MAX;
    } else if ((op & 7) == 5) {
      channel_abort(&out);
      if (begun != SIZE_MAX) wanted.len -= begun;
      begun = SIZE_MAX;
    } else if ((op & 7) == 6) {
      FUZZ_CHECK(channel_flush(&out) >= 0);
      FUZZ_CHECK(channel_read(&in) >= 0);
    } else if ((op & 7) == 7) {
      channel_trim(&in);
    }
    while ((op & 7) == 6 && channel_next(&in, &f) == 1) {
      if (f.length > 0)
        FUZZ_CHECK(memcmp(f.bytes, wanted.data + at, f.length) == 0);
      at += f.length;
    }
  }
  channel_abort(&out);
  if (begun != SIZE_MAX) wanted.len -= begun;
  for (int done = 0; !done;) {
    done = channel_flush(&out);
    FUZZ_CHECK(done >= 0 && channel_read(&in) >= 0);
    while (channel_next(&in, &f) == 1) {
      if (f.length > 0)
        FUZZ_CHECK(memcmp(f.bytes, wanted.data + at, f.length) == 0);
      at += f.length;
    }
  }
  FUZZ_CHECK(at == wanted.len && out.sent == in.received);
  in.rfd = out.wfd = -1;
  channel_free(&in);
  channel_free(&out);
  buffer_free(&wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (ends[0] < 0) {
    FUZZ_CHECK(process_pipe(ends) == 1);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
  }
  if (size == 0) return 0;
  size_t n = least(data[0], size - 1);
  read_stream(data + 1, n, data + 1 + n, size - 1 - n);
  write_stream(data + 1 + n, size - 1 - n);
  return 0;
}
