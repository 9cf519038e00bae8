// SPDX-License-Identifier: MIT
// A Lua module for specs: what a task can do to its own process, or to others,
// that Lua alone cannot. Every function raises an error where it fails.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int check(lua_State *L, long result, const char *what) {
  if (result < 0) return luaL_error(L, "%s: %s", what, strerror(errno));
  lua_pushinteger(L, result);
  return 1;
}

static int check_int(lua_State *L, int arg) {
  return (int)luaL_checkinteger(L, arg);
}

// kill(pid, signal)
static int f_kill(lua_State *L) {
  return check(L, kill(check_int(L, 1), check_int(L, 2)), "kill");
}

// ignore(signal): from now on, in this process and what it starts
static int f_ignore(lua_State *L) {
  struct sigaction sa = {.sa_handler = SIG_IGN};
  return check(L, sigaction(check_int(L, 1), &sa, NULL), "sigaction");
}

// exit(status): _exit, past everything that would run at an exit
static int f_exit(lua_State *L) { _exit(check_int(L, 1)); }

// close(fd)
static int f_close(lua_State *L) {
  return check(L, close(check_int(L, 1)), "close");
}

// close_from(fd): that one and all above it
static int f_close_from(lua_State *L) {
  long r = syscall(SYS_close_range, (unsigned)check_int(L, 1), ~0U, 0);
  return check(L, r, "close_range");
}

// write(fd, bytes): all of them
static int f_write(lua_State *L) {
  size_t n;
  const char *p = luaL_checklstring(L, 2, &n);
  while (n > 0) {
    ssize_t r = write(check_int(L, 1), p, n);
    if (r < 0 && errno == EINTR) continue;
    if (r < 0) return check(L, r, "write");
    p += r;
    n -= (size_t)r;
  }
  return 0;
}

// fork(seconds, session, fd, bytes): a child that holds everything open that
// long, writes the bytes, and ends; with `session` in a session of its own.
// Returns its pid.
static int f_fork(lua_State *L) {
  lua_Number seconds = luaL_checknumber(L, 1);
  bool session = lua_toboolean(L, 2);
  int fd = (int)luaL_optinteger(L, 3, -1);
  size_t n;
  const char *bytes = luaL_optlstring(L, 4, "", &n);
  pid_t pid = fork();
  while (pid > 0 && session && getsid(pid) != pid) usleep(100);
  if (pid != 0) return check(L, pid, "fork");
  if (session) setsid();
  struct timespec t = {(time_t)seconds, 0};
  t.tv_nsec = (long)((seconds - (lua_Number)t.tv_sec) * 1e9);
  while (nanosleep(&t, &t) < 0 && errno == EINTR) continue;
  _exit(n > 0 && write(fd, bytes, n) < 0);
}

static volatile sig_atomic_t pests;

static void on_pest(int sig) {
  (void)sig;
  pests++;
}

// pester(signal, hertz): a handler without SA_RESTART, and that signal that
// often at this process. It is not inherited.
static int f_pester(lua_State *L) {
  int sig = check_int(L, 1);
  long period = 1000000000L / (long)luaL_checkinteger(L, 2);
  struct sigaction sa = {.sa_handler = on_pest};
  check(L, sigaction(sig, &sa, NULL), "sigaction");
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = sig};
  timer_t timer;
  check(L, timer_create(CLOCK_MONOTONIC, &e, &timer), "timer_create");
  struct itimerspec t = {{0, period}, {0, period}};
  return check(L, timer_settime(timer, 0, &t, NULL), "timer_settime");
}

// pests() -> how many came
static int f_pests(lua_State *L) {
  lua_pushinteger(L, pests);
  return 1;
}

static const struct {
  const char *name;
  __rlimit_resource_t number;
} limits[] = {
    {"nofile", RLIMIT_NOFILE},
    {"nproc", RLIMIT_NPROC},
    {"as", RLIMIT_AS},
    {NULL, RLIMIT_NOFILE},
};

// limit(name, soft or nil) -> the soft limit before, -1 where there is none
static int f_limit(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  int i = 0;
  while (limits[i].name && strcmp(limits[i].name, name) != 0) i++;
  luaL_argcheck(L, limits[i].name, 1, "no such limit");
  struct rlimit r;
  check(L, getrlimit(limits[i].number, &r), "getrlimit");
  lua_Integer before = (lua_Integer)r.rlim_cur;
  if (!lua_isnoneornil(L, 2)) {
    r.rlim_cur = (rlim_t)luaL_checkinteger(L, 2);
    check(L, setrlimit(limits[i].number, &r), "setrlimit");
  }
  lua_pushinteger(L, before);
  return 1;
}

// starve(n, for_good) -> whether allocation n of before failed; sets the next:
// the n-th from now fails in this process, and `for_good` all after it too.
// 0: none. Needs the shim starve.so.
static int f_starve(lua_State *L) {
  int (*starve)(long, int);
  *(void **)&starve = dlsym(RTLD_DEFAULT, "luapool_starve");
  if (starve == NULL) return luaL_error(L, "starve.so is not preloaded");
  lua_Integer n = luaL_checkinteger(L, 1);
  int for_good = lua_toboolean(L, 2);
  lua_pushboolean(L, starve((long)n, for_good));
  return 1;
}

// trim(): malloc gives back all that is free
static int f_trim(lua_State *L) {
  (void)L;
  malloc_trim(0);
  return 0;
}

// readable(fd, seconds) -> whether it is, or becomes so within that time
static int f_readable(lua_State *L) {
  struct pollfd fd = {.fd = check_int(L, 1), .events = POLLIN};
  int n = poll(&fd, 1, (int)(luaL_checknumber(L, 2) * 1e3));
  if (n < 0) return check(L, n, "poll");
  lua_pushboolean(L, n > 0);
  return 1;
}

static const luaL_Reg functions[] = {
    {"kill", f_kill},         {"exit", f_exit},   {"close", f_close},
    {"write", f_write},       {"fork", f_fork},   {"close_from", f_close_from},
    {"pester", f_pester},     {"pests", f_pests}, {"limit", f_limit},
    {"starve", f_starve},     {"trim", f_trim},   {"ignore", f_ignore},
    {"readable", f_readable}, {NULL, NULL},
};

int luaopen_harm(lua_State *L);
int luaopen_harm(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
