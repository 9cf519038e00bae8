// SPDX-License-Identifier: MIT
// Signals: what the host undoes at its start, what a fork needs, what a child
// starts with, and SIGPIPE. Every disposition set here is a handler and never
// SIG_IGN: programs started by a task would inherit that one. The handlers stay
// for good: the module for stock lua5.4 is linked so that it is never unloaded.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "process.h"
#include "process_impl.h"

// Of this thread, since SIGPIPE is sent to the thread that writes.
// initial-exec: a handler must not allocate thread storage.
static _Thread_local volatile sig_atomic_t guarding
    __attribute__((tls_model("initial-exec")));

static void set_action(int sig, void (*f)(int)) {
  struct sigaction sa = {.sa_handler = f, .sa_flags = SA_RESTART};
  sigemptyset(&sa.sa_mask);
  sigaction(sig, &sa, NULL);
}

static void on_sigpipe(int sig) {
  if (guarding) return;
  set_action(sig, SIG_DFL);
  raise(sig);  // blocked until this handler returns; then it kills
}

void process_pipe_guard_begin(void) { guarding = 1; }
void process_pipe_guard_end(void) { guarding = 0; }

static void guard_sigpipe(void) {
  struct sigaction sa;
  if (sigaction(SIGPIPE, NULL, &sa) < 0 || (sa.sa_flags & SA_SIGINFO)) return;
  if (sa.sa_handler == SIG_DFL) set_action(SIGPIPE, on_sigpipe);
}

void process_follow_sigpipe(void) {
  struct sigaction sa;
  struct pollfd out = {.fd = STDOUT_FILENO};
  if (poll(&out, 1, 0) != 1 || !(out.revents & POLLERR)) return;
  if (sigaction(SIGPIPE, NULL, &sa) < 0 || sa.sa_handler != on_sigpipe) return;
  set_action(SIGPIPE, SIG_DFL);
  raise(SIGPIPE);
}

// The kernel reaps children by itself, status and all, where SIGCHLD is ignored
// or SA_NOCLDWAIT set. A handler of somebody else stays.
static void keep_zombies(void) {
  struct sigaction sa;
  if (sigaction(SIGCHLD, NULL, &sa) < 0) return;
  bool ignored = !(sa.sa_flags & SA_SIGINFO) && sa.sa_handler == SIG_IGN;
  if (!ignored && !(sa.sa_flags & SA_NOCLDWAIT)) return;
  if (ignored) sa.sa_handler = SIG_DFL;
  sa.sa_flags &= ~SA_NOCLDWAIT;
  sigaction(SIGCHLD, &sa, NULL);
}

void process_prepare(void) {
  keep_zombies();
  guard_sigpipe();
}

static void fill_std_fds(void) {
  for (int fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
      open("/dev/null", O_RDWR);  // takes the lowest free, which is fd
}

void process_start(void) {
  fill_std_fds();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  process_prepare();
}

// In a child from here on.

static pid_t group, forker;

// Ends this process and all that it has started, where the parent is gone. What
// a task has forked without exec inherits the handlers but not the duty.
static void follow_parent(void) {
  if (getpid() != group || getppid() == forker) return;
  kill(-group, SIGKILL);
  raise(SIGKILL);  // in case the task has left the group
}

static void on_continue(int sig) {
  (void)sig;
  follow_parent();
}

// An orphaned group with a stopped member is sent SIGHUP by the kernel, which,
// being the lower number, comes before SIGCONT. By its default action it would
// spare what runs under nohup.
static void on_hangup(int sig) {
  follow_parent();
  set_action(sig, SIG_DFL);
  raise(sig);
}

// SIGINT is for the parent to deal with.
static void on_interrupt(int sig) { (void)sig; }

void process_child_signals(void) {
  for (int sig = 1; sig <= SIGRTMAX; sig++) set_action(sig, SIG_DFL);
  set_action(SIGINT, on_interrupt);
  guard_sigpipe();
  guarding = 0;
}

// SIGKILL as the parent-death signal would leave the programs that a task has
// started behind; a handler takes the whole group along. A handler of any other
// signal than SIGCONT would not run in a stopped worker (whose group is not
// always orphaned: the new parent may be of its session). It stands before prctl
// asks for the signal; a parent that died before that is noticed by its pid.
bool process_die_with(pid_t parent) {
  group = getpid();
  forker = parent;
  set_action(SIGCONT, on_continue);
  set_action(SIGHUP, on_hangup);
  if (prctl(PR_SET_PDEATHSIG, SIGCONT) < 0) return false;
  follow_parent();
  return true;
}
