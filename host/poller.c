// SPDX-License-Identifier: MIT
// Waiting. Level-triggered epoll: a wake-up that is not used up comes again.
//
// Who may call it: lua/luapool/, in the process that made the poller.

#include "poller.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "epoch.h"
#include "handle.h"
#include "metatable.h"
#include "process.h"

#define POLLER_NAME "luapool.poller"

enum { EVENTS = 64, KINDS = 4 };
enum kind { KIND_READ, KIND_WRITE, KIND_EXIT };

// A wait that lasts this much longer than it was told to, in seconds, was not
// slow but stopped.
static const double FREEZE = 1.0;

// A long wait is made of pieces of this many seconds: a stop is noticed however
// far away the end of the wait is, and its length is known that well.
static const double PIECE = 0.25;

struct poller {
  int fd;
  int timer;  // -1 until armed for the first time
  unsigned epoch;
  bool watching;  // interrupts
};

// An interrupt is an event like any other, so that none is missed between a look
// at a flag and the wait. All who wait in this process watch one descriptor,
// which the last of them closes.
static struct {
  int fd;
  unsigned epoch;  // of the process that opened it; a child's is closed
  unsigned users;
  volatile sig_atomic_t pending;
} interrupt = {.fd = -1};

void poller_interrupt(void) {
  int saved = errno;
  uint64_t one = 1;
  interrupt.pending = 1;
  if (interrupt.users == 0 || interrupt.epoch != epoch_now()) return;
  // It fails only where it is set already.
  if (write(interrupt.fd, &one, sizeof one) < 0) errno = saved;
  errno = saved;
}

bool poller_interrupted(void) {
  bool was = interrupt.pending;
  uint64_t count;
  interrupt.pending = 0;
  if (was && interrupt.users > 0 && interrupt.epoch == epoch_now() &&
      read(interrupt.fd, &count, sizeof count) < 0)
    errno = 0;  // a flag set before there was a descriptor
  return was;
}

bool poller_interrupt_pending(void) { return interrupt.pending; }

int poller_use_interrupts(void) {
  if (interrupt.epoch != epoch_now()) {
    interrupt.fd = -1;
    interrupt.users = 0;
    interrupt.epoch = epoch_now();
  }
  if (interrupt.users == 0) {
    interrupt.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (interrupt.fd < 0) return -1;
    if (process_own_fd(interrupt.fd) < 0) {
      process_close(&interrupt.fd);
      return -1;
    }
  }
  interrupt.users++;
  return interrupt.fd;
}

void poller_leave_interrupts(void) {
  if (--interrupt.users == 0) process_close(&interrupt.fd);
}

static int watch_interrupts(struct poller *p) {
  struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0};
  int fd = poller_use_interrupts();
  if (fd < 0) return -1;
  p->watching = true;
  return epoll_ctl(p->fd, EPOLL_CTL_ADD, fd, &e);
}

static double clock_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// Whole milliseconds, rounded up so that a deadline has passed on return.
static int milliseconds(double seconds) {
  if (!(seconds > 0)) return 0;
  double ms = ceil(seconds * 1e3);
  return ms < INT_MAX ? (int)ms : INT_MAX;
}

// A wait as poll and epoll_wait do it: for `ms`, -1 for ever.
typedef int wait_f(const void *what, int ms);

// Waits for at most `seconds` (HUGE_VAL: for ever). Stores how long this process
// was stopped meanwhile, 0 if it was not.
static int wait_timed(wait_f *wait, const void *what, double seconds,
                      double *frozen) {
  *frozen = 0;
  if (!(seconds > 0)) return wait(what, 0);
  if (seconds == HUGE_VAL) return wait(what, -1);
  double now = clock_s(), end = now + seconds;
  for (;;) {
    double before = now;
    double piece = end - before < PIECE ? end - before : PIECE;
    int n = wait(what, milliseconds(piece));
    int saved = errno;
    now = clock_s();
    errno = saved;
    // All of it: limits that pass late are better than those that pass early.
    if (now - before - piece > FREEZE) *frozen = now - before;
    if (n != 0 || *frozen > 0 || now >= end) return n;
  }
}

struct poll_set {
  struct pollfd *fds;
  nfds_t n;
};

