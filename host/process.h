// SPDX-License-Identifier: MIT
// Child processes: the one fork, the child's checklist, kill, reap. No Lua.
//
// Every descriptor that belongs to one child only (pipe ends, pidfds, epoll
// instances) is entered in a table here; the fork closes all of them in the
// child but those it was told to keep. Every live child is in a list, so that
// leaving this process by any way ends them.
#ifndef LUAPOOL_PROCESS_H
#define LUAPOOL_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
  PROCESS_EXIT_GRACE = 1000,  // ms that children are given when we exit, unless
                              // process_set_exit_grace says otherwise
  PROCESS_UNFIT = 125,    // exit status of a child that failed its checklist
  PROCESS_UNKNOWN = 255,  // exit status where somebody else has reaped it
};

struct process {
  pid_t pid;   // 0 before the fork and after the reap
  int pidfd;   // readable once the process has ended; -1 if none
  int status;  // of waitpid, once reaped
  bool reaped;
  struct process *next;  // list of live children
};

// Pipes whose both ends are close-on-exec and above fd 2, entered in the table.
// fds[0] reads, fds[1] writes. 1, or -1 with errno and nothing open.
int process_pipe(int fds[2]);
int process_own_fd(int fd);      // enter an fd into the table; 1, -1 errno
void process_disown_fd(int fd);  // forget it (before it is closed)
void process_close(int *fd);     // forget, close, set to -1; errno stays

// Moves an fd that was opened while some of 0-2 were closed above them. Returns
// the new one, close-on-exec; -1 with errno, and fd is closed. -1 gives -1.
int process_raise_fd(int fd);

// Forks. Parent: 1 with *p filled in, -1 with errno and nothing left behind.
// Child: 0, after its checklist: own process group, parent-death signal, only
// the `keep` descriptors of the table open, stdin from /dev/null, default
// signal actions (SIGINT does nothing, but programs it starts do not inherit
// that), no signal blocked, stdout line-buffered, exit() turned into flush and
// _exit, and an empty list of children: those of the parent count as reaped
// here, and every function does nothing to them.
int process_fork(struct process *p, const int *keep, size_t n_keep);

// A program to be started. Lists end in NULL.
struct process_program {
  const char *path, *directory;  // where it is; where it runs, NULL: here
  char *const *argv, *const *envp;
};

// Starts a program as a child like any other: a group of its own that ends with
// this process. *output is a non-blocking descriptor that reads what it prints
// on both its outputs, entered in the table. 1, or -1 with errno and nothing left
// behind. One that cannot be executed says so there and exits with 127.
int process_start_program(struct process *p, const struct process_program *what,
                          int *output);

// Child: end its own children, flush stdio and _exit (sanitizer and coverage
// reports first). A status of 0 becomes 1 where stdout could not be written.
_Noreturn void process_exit(int status);

// Child: writes what has been printed, the unfinished line too. false where some
// could not be written. In another process there is nothing to write.
bool process_flush_stdout(void);

// What has been printed and not been written yet, as far as it can be written
// without waiting, and without the locks of stdio: the last act of a signal
// handler before _exit. A line being printed may be cut. Async-signal-safe.
void process_spill_stdout(void);

// True in a process made by process_fork.
bool process_is_child(void);

// A signal to the process group; nothing where it was reaped.
void process_kill(struct process *p, int sig);

// Without waiting: 1 it has ended (its group is killed, it is reaped, status is
// set, the pidfd closed), 0 it has not, -1 ECHILD: never forked, or not ours.
// Reaped by somebody else, who has the status: exit status PROCESS_UNKNOWN, and
// no group is killed, since its number may be another's by now.
int process_reap(struct process *p);

// Waits until it has ended, TERM first, KILL after `grace` ms; reaps.
void process_end(struct process *p, int grace);

// Ends every live child of this process: TERM, `grace` ms, KILL, reap. Runs at
// exit too (registered at the first fork; does nothing in a forked child that
// inherited the list).
void process_end_all(int grace);

// How many ms they are given at exit from now on; not inherited by children.
void process_set_exit_grace(int ms);

// Kills every live child's group without reaping. Async-signal-safe.
void process_kill_all(void);

// CPUs this process may use: max(1, min(affinity, ceil(cgroup quota),
// ceil(MB / 1769) where AWS_LAMBDA_FUNCTION_MEMORY_SIZE is set)).
int process_cpu_count(void);

// SIGPIPE during our own writes is an error code: between these two a SIGPIPE
// that our write raises is swallowed. It keeps its disposition otherwise.
void process_pipe_guard_begin(void);
void process_pipe_guard_end(void);

// A worker has died of SIGPIPE: so do we, if our stdout, which is also its, has
// no reader any more (`luapool job.lua | head -1`, where the tasks print).
void process_follow_sigpipe(void);

// What the host does once at its start: opens /dev/null on those of fds 0-2
// that are closed, SIGCHLD default where it was ignored, an empty signal mask.
// The module in stock lua5.4 calls process_prepare before its first fork, which
// does only what forking needs (SIGCHLD).
void process_start(void);
void process_prepare(void);

#endif
