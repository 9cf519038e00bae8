// SPDX-License-Identifier: MIT
// Programs as children (process.h). Between us and the program stands a child
// of the usual kind, which starts the program in its own group, waits for it and
// ends as it did. For a program can be made to die with its parent, but not to
// take along what it has started itself: that needs a handler, and exec takes
// handlers away.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process.h"

enum { CANNOT_START = 127 };  // exit status, as a shell has it

// TERM is for the program: its keeper lives on to see how it ends. A handler
// that exec takes away.
static void on_term(int sig) { (void)sig; }

static void keep_signals(void) {
  struct sigaction sa = {.sa_handler = on_term, .sa_flags = SA_RESTART};
  sigemptyset(&sa.sa_mask);
  sigaction(SIGTERM, &sa, NULL);
}

// Only the standard streams are left open, with `output` as both outputs.
static bool take_streams(int output) {
  if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
    return false;
  return close_range(STDERR_FILENO + 1, ~0U, 0) == 0;
}

// As the program ended: of the same signal, without a core of the keeper's own.
static _Noreturn void end_like(int status) {
  if (!WIFSIGNALED(status)) _exit(WEXITSTATUS(status));
  const struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  signal(WTERMSIG(status), SIG_DFL);
  raise(WTERMSIG(status));
  _exit(128 + WTERMSIG(status));
}

static _Noreturn void cannot(const char *what, const char *name) {
  dprintf(STDERR_FILENO, "could not %s %s: %s\n", what, name, strerror(errno));
  _exit(CANNOT_START);
}

static _Noreturn void keep_program(const struct process_program *what,
                                   int output) {
  pid_t pid;
  int status;
  keep_signals();
  if (!take_streams(output)) cannot("start", what->path);
  if (what->directory != NULL && chdir(what->directory) < 0)
    cannot("enter", what->directory);
  errno = posix_spawn(&pid, what->path, NULL, NULL, what->argv, what->envp);
  if (errno != 0) cannot("start", what->path);
  close(STDOUT_FILENO);  // the end of the output is the program's end of it
  close(STDERR_FILENO);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  end_like(status);
}

int process_start_program(struct process *p, const struct process_program *what,
                          int *output) {
  int fds[2];
  *output = -1;
  if (process_pipe(fds) < 0) return -1;
  int flags = fcntl(fds[0], F_GETFL);
  if (flags < 0 || fcntl(fds[0], F_SETFL, flags | O_NONBLOCK) < 0) goto fail;
  int r = process_fork(p, &fds[1], 1);
  if (r == 0) keep_program(what, fds[1]);
  if (r < 0) goto fail;
  process_close(&fds[1]);
  *output = fds[0];
  return 1;

fail:
  process_close(&fds[0]);
  process_close(&fds[1]);
  return -1;
}
