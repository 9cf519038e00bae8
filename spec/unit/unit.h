// SPDX-License-Identifier: MIT
// A test program in C: unit_begin, checks, unit_end. Included once by each.
#ifndef LUAPOOL_UNIT_H
#define LUAPOOL_UNIT_H

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int unit_passed, unit_failed, unit_fds;

#define CHECK(x) unit_check((x) ? 1 : 0, #x, __LINE__)

static inline void unit_check(int ok, const char *what, int line) {
  if (ok) {
    unit_passed++;
  } else {
    unit_failed++;
    fprintf(stderr, "line %d: not so: %s (errno %d)\n", line, what, errno);
  }
}

static inline int unit_count_fds(void) {
  int n = 0;
  DIR *d = opendir("/proc/self/fd");
  if (!d) return -1;
  while (readdir(d)) n++;
  closedir(d);
  return n;
}

// Orphans come to this process, so that none can hide; and nothing hangs.
static inline void unit_begin(unsigned seconds) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGCHLD, SIG_DFL);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  alarm(seconds);
  unit_fds = unit_count_fds();
}

// Waits until no child and no orphan is left; returns how many there were.
static inline int unit_reap_all(void) {
  int n = 0;
  for (;;) {
    if (waitpid(-1, NULL, 0) > 0)
      n++;
    else if (errno != EINTR)
      return n;
  }
}

static inline int unit_end(void) {
  CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
  CHECK(unit_count_fds() == unit_fds);
  printf("%d passed, %d failed\n", unit_passed, unit_failed);
  return unit_failed != 0;
}

#endif
