// SPDX-License-Identifier: MIT
#include "process.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "process_impl.h"
#include "unit.h"

static long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int exited(const struct process *p, int status) {
  return p->reaped && WIFEXITED(p->status) && WEXITSTATUS(p->status) == status;
}

static int killed(const struct process *p, int sig) {
  return p->reaped && WIFSIGNALED(p->status) && WTERMSIG(p->status) == sig;
}

// Waits without a signal, as lib.c does.
static void await(struct process *p) {
  struct pollfd fd = {p->pidfd, POLLIN, 0};
  while (process_reap(p) == 0) poll(&fd, 1, -1);
}

// Children say by a byte that they are where the test wants them.
static void say(int fd) {
  if (write(fd, "", 1) != 1) _exit(9);
}

static void hear(int fd) {
  char c;
  CHECK(read(fd, &c, 1) == 1);
}

static void wait_forever(void) {
  for (;;) pause();
}

// Descriptors.

static void pipes_are_high(void) {
  struct process p;
  if (process_fork(&p, NULL, 0) == 0) {
    int fds[2];
    for (int fd = 0; fd <= 2; fd++) close(fd);
    if (process_pipe(fds) != 1 || fds[0] < 3 || fds[1] < 3) _exit(1);
    if (fcntl(fds[0], F_GETFD) != FD_CLOEXEC) _exit(2);
    if (fcntl(fds[1], F_GETFD) != FD_CLOEXEC) _exit(3);
    for (int fd = 0; fd <= 2; fd++)
      if (fcntl(fd, F_GETFD) >= 0) _exit(4);
    struct process q;
    int forked = process_fork(&q, &fds[1], 1);
    if (forked == 0) {
      say(fds[1]);
      _exit(0);
    }
    if (forked < 0 || q.pidfd < 3) _exit(5);
    char c;
    if (read(fds[0], &c, 1) != 1) _exit(6);
    await(&q);
    process_start();
    for (int fd = 0; fd <= 2; fd++)
      if (fcntl(fd, F_GETFD) < 0) _exit(7);
    _exit(0);
  }
  await(&p);
  CHECK(exited(&p, 0));
}

