// SPDX-License-Identifier: MIT
// For LD_PRELOAD: the n-th allocation from now on fails, and all after it where
// it is for good. Set by luapool_starve (harm.starve), in that process alone:
// its children are fed.
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t each);
void *__libc_realloc(void *p, size_t n);
int luapool_starve(long n, int for_good);

static long left;  // allocations until the one that fails; 0: none will
static bool lasting, failed;
static pid_t starved;

int luapool_starve(long n, int for_good) {
  bool was = failed;
  left = n;
  lasting = for_good;
  failed = false;
  starved = getpid();
  return was;
}

static bool fails(void) {
  if (left == 0 || starved != getpid()) return false;
  if (left > 1) {
    left--;
    return false;
  }
  if (!lasting) left = 0;
  failed = true;
  errno = ENOMEM;
  return true;
}

void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }

void *calloc(size_t n, size_t each) {
  return fails() ? NULL : __libc_calloc(n, each);
}

void *realloc(void *p, size_t n) {
  return fails() ? NULL : __libc_realloc(p, n);
}
