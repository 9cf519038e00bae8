// SPDX-License-Identifier: MIT
// A worker's standard output: by lines, none of which is mixed with another
// worker's. A pipe takes PIPE_BUF bytes at once or not at all, and more than that
// in pieces between which others may write. So what stdio hands over is cut at
// line ends into pieces of at most that size. Called by process.c in a child.
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <unistd.h>

#include "process.h"
#include "process_impl.h"

static_assert(PIPE_BUF == 4096, "the length of a line that is not mixed");

// The beginning of a line whose end is still to come: a large write is handed
// over in pieces that end anywhere.
static char held[PIPE_BUF];
static size_t n_held;

static FILE *ours;

static bool write_all(const char *p, size_t n) {
  while (n > 0) {
    ssize_t r = write(STDOUT_FILENO, p, n);
    if (r < 0 && errno == EINTR) continue;
    if (r < 0) return false;
    p += r;
    n -= (size_t)r;
  }
  return true;
}

static bool write_held(void) {
  size_t n = n_held;
  n_held = 0;
  return write_all(held, n);
}

// Takes what belongs to the held line. Returns how much that was.
static size_t complete_held(const char *p, size_t n) {
  const char *end = memchr(p, '\n', n);
  size_t rest = end ? (size_t)(end - p) + 1 : n;
  if (rest > sizeof held - n_held) return 0;
  memcpy(held + n_held, p, rest);
  n_held += rest;
  return rest;
}

// The bytes up to the last line end among the first n; n where there is none.
static size_t whole_lines(const char *p, size_t n) {
  const char *end = memrchr(p, '\n', n);
  return end ? (size_t)(end - p) + 1 : n;
}

static bool write_lines(const char *p, size_t n) {
  bool large = n > sizeof held;
  while (n > sizeof held) {
    size_t piece = whole_lines(p, sizeof held);
    if (!write_all(p, piece)) return false;
    p += piece;
    n -= piece;
  }
  size_t piece = large ? whole_lines(p, n) : n;
  if (large && piece == n && n > 0 && p[n - 1] != '\n') piece = 0;
  if (!write_all(p, piece)) return false;
  memcpy(held, p + piece, n - piece);
  n_held = n - piece;
  return true;
}

// 0 is an error, as fopencookie(3) has it.
static ssize_t f_write(void *cookie, const char *p, size_t n) {
  (void)cookie;
  size_t taken = n_held > 0 ? complete_held(p, n) : 0;
  if (n_held > 0 && !write_held()) return 0;
  return write_lines(p + taken, n - taken) ? (ssize_t)n : 0;
}

bool process_flush_stdout(void) {
  if (stdout != ours) return true;
  bool done = __fpending(stdout) == 0 || fflush(stdout) == 0;
  return (n_held == 0 || write_held()) && done;
}

bool process_stdout_by_lines(void) {
  // Static: it must be there for as long as anything can print.
  static char buffer[64 * 1024];
  const cookie_io_functions_t io = {.write = f_write};
  __fpurge(stdout);  // not empty where the parent could not flush it
  n_held = 0;
  if (stdout == ours) return true;  // the parent is a worker itself
  ours = fopencookie(NULL, "w", io);
  if (ours == NULL) return false;
  setvbuf(ours, buffer, _IOLBF, sizeof buffer);
  stdout = ours;
  return true;
}

// As much as the descriptor takes without waiting. Pieces of that size a pipe
// that is ready takes at once.
static void write_ready(const char *p, size_t n) {
  struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
  while (n > 0 && poll(&out, 1, 0) == 1) {
    ssize_t r = write(STDOUT_FILENO, p, n < PIPE_BUF ? n : PIPE_BUF);
    if (r <= 0) return;
    p += r;
    n -= (size_t)r;
  }
}

void process_spill_stdout(void) {
  const char *base = stdout->_IO_write_base, *end = stdout->_IO_write_ptr;
  if (stdout == ours) write_ready(held, n_held);
  if (base != NULL && end > base) write_ready(base, (size_t)(end - base));
}