static void out_of_fds(void) {
  struct rlimit old, low;
  getrlimit(RLIMIT_NOFILE, &old);
  int lowest = dup(0), fds[2] = {7, 7};
  close(lowest);
  for (int spare = 0; spare <= 1; spare++) {
    low = old;
    low.rlim_cur = (rlim_t)(lowest + spare);
    setrlimit(RLIMIT_NOFILE, &low);
    errno = 0;
    CHECK(process_pipe(fds) == -1 && errno == EMFILE);
    CHECK(fds[0] == -1 && fds[1] == -1);
  }
  low.rlim_cur = (rlim_t)lowest;
  setrlimit(RLIMIT_NOFILE, &low);
  struct process p;
  errno = 0;
  int r = process_fork(&p, NULL, 0);
  if (r == 0) _exit(0);
  CHECK(r == -1 && errno == EMFILE);
  CHECK(p.pid == 0 && p.pidfd == -1);
  setrlimit(RLIMIT_NOFILE, &old);
  CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static void high_fds(void) {
  struct rlimit old, high;
  getrlimit(RLIMIT_NOFILE, &old);
  high = old;
  high.rlim_cur = old.rlim_max;
  setrlimit(RLIMIT_NOFILE, &high);
  int want = high.rlim_cur > 5000 ? 5000 : (int)high.rlim_cur - 2;
  int kept = fcntl(0, F_DUPFD_CLOEXEC, want);
  int fd = fcntl(0, F_DUPFD_CLOEXEC, want);
  CHECK(process_own_fd(fd) == 1 && process_own_fd(kept) == 1);
  struct process p;
  if (process_fork(&p, &kept, 1) == 0)
    _exit(fcntl(fd, F_GETFD) >= 0 ? 1 : fcntl(kept, F_GETFD) < 0 ? 2 : 0);
  await(&p);
  CHECK(exited(&p, 0));
  process_close(&fd);
  process_close(&kept);
  CHECK(fd == -1 && kept == -1);
  setrlimit(RLIMIT_NOFILE, &old);
}

// What a child is.

static int closed(int fd) { return fcntl(fd, F_GETFD) < 0; }

static int checklist(pid_t parent) {
  struct stat in, null;
  if (!process_is_child() || getppid() != parent) return 1;
  if (getpgrp() != getpid()) return 2;
  int sig = 0;
  if (prctl(PR_GET_PDEATHSIG, &sig) < 0 || sig == 0) return 3;
  if (fstat(0, &in) < 0 || stat("/dev/null", &null) < 0) return 5;
  if (in.st_rdev != null.st_rdev || getchar() != EOF) return 6;
  for (int s = 1; s <= SIGRTMAX; s++) {
    struct sigaction sa;
    if (sigaction(s, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN) return 7;
    if (s == SIGTERM && sa.sa_handler != SIG_DFL) return 8;
    if (s == SIGUSR1 && sa.sa_handler != SIG_DFL) return 9;
  }
  sigset_t mask;
  sigprocmask(SIG_SETMASK, NULL, &mask);
  for (int s = 1; s <= SIGRTMAX; s++)
    if (sigismember(&mask, s) == 1) return 10;
  raise(SIGINT);  // is nothing to it
  return 0;
}

static void child_is_clean(void) {
  int a[2], b[2];
  CHECK(process_pipe(a) == 1 && process_pipe(b) == 1);
  struct process other, p;
  if (process_fork(&other, a, 1) == 0) wait_forever();
  signal(SIGUSR1, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  sigset_t all, old;
  sigfillset(&all);
  sigdelset(&all, SIGALRM);
  sigprocmask(SIG_SETMASK, &all, &old);
  pid_t me = getpid();
  if (process_fork(&p, &b[1], 1) == 0) {
    if (!closed(a[0]) || !closed(a[1]) || !closed(b[0]) || closed(b[1]))
      _exit(20);
    if (other.pidfd != -1 || unit_count_fds() != unit_fds + 1) _exit(21);
    _exit(checklist(me));
  }
  sigprocmask(SIG_SETMASK, &old, NULL);
  signal(SIGUSR1, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  CHECK(getpgid(p.pid) == p.pid || errno == ESRCH);
  await(&p);
  CHECK(exited(&p, 0));
  process_end(&other, 1000);
  CHECK(killed(&other, SIGTERM));
  for (int i = 0; i < 2; i++) process_close(&a[i]), process_close(&b[i]);
}

// How a child leaves.

// An exit handler of the parent, which a child must not run.
static void inherited(void) {
  if (process_is_child()) _exit(77);
}

// The file that tests print to in place of stdout.
static FILE *redirect(int *saved) {
  FILE *f = tmpfile();
  fflush(stdout);
  *saved = dup(1);
  dup2(fileno(f), 1);
  return f;
}

static long restore(FILE *f, int saved, char *text, size_t size) {
  fflush(stdout);
  dup2(saved, 1);
  close(saved);
  rewind(f);
  size_t n = fread(text, 1, size - 1, f);
  text[n] = '\0';
  fclose(f);
  return (long)n;
}

static void exit_is_quiet(void) {
  static char text[4096];
  int saved;
  FILE *in = tmpfile();
  for (int i = 0; i < 1000; i++) fprintf(in, "line %d\n", i);
  fflush(in);
  rewind(in);
  int saved_in = dup(0);
  dup2(fileno(in), 0);
  CHECK(getchar() == 'l');  // reads ahead
  CHECK(fgets(text, sizeof text, in) != NULL);
  off_t offset = lseek(0, 0, SEEK_CUR);

  FILE *out = redirect(&saved);
  printf("parent, ");  // not flushed
  struct process p;
  if (process_fork(&p, NULL, 0) == 0) {
    printf("child\nand a half line");
    exit(3);
  }
  await(&p);
  restore(out, saved, text, sizeof text);
  CHECK(exited(&p, 3));
  CHECK(strcmp(text, "parent, child\nand a half line") == 0);
  CHECK(lseek(0, 0, SEEK_CUR) == offset);
  __fpurge(stdin);
  dup2(saved_in, 0);
  close(saved_in);
  fclose(in);
}

static void full_disk(void) {
  struct process p;
  for (int status = 0; status < 3; status += 2) {
    if (process_fork(&p, NULL, 0) == 0) {
      int fd = open("/dev/full", O_WRONLY);
      dup2(fd, 1);
      printf("lost");
      exit(status);
    }
    await(&p);
    CHECK(exited(&p, status ? status : 1));
  }
}

// What the parent could not write is not the child's failure, nor printed by it.
static void parents_full_disk(void) {
  int saved = dup(1), full = open("/dev/full", O_WRONLY);
  fflush(stdout);
  dup2(full, 1);
  printf("lost");
  struct process p;
  if (process_fork(&p, NULL, 0) == 0) {
    dup2(saved, 1);
    exit(0);
  }
  await(&p);
  CHECK(exited(&p, 0));
  dup2(saved, 1);
  __fpurge(stdout);
  clearerr(stdout);
  close(saved);
  close(full);
}

static void lines_are_whole(void) {
  enum { CHILDREN = 4, LINES = 2000 };
  int fds[2], saved = dup(1);
  CHECK(process_pipe(fds) == 1);
  fflush(stdout);
  dup2(fds[1], 1);
  process_close(&fds[1]);
  struct process p[CHILDREN];
  for (int i = 0; i < CHILDREN; i++) {
    if (process_fork(&p[i], NULL, 0) != 0) continue;
    for (int n = 0; n < LINES; n++) {
      for (int k = 0; k < 4095; k += 15) fputs("0123456789abcde", stdout);
      putchar('\n');
    }
    exit(0);
  }
  dup2(saved, 1);
  close(saved);
  FILE *f = fdopen(fds[0], "r");
  process_disown_fd(fds[0]);
  char line[8192];
  int lines = 0, mixed = 0;
  while (fgets(line, sizeof line, f)) {
    lines++;
    mixed += strlen(line) != 4096;
  }
  CHECK(lines == CHILDREN * LINES && mixed == 0);
  fclose(f);
  for (int i = 0; i < CHILDREN; i++) process_end(&p[i], 1000);
}

static void statuses(void) {
  static const int sigs[] = {SIGKILL, SIGSEGV, SIGABRT, SIGBUS, SIGFPE};
  struct process p;
  for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++) {
    if (process_fork(&p, NULL, 0) == 0) {
      struct rlimit none = {0, 0};
      setrlimit(RLIMIT_CORE, &none);
      signal(sigs[i], SIG_DFL);
      raise(sigs[i]);
    }
    await(&p);
    CHECK(killed(&p, sigs[i]));
    CHECK(p.pid == 0 && p.pidfd == -1);
    CHECK(process_reap(&p) == 1);
    process_kill(&p, SIGKILL);  // nobody
    process_end(&p, 0);
  }
  struct process none = {.pidfd = -1};
  CHECK(process_reap(&none) == -1 && errno == ECHILD);
  process_kill(&none, SIGKILL);
  process_end(&none, 0);
}

// Who reaps.

static void sigchld_ignored(void) {
  struct process p;
  signal(SIGCHLD, SIG_IGN);
  if (process_fork(&p, NULL, 0) == 0) exit(5);
  await(&p);
  CHECK(exited(&p, 5));
  struct sigaction sa = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
  sigaction(SIGCHLD, &sa, NULL);
  if (process_fork(&p, NULL, 0) == 0) exit(6);
  await(&p);
  CHECK(exited(&p, 6));
}

static void reaped_by_others(void) {
  struct process p;
  if (process_fork(&p, NULL, 0) == 0) exit(5);
  CHECK(waitpid(p.pid, NULL, 0) == p.pid);
  CHECK(process_reap(&p) == 1);
  CHECK(exited(&p, PROCESS_UNKNOWN));
  if (process_fork(&p, NULL, 0) == 0) exit(5);
  CHECK(waitpid(p.pid, NULL, 0) == p.pid);
  process_end(&p, 1000);
  CHECK(exited(&p, PROCESS_UNKNOWN));
}

// Programs that the script starts keep their statuses.
static void others_keep_theirs(void) {
  struct process p;
  if (process_fork(&p, NULL, 0) == 0) exit(1);
  FILE *f = popen("exit 7", "r");
  await(&p);
  CHECK(WEXITSTATUS(pclose(f)) == 7);
  CHECK(WEXITSTATUS(system("exit 8")) == 8);
}

// Groups.

// A child with one program of its own, which holds `fd`.
static void with_program(int fd, const char *command) {
  pid_t pid = fork();
  if (pid == 0) {
    dup2(fd, 1);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
  }
}

static const char *const programs[] = {
    "sleep 87 & echo; wait", "trap '' TERM HUP INT; sleep 87 & echo; wait"};

static void group_dies(void) {
  for (int how = 0; how < 4; how++) {
    int fds[2];
    CHECK(process_pipe(fds) == 1);
    struct process p;
    if (process_fork(&p, &fds[1], 1) == 0) {
      with_program(fds[1], programs[how % 2]);
      if (how < 2) _exit(0);
      wait_forever();
    }
    hear(fds[0]);
    if (how >= 2) process_kill(&p, SIGUSR1);
    await(&p);
    CHECK(how < 2 ? exited(&p, 0) : killed(&p, SIGUSR1));
    CHECK(unit_reap_all() >= 2);  // sh and sleep
    process_close(&fds[0]);
    process_close(&fds[1]);
  }
}

// A task that moves to another group is ended all the same.
static void leaves_its_group(void) {
  int fds[2];
  CHECK(process_pipe(fds) == 1);
  struct process p;
  pid_t group = getpgrp();
  if (process_fork(&p, &fds[1], 1) == 0) {
    with_program(fds[1], programs[0]);
    setpgid(0, group);
    say(fds[1]);
    wait_forever();
  }
  hear(fds[0]);
  hear(fds[0]);
  process_end(&p, 100);
  CHECK(p.reaped && WIFSIGNALED(p.status));
  unit_reap_all();
  process_close(&fds[0]);
  process_close(&fds[1]);
}

// The duty to end a group does not pass to what a task forks without exec.
static void forked_by_task(void) {
  int fds[2];
  CHECK(process_pipe(fds) == 1);
  struct process p;
  if (process_fork(&p, &fds[1], 1) == 0) {
    if (fork() == 0) {
      raise(SIGCONT);
      say(fds[1]);
    }
    wait_forever();
  }
  process_close(&fds[1]);
  hear(fds[0]);
  CHECK(process_reap(&p) == 0);
  process_end(&p, 1000);
  CHECK(killed(&p, SIGTERM));
  unit_reap_all();
  process_close(&fds[0]);
}

enum behaviour { IDLE, DEAF, STOPPED, LOOPING, BEHAVIOURS };

// Forks a child that behaves like that, with a program of its own, and says so
// once it does.
static int fork_behaving(struct process *p, int how, int fd) {
  int r = process_fork(p, &fd, 1);
  if (r != 0) return r;
  if (how == DEAF) signal(SIGTERM, SIG_IGN), signal(SIGHUP, SIG_IGN);
  with_program(fd, how == IDLE ? "sleep 87 & wait" : "exec nohup sleep 87");
  say(fd);
  if (how == STOPPED) raise(SIGSTOP);
  while (how == LOOPING) now_ms();
  wait_forever();
  return -1;
}

static void await_stop(pid_t pid) {
  siginfo_t info;
  while (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT) < 0) continue;
}

static void ends_each(void) {
  for (int i = 0; i < BEHAVIOURS; i++) {
    int fds[2];
    CHECK(process_pipe(fds) == 1);
    struct process p;
    fork_behaving(&p, i, fds[1]);
    hear(fds[0]);
    if (i == STOPPED) await_stop(p.pid);
    CHECK(process_reap(&p) == 0);
    long start = now_ms();
    process_end(&p, 200);
    long took = now_ms() - start;
    if (i == DEAF)
      CHECK(killed(&p, SIGKILL) && took >= 200);
    else
      CHECK(killed(&p, SIGTERM) && took < 200);
    CHECK(took < 1500);
    unit_reap_all();
    process_close(&fds[0]);
    process_close(&fds[1]);
  }
}

static void ends_all(void) {
  enum { EACH = 3 };
  struct process p[BEHAVIOURS * EACH];
  int fds[2];
  CHECK(process_pipe(fds) == 1);
  for (int i = 0; i < BEHAVIOURS * EACH; i++) {
    fork_behaving(&p[i], i % BEHAVIOURS, fds[1]);
    hear(fds[0]);
  }
  long start = now_ms();
  process_end_all(300);  // one grace for all
  long took = now_ms() - start;
  CHECK(took >= 300 && took < 900);
  for (int i = 0; i < BEHAVIOURS * EACH; i++) CHECK(p[i].reaped);
  process_end_all(300);
  unit_reap_all();
  process_close(&fds[0]);
  process_close(&fds[1]);
}

// The parent's death. `die` is what becomes of a process with a child of each
// behaviour; this process gets what it leaves behind.
static int orphans_of(void (*die)(void)) {
  fflush(NULL);
  pid_t mid = fork();
  if (mid == 0) {
    struct process p[BEHAVIOURS];
    for (int i = 0; i < BEHAVIOURS; i++) {
      int hears[2];
      char c;
      if (process_pipe(hears) < 0) _exit(1);
      if (fork_behaving(&p[i], i, hears[1]) != 1) _exit(2);
      if (read(hears[0], &c, 1) != 1) _exit(3);
      if (i == STOPPED) await_stop(p[i].pid);
    }
    die();
    _exit(4);
  }
  int status = -1;
  waitpid(mid, &status, 0);
  long start = now_ms();
  unit_reap_all();
  CHECK(now_ms() - start < 1000);
  return status;
}

static void die_killed(void) { raise(SIGKILL); }
static void die_by_exit(void) { exit(6); }
static void die_by__exit(void) { _exit(8); }
static void die_terminated(void) { raise(SIGTERM); }

static void parent_dies(void) {
  CHECK(WTERMSIG(orphans_of(die_killed)) == SIGKILL);
  CHECK(WTERMSIG(orphans_of(die_terminated)) == SIGTERM);
  CHECK(WEXITSTATUS(orphans_of(die_by__exit)) == 8);
  CHECK(WEXITSTATUS(orphans_of(die_by_exit)) == 6);
}

static void exit_ends_children(void) {
  int fds[2];
  CHECK(process_pipe(fds) == 1);
  fflush(NULL);
  pid_t mid = fork();
  if (mid == 0) {
    struct process p;
    if (process_fork(&p, &fds[1], 1) == 0) wait_forever();
    pid_t by_hand = fork();
    if (by_hand == 0) exit(0);  // must not end its sibling
    waitpid(by_hand, NULL, 0);
    if (process_reap(&p) != 0) _exit(1);
    dprintf(fds[1], "%d\n", (int)p.pid);
    exit(6);
  }
  int status = -1;
  waitpid(mid, &status, 0);
  CHECK(WEXITSTATUS(status) == 6);
  // Reaped by its parent: it never came to us.
  CHECK(unit_reap_all() == 0);
  process_close(&fds[0]);
  process_close(&fds[1]);
}

static void nested(void) {
  int fds[2];
  CHECK(process_pipe(fds) == 1);
  for (int how = 0; how < 2; how++) {
    struct process p, q;
    if (process_fork(&p, &fds[1], 1) == 0) {
      int hears[2];
      if (process_pipe(hears) < 0) _exit(1);
      if (fork_behaving(&q, DEAF, hears[1]) != 1) _exit(2);
      hear(hears[0]);
      say(fds[1]);
      if (how == 0) exit(4);
      wait_forever();
    }
    hear(fds[0]);
    if (how == 1) process_kill(&p, SIGKILL);
    await(&p);
    CHECK(how == 0 ? exited(&p, 4) : killed(&p, SIGKILL));
    unit_reap_all();
  }
  process_close(&fds[0]);
  process_close(&fds[1]);
}

// Siblings of a child are out of its reach.
static void children_own_nothing(void) {
  struct process a, b;
  if (process_fork(&a, NULL, 0) == 0) wait_forever();
  if (process_fork(&b, NULL, 0) == 0) {
    process_kill(&a, SIGKILL);
    process_end(&a, 0);
    process_end_all(0);
    exit(a.reaped && a.pid == 0 ? 0 : 1);
  }
  await(&b);
  CHECK(exited(&b, 0));
  CHECK(process_reap(&a) == 0);
  process_end(&a, 1000);
}

// fork fails.

static void fork_fails(void) {
  fflush(NULL);
  pid_t mid = fork();
  if (mid == 0) {
    struct rlimit few = {1, 1};
    int fds[2];
    if (process_pipe(fds) < 0) _exit(1);
    if (setrlimit(RLIMIT_NPROC, &few) < 0) _exit(2);
    if (getuid() == 0 && setuid(65500) < 0) _exit(3);
    pid_t pid = fork();  // root in a user namespace has no limit
    if (pid >= 0) {
      if (pid > 0) waitpid(pid, NULL, 0);
      _exit(0);
    }
    struct process p;
    int before = unit_count_fds();
    sigset_t mask;
    errno = 0;
    int r = process_fork(&p, NULL, 0);
    if (r == 0) _exit(0);
    if (r != -1 || errno != EAGAIN) _exit(4);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    if (!sigisemptyset(&mask)) _exit(5);
    if (unit_count_fds() != before || p.pid != 0) _exit(6);
    _exit(0);
  }
  int status = -1;
  waitpid(mid, &status, 0);
  CHECK(status == 0);
}

// Signals.

static void sigpipe(void) {
  struct process p;
  for (int how = 0; how < 3; how++) {
    if (process_fork(&p, NULL, 0) == 0) {
      int fds[2];
      if (process_pipe(fds) < 0) _exit(1);
      close(fds[0]);
      if (how == 0) {  // ours: an error code
        process_pipe_guard_begin();
        ssize_t r = write(fds[1], "x", 1);
        process_pipe_guard_end();
        _exit(r == -1 && errno == EPIPE ? 0 : 2);
      }
      if (how == 1) {  // anybody's: what it always was
        ssize_t r = write(fds[1], "x", 1);
        _exit(r < 0 ? 3 : 4);
      }
      // Programs get it by default too.
      _exit(WEXITSTATUS(system("kill -PIPE $$; exit 3")) == 3);
    }
    await(&p);
    CHECK(how == 1 ? killed(&p, SIGPIPE) : exited(&p, 0));
  }
  struct sigaction sa;
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {  // ignored since the start: stays so
    signal(SIGPIPE, SIG_IGN);
    process_start();
    sigaction(SIGPIPE, NULL, &sa);
    _exit(sa.sa_handler != SIG_IGN);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  CHECK(status == 0);
}

static void on_tick(int sig) { (void)sig; }

static void under_signals(void) {
  struct sigaction sa = {.sa_handler = on_tick};  // no SA_RESTART
  sigaction(SIGUSR2, &sa, NULL);
  timer_t timer;
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
  struct itimerspec every = {{0, 200000}, {0, 200000}}, off = {{0, 0}, {0, 0}};
  CHECK(timer_create(CLOCK_MONOTONIC, &e, &timer) == 0);
  timer_settime(timer, 0, &every, NULL);
  int wrong = 0;
  for (int i = 0; i < 50; i++) {
    struct process p;
    int r = process_fork(&p, NULL, 0);
    if (r == 0 && i % 2) exit(i);
    if (r == 0) {
      signal(SIGTERM, SIG_IGN);
      wait_forever();
    }
    if (i % 2) {
      await(&p);
      wrong += !exited(&p, i);
    } else {
      process_end(&p, 5);
      wrong += !p.reaped || !WIFSIGNALED(p.status);
    }
  }
  timer_settime(timer, 0, &off, NULL);
  timer_delete(timer);
  CHECK(wrong == 0);
  signal(SIGUSR2, SIG_DFL);
}

static void start_undoes(void) {
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    sigset_t all, now;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGCHLD, SIG_IGN);
    close(0);
    close(2);
    process_start();
    sigprocmask(SIG_SETMASK, NULL, &now);
    for (int s = 1; s <= SIGRTMAX; s++)
      if (sigismember(&now, s) == 1) _exit(1);
    struct sigaction sa;
    sigaction(SIGCHLD, NULL, &sa);
    if (sa.sa_handler != SIG_DFL) _exit(2);
    char c;
    if (read(0, &c, 1) != 0 || write(2, "x", 1) != 1) _exit(3);
    _exit(0);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  CHECK(status == 0);
}

// CPUs.

static void put_file(const char *root, const char *path, const char *text) {
  char name[PATH_MAX];
  snprintf(name, sizeof name, "%s/%s", root, path);
  for (char *s = name + strlen(root) + 1; (s = strchr(s, '/')); s++) {
    *s = '\0';
    mkdir(name, 0700);
    *s = '/';
  }
  FILE *f = fopen(name, "w");
  CHECK(f != NULL);
  if (!f) return;
  fputs(text, f);
  fclose(f);
}

// The quota that a tree of such files {path, text} gives.
static int quota_of(const char *const files[][2]) {
  char root[] = "/tmp/unit.XXXXXX", command[64];
  CHECK(mkdtemp(root) != NULL);
  for (; (*files)[0]; files++) put_file(root, (*files)[0], (*files)[1]);
  int quota = process_cpu_quota(root);
  snprintf(command, sizeof command, "rm -r %s", root);
  CHECK(system(command) == 0);
  return quota;
}

#define FILES(...) quota_of((const char *const[][2]){__VA_ARGS__, {NULL, NULL}})

static void cpus(void) {
  CHECK(FILES({"proc/self/cgroup", "0::/a/b\n"}) == INT_MAX);
  CHECK(FILES({"proc/self/cgroup", "0::/a/b\n"},
              {"sys/fs/cgroup/a/b/cpu.max", "max 100000\n"}) == INT_MAX);
  CHECK(FILES({"proc/self/cgroup", "0::/a/b\n"},
              {"sys/fs/cgroup/a/cpu.max", "150000 100000\n"},
              {"sys/fs/cgroup/a/b/cpu.max", "300000 100000\n"}) == 2);
  CHECK(FILES({"proc/self/cgroup", "0::/\n"},
              {"sys/fs/cgroup/cpu.max", "10000 100000\n"}) == 1);
  CHECK(FILES({"proc/self/cgroup", "0::/not/here\n"},
              {"sys/fs/cgroup/cpu.max", "400000 100000\n"}) == 4);
  CHECK(FILES({"proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/d/e\n0::/\n"},
              {"sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_quota_us", "250000\n"},
              {"sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_period_us", "100000\n"},
              {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"},
              {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"}) ==
        3);
  CHECK(FILES({"proc/self/cgroup", "1:cpu:/\n"},
              {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n"},
              {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n"}) == 2);
  CHECK(FILES({"proc/self/cgroup", "junk\n:\n::\n0:\n0::/\n1:cpu:/\n"},
              {"sys/fs/cgroup/cpu.max", "junk\n"},
              {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", ""}) == INT_MAX);
  CHECK(process_cpu_quota("/nowhere") == INT_MAX);

  unsetenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
  int n = process_cpu_count();
  CHECK(n >= 1);
  setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769", 1);
  CHECK(process_cpu_count() == 1);
  setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1770", 1);
  CHECK(process_cpu_count() == (n < 2 ? n : 2));
  setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "junk", 1);
  CHECK(process_cpu_count() == n);
  unsetenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
}

static void many_deaths(void) {
  int wrong = 0, fds = unit_count_fds();
  for (int i = 0; i < 300; i++) {
    struct process p;
    if (process_fork(&p, NULL, 0) == 0) exit(i % 7);
    await(&p);
    wrong += !exited(&p, i % 7);
  }
  CHECK(wrong == 0 && unit_count_fds() == fds);
}

int main(void) {
  process_start();
  unit_begin(120);
  atexit(inherited);
  pipes_are_high();
  out_of_fds();
  high_fds();
  child_is_clean();
  exit_is_quiet();
  full_disk();
  parents_full_disk();
  lines_are_whole();
  statuses();
  sigchld_ignored();
  reaped_by_others();
  others_keep_theirs();
  group_dies();
  leaves_its_group();
  forked_by_task();
  ends_each();
  ends_all();
  parent_dies();
  exit_ends_children();
  nested();
  children_own_nothing();
  fork_fails();
  sigpipe();
  under_signals();
  start_undoes();
  cpus();
  many_deaths();
  return unit_end();
}