static int wait_poll(const void *what, int ms) {
  const struct poll_set *s = what;
  return poll(s->fds, s->n, ms);
}

bool poller_wait_for(int fd, int pidfd, double seconds, double *frozen) {
  // poll passes over a descriptor of -1.
  struct pollfd fds[] = {{fd, POLLIN, 0}, {pidfd, POLLIN, 0}, {-1, POLLIN, 0}};
  const struct poll_set set = {fds, 3};
  if (interrupt.epoch == epoch_now()) fds[2].fd = interrupt.fd;
  if (interrupt.pending) return false;
  int n = wait_timed(wait_poll, &set, seconds, frozen);
  return n > 0 && !fds[1].revents && !fds[2].revents;
}

static struct poller *to_poller(lua_State *L) {
  return luaL_checkudata(L, 1, POLLER_NAME);
}

// An epoll instance is shared over a fork: the child's copy was closed there,
// and its number may be another file by now.
static void poller_end(struct poller *p) {
  if (p->fd >= 0 && p->epoch == epoch_now()) {
    process_close(&p->fd);
    process_close(&p->timer);
    if (p->watching) poller_leave_interrupts();
  }
  p->fd = -1;
}

int poller_f_new(lua_State *L) {
  struct poller *p = lua_newuserdatauv(L, sizeof *p, 0);
  p->fd = p->timer = -1;
  p->epoch = epoch_now();
  p->watching = false;
  luaL_setmetatable(L, POLLER_NAME);
  p->fd = epoll_create1(EPOLL_CLOEXEC);
  if (p->fd < 0 || process_own_fd(p->fd) < 0 || watch_interrupts(p) < 0) {
    int saved = errno;
    poller_end(p);
    errno = saved;
    return luaL_fileresult(L, 0, "could not wait for workers");
  }
  return 1;
}

// epoll's data is number * KINDS + kind: which worker, what of it.
static int control(lua_State *L, int op, int fd, uint32_t events, enum kind k) {
  struct poller *p = to_poller(L);
  uint64_t number = (uint64_t)luaL_checkinteger(L, 3);
  struct epoll_event e = {.events = events, .data.u64 = number * KINDS + k};
  if (fd < 0 || epoll_ctl(p->fd, op, fd, &e) == 0) return 1;
  return op == EPOLL_CTL_DEL && (errno == ENOENT || errno == EBADF);
}

// poller:add(handle, number) -> true | nil, message
static int f_add(lua_State *L) {
  struct handle *h = handle_check(L, 2);
  if (control(L, EPOLL_CTL_ADD, h->ch.rfd, EPOLLIN, KIND_READ) &&
      control(L, EPOLL_CTL_ADD, h->process.pidfd, EPOLLIN, KIND_EXIT)) {
    lua_pushboolean(L, 1);
    return 1;
  }
  return luaL_fileresult(L, 0, "could not wait for a worker");
}

static int result(lua_State *L, int ok) {
  if (!ok) return luaL_error(L, "epoll_ctl: %s", strerror(errno));
  return 0;
}

// poller:want_write(handle, number, on)
static int f_want_write(lua_State *L) {
  struct handle *h = handle_check(L, 2);
  int op = lua_toboolean(L, 4) ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
  return result(L, control(L, op, h->ch.wfd, EPOLLOUT, KIND_WRITE));
}

// poller:forget_read(handle, number): its pipe has come to its end
static int f_forget_read(lua_State *L) {
  struct handle *h = handle_check(L, 2);
  return result(L, control(L, EPOLL_CTL_DEL, h->ch.rfd, 0, KIND_READ));
}

// poller:remove(handle, number): before it is closed
static int f_remove(lua_State *L) {
  struct handle *h = handle_check(L, 2);
  return result(L,
                control(L, EPOLL_CTL_DEL, h->ch.rfd, 0, KIND_READ) &&
                    control(L, EPOLL_CTL_DEL, h->ch.wfd, 0, KIND_WRITE) &&
                    control(L, EPOLL_CTL_DEL, h->process.pidfd, 0, KIND_EXIT));
}

// Fills the table in slot 3 and returns how many.
static int push_events(lua_State *L, const struct epoll_event *e, int n) {
  for (int i = 0; i < n; i++) {
    lua_pushinteger(L, (lua_Integer)e[i].data.u64);
    lua_rawseti(L, 3, i + 1);
  }
  lua_pushinteger(L, n);
  return 1;
}

