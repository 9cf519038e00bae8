// SPDX-License-Identifier: MIT
// Children: the one fork, what a child does first and last, kill, reap. Called
// by lib.c and its like; only the thread that forked may call on its children.
// A child's death is known by its pidfd and by waitid of that very pid: there is
// no SIGCHLD handler and no wait for just anyone, since programs that the script
// starts are not ours.
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "process_impl.h"

static struct process *live;  // forked and not yet reaped
static pid_t owner;           // the process whose children those are
static bool child;            // made by process_fork
static int exit_grace = PROCESS_EXIT_GRACE;

bool process_is_child(void) { return child; }

static void forget(struct process *p) {
  struct process **at = &live;
  while (*at && *at != p) at = &(*at)->next;
  if (*at) *at = p->next;
  p->next = NULL;
  p->pid = 0;
  p->reaped = true;
  process_close(&p->pidfd);
}

// Leaving a child.

// Reports of sanitizers and coverage, which they make at exit; in other builds
// these are null.
extern void __lsan_do_leak_check(void) __attribute__((weak));
extern void __gcov_dump(void) __attribute__((weak));
extern int __llvm_profile_write_file(void) __attribute__((weak));

// What it prints is flushed, but nothing else of exit() happens: that would run
// handlers inherited from the parent, and rewind files that the parent reads,
// whose offset both share.
void process_exit(int status) {
  process_end_all(exit_grace);
  fflush(NULL);
  if ((!process_flush_stdout() || ferror(stdout)) && status == 0) status = 1;
  if (__lsan_do_leak_check) __lsan_do_leak_check();
  if (__gcov_dump) __gcov_dump();
  if (__llvm_profile_write_file) __llvm_profile_write_file();
  _exit(status);
}

static void on_child_exit(int status, void *unused) {
  (void)unused;
  process_exit(status);
}

static void on_parent_exit(void) { process_end_all(exit_grace); }

// Entering a child.

static void stdin_from_null(void) {
  __fpurge(stdin);  // what the parent has read ahead is the parent's
  clearerr(stdin);
  int fds[2] = {open("/dev/null", O_RDONLY | O_CLOEXEC), -1};
  if (fds[0] < 0) {  // an empty pipe ends likewise
    if (pipe2(fds, O_CLOEXEC) < 0) return;
    close(fds[1]);
  }
  if (fds[0] == 0) {
    fcntl(0, F_SETFD, 0);
  } else {
    dup2(fds[0], 0);
    close(fds[0]);
  }
}

static void no_children(void) {
  while (live) forget(live);
  owner = getpid();
  exit_grace = PROCESS_EXIT_GRACE;
}

static void become_child(pid_t parent, const int *keep, size_t n_keep) {
  child = true;
  // 1. A group of its own, to be killed with all that it starts.
  if (setpgid(0, 0) < 0) _exit(PROCESS_UNFIT);
  // 2. Signals as in a fresh program, still blocked.
  process_child_signals();
  // 3. No life without the parent.
  if (!process_die_with(parent)) _exit(PROCESS_UNFIT);
  // 4. Nothing of other workers: neither descriptors nor the duty to end them.
  no_children();
  process_close_all_but(keep, n_keep);
  // 5. Standard streams of its own.
  stdin_from_null();
  if (!process_stdout_by_lines()) _exit(PROCESS_UNFIT);
  // 6. Leaving by any exit() means process_exit: handlers run last first.
  if (on_exit(on_child_exit, NULL) != 0) _exit(PROCESS_UNFIT);
  // 7. Now signals may come. None is blocked, whatever the parent's mask: TERM
  // and the parent's death must get through, and programs inherit the mask.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

// The parent's half of a fork.

static pid_t wait_for(pid_t pid, int *status) {
  pid_t r;
  do {
    r = waitpid(pid, status, 0);
  } while (r < 0 && errno == EINTR);
  return r;
}

static int open_pidfd(pid_t pid) {
  return process_raise_fd((int)syscall(SYS_pidfd_open, pid, 0));
}

// Some machines have no pidfds: old kernels, gVisor, valgrind, containers whose
// seccomp filter knows no such call. There a pipe does, whose other end is the
// child's alone: the child's end closes it. (A task may do so too, or hand it on
// to what it forks; whether the child has ended is never asked of it.)
static bool has_pidfds(void) {
  static int known;
  if (known == 0) {
    int fd = open_pidfd(getpid());
    known = fd < 0 && (errno == ENOSYS || errno == EPERM) ? -1 : 1;
    process_close(&fd);
  }
  return known > 0;
}

// Left in no table, the writing end stays open in the child.
static int lifeline_open(int fds[2]) {
  fds[0] = fds[1] = -1;
  if (has_pidfds()) return 1;
  if (process_pipe(fds) < 0) return -1;
  process_disown_fd(fds[1]);
  return 1;
}

// Takes the child's lifeline, if any, over.
static int adopt(struct process *p, pid_t pid, int *lifeline) {
  setpgid(pid, pid);  // the child does it too: whoever comes first
  int fd = *lifeline >= 0 ? *lifeline : open_pidfd(pid);
  *lifeline = -1;
  if (fd < 0 || process_own_fd(fd) < 0) goto fail;
  p->pid = pid;
  p->pidfd = fd;
  p->next = live;
  live = p;
  return 1;

fail:;
  int saved = errno;
  if (fd >= 0) close(fd);
  kill(pid, SIGKILL);
  wait_for(pid, NULL);
  errno = saved;
  return -1;
}

static int at_exit_once(void) {
  static bool done;
  if (done) return 1;
  if (atexit(on_parent_exit) != 0) {
    errno = ENOMEM;
    return -1;
  }
  done = true;
  return 1;
}

int process_fork(struct process *p, const int *keep, size_t n_keep) {
  *p = (struct process){.pidfd = -1};
  process_prepare();
  if (at_exit_once() < 0) return -1;
  if (owner != getpid()) no_children();  // those of whoever forked us by hand
  int lifeline[2];
  if (lifeline_open(lifeline) < 0) return -1;
  fflush(NULL);
  process_flush_stdout();
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    become_child(parent, keep, n_keep);
    return 0;
  }
  int r = pid < 0 ? -1 : adopt(p, pid, &lifeline[0]);
  int saved = errno;
  process_close(&lifeline[0]);
  process_close(&lifeline[1]);
  sigprocmask(SIG_SETMASK, &before, NULL);
  errno = saved;
  return r;
}

