// SPDX-License-Identifier: MIT
// The table of descriptors that belong to one child only (process.h): a bit for
// each, so that entering one allocates nothing below fd 1024 and is checked
// above it. Called by whoever opens such descriptors, and by process.c.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process.h"
#include "process_impl.h"

enum { BITS = 64, FIRST_WORDS = 1024 / BITS };

static uint64_t first_words[FIRST_WORDS];
static uint64_t *table = first_words;
static size_t n_words = FIRST_WORDS;

static int grow(size_t least) {
  size_t n = n_words;
  while (n < least) n *= 2;
  uint64_t *t = calloc(n, sizeof *t);
  if (!t) return -1;
  memcpy(t, table, n_words * sizeof *t);
  if (table != first_words) free(table);
  table = t;
  n_words = n;
  return 1;
}

int process_own_fd(int fd) {
  if (fd < 0) {
    errno = EBADF;
    return -1;
  }
  size_t word = (size_t)fd / BITS;
  if (word >= n_words && grow(word + 1) < 0) return -1;
  table[word] |= UINT64_C(1) << ((unsigned)fd % BITS);
  return 1;
}

void process_disown_fd(int fd) {
  if (fd < 0 || (size_t)fd / BITS >= n_words) return;
  table[(size_t)fd / BITS] &= ~(UINT64_C(1) << ((unsigned)fd % BITS));
}

void process_close(int *fd) {
  if (*fd < 0) return;
  int saved = errno;
  process_disown_fd(*fd);
  close(*fd);  // on Linux closed even where it says EINTR
  *fd = -1;
  errno = saved;
}

int process_raise_fd(int fd) {
  if (fd < 0 || fd > 2) return fd;
  int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  int saved = errno;
  close(fd);
  errno = saved;
  return high;
}

int process_pipe(int fds[2]) {
  if (pipe2(fds, O_CLOEXEC) < 0) {
    fds[0] = fds[1] = -1;
    return -1;
  }
  for (int i = 0; i < 2; i++) {
    fds[i] = process_raise_fd(fds[i]);
    if (fds[i] < 0 || process_own_fd(fds[i]) < 0) goto fail;
  }
  return 1;

fail:
  process_close(&fds[0]);
  process_close(&fds[1]);
  return -1;
}

static bool has(const int *fds, size_t n, int fd) {
  for (size_t i = 0; i < n; i++)
    if (fds[i] == fd) return true;
  return false;
}

void process_close_all_but(const int *keep, size_t n_keep) {
  for (size_t word = 0; word < n_words; word++) {
    for (uint64_t left = table[word]; left; left &= left - 1) {
      int fd = (int)word * BITS + __builtin_ctzll(left);
      if (!has(keep, n_keep, fd)) process_close(&fd);
    }
  }
}