struct epoll_set {
  int fd;
  struct epoll_event *events;
};

static int wait_epoll(const void *what, int ms) {
  const struct epoll_set *s = what;
  return epoll_wait(s->fd, s->events, EVENTS, ms);
}

// Behind what a wait returns.
static int push_frozen(lua_State *L, double frozen) {
  if (frozen == 0) return 0;
  lua_pushnumber(L, frozen);
  return 1;
}

// poller:wait(seconds or nil, ready) -> n [, frozen] | nil
// ready[1..n] = number * 4 + (0 readable, 1 writable, 2 ended). `frozen` where
// this process was stopped meanwhile: for how many seconds. nil: an interrupt.
static int f_wait(lua_State *L) {
  struct poller *p = to_poller(L);
  struct epoll_event events[EVENTS];
  const struct epoll_set set = {p->fd, events};
  double seconds = luaL_optnumber(L, 2, HUGE_VAL), frozen;
  luaL_checktype(L, 3, LUA_TTABLE);
  int n = wait_timed(wait_epoll, &set, seconds, &frozen);
  if (interrupt.pending) return 0;
  if (n < 0 && errno != EINTR)
    return luaL_error(L, "could not wait for workers: %s", strerror(errno));
  push_events(L, events, n < 0 ? 0 : n);
  return 1 + push_frozen(L, frozen);
}

int poller_f_poll(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  double seconds = luaL_optnumber(L, 2, HUGE_VAL), frozen;
  nfds_t n = (nfds_t)lua_rawlen(L, 1);
  struct pollfd *fds = lua_newuserdatauv(L, (n + 1) * sizeof *fds, 0);
  for (nfds_t i = 0; i < n; i++) {
    lua_rawgeti(L, 1, (lua_Integer)i + 1);
    fds[i] = (struct pollfd){(int)luaL_checkinteger(L, -1), POLLIN, 0};
    lua_pop(L, 1);
  }
  const struct poll_set set = {fds, n};
  int r = wait_timed(wait_poll, &set, seconds, &frozen);
  if (interrupt.pending) return 0;
  if (r < 0 && errno != EINTR)
    return luaL_error(L, "could not wait: %s", strerror(errno));
  lua_pushboolean(L, r > 0);
  return 1 + push_frozen(L, frozen);
}

static int timer_open(struct poller *p) {
  struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0};
  p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (p->timer < 0 || process_own_fd(p->timer) < 0) return -1;
  return epoll_ctl(p->fd, EPOLL_CTL_ADD, p->timer, &e);
}

// poller:arm(seconds or nil): for those who watch its descriptor: it becomes
// readable by then, though nothing happens
static int f_arm(lua_State *L) {
  struct poller *p = to_poller(L);
  struct itimerspec t = {{0, 0}, {0, 0}};
  if (p->timer < 0 && timer_open(p) < 0)
    return luaL_error(L, "could not make a timer: %s", strerror(errno));
  if (!lua_isnoneornil(L, 2)) {
    double s = luaL_checknumber(L, 2);
    s = s < 1e-6 ? 1e-6 : s > 1e9 ? 1e9 : s;  // 0 would disarm it
    t.it_value.tv_sec = (time_t)s;
    t.it_value.tv_nsec = (long)((s - (double)t.it_value.tv_sec) * 1e9);
  }
  if (timerfd_settime(p->timer, 0, &t, NULL) < 0)
    return luaL_error(L, "could not set a timer: %s", strerror(errno));
  return 0;
}

static int f_fileno(lua_State *L) {
  lua_pushinteger(L, to_poller(L)->fd);
  return 1;
}

static int f_close(lua_State *L) {
  poller_end(to_poller(L));
  return 0;
}

static const luaL_Reg methods[] = {
    {"add", f_add},       {"want_write", f_want_write},
    {"remove", f_remove}, {"forget_read", f_forget_read},
    {"wait", f_wait},     {"fileno", f_fileno},
    {"arm", f_arm},       {"close", f_close},
    {"__gc", f_close},    {NULL, NULL},
};

void poller_open(lua_State *L) {
  metatable_push(L, POLLER_NAME, methods);
  lua_pop(L, 1);
}