// Ending children.

// Is there a process of ours to which this pid belongs?
static bool alive(const struct process *p) {
  return p->pid > 0 && !p->reaped && owner == getpid();
}

void process_kill(struct process *p, int sig) {
  if (!alive(p)) return;
  int saved = errno;
  // Until it is reaped neither its pid nor its group's number can be another's.
  // The task may have moved it to another group.
  bool in_group = getpgid(p->pid) == p->pid;
  if (kill(-p->pid, sig) < 0 || !in_group) kill(p->pid, sig);
  errno = saved;
}

int process_reap(struct process *p) {
  if (p->reaped) return 1;
  if (!alive(p)) {
    errno = ECHILD;
    return -1;
  }
  siginfo_t info;
  int r;
  do {
    info.si_pid = 0;
    r = waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT);
  } while (r < 0 && errno == EINTR);
  if (r == 0 && info.si_pid == 0) return 0;
  if (r == 0) kill(-p->pid, SIGKILL);  // its pid is still its own
  if (r < 0 || wait_for(p->pid, &p->status) < 0)
    p->status = W_EXITCODE(PROCESS_UNKNOWN, 0);  // somebody else has reaped it
  forget(p);
  return 1;
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Waits until it has ended or the clock says `until` (-1: for ever); reaps it in
// the former case.
static bool reap_until(struct process *p, int64_t until) {
  for (;;) {
    int r = process_reap(p);
    if (r != 0) return true;
    int64_t left = until < 0 ? -1 : until - now_ms();
    if (until >= 0 && left <= 0) return false;
    if (left > INT32_MAX) left = INT32_MAX;
    struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};
    poll(&fd, 1, (int)left);  // EINTR and the like: look again
  }
}

// A stopped process would not act on TERM before it is continued.
static void ask_to_end(struct process *p) {
  process_kill(p, SIGTERM);
  process_kill(p, SIGCONT);
}

void process_end(struct process *p, int grace) {
  if (!alive(p)) return;
  int saved = errno;
  ask_to_end(p);
  if (!reap_until(p, now_ms() + grace)) {
    process_kill(p, SIGKILL);
    reap_until(p, -1);
  }
  errno = saved;
}

void process_end_all(int grace) {
  if (!live || owner != getpid()) return;
  int saved = errno;
  struct process *p, *next;
  for (p = live; p; p = p->next) ask_to_end(p);
  int64_t until = now_ms() + grace;
  for (p = live; p; p = next) {
    next = p->next;
    reap_until(p, until);
  }
  for (p = live; p; p = p->next) process_kill(p, SIGKILL);
  while (live) reap_until(live, -1);
  errno = saved;
}

void process_set_exit_grace(int ms) { exit_grace = ms; }

// The handler may have come in the middle of a change of the list. One that is
// missed then, or not in it yet, ends with this process all the same.
void process_kill_all(void) {
  if (owner != getpid()) return;
  for (const struct process *p = live; p; p = p->next) {
    pid_t pid = *(const volatile pid_t *)&p->pid;
    if (pid <= 0) continue;
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
  }
}
