// SPDX-License-Identifier: MIT
// See signals.h. A signalfd reads what is blocked; children of process_fork
// start with nothing blocked, so none of them knows of it.
//
// Who may call it: lua/luapool/, in the process that made the object.
#include "signals.h"

#include <lauxlib.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "epoch.h"
#include "metatable.h"
#include "process.h"

#define SIGNALS_NAME "luapool.signals"

struct signals {
  int fd;
  unsigned epoch;
  sigset_t before;  // the mask
};

static void check_set(lua_State *L, sigset_t *set) {
  luaL_checktype(L, 1, LUA_TTABLE);
  sigemptyset(set);
  lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 1, i);
    if (sigaddset(set, (int)luaL_checkinteger(L, -1)) < 0)
      luaL_argerror(L, 1, "not a signal");
    lua_pop(L, 1);
  }
}

int signals_f_new(lua_State *L) {
  sigset_t set;
  check_set(L, &set);
  struct signals *s = lua_newuserdatauv(L, sizeof *s, 0);
  s->fd = -1;
  s->epoch = epoch_now();
  luaL_setmetatable(L, SIGNALS_NAME);
  int fd = process_raise_fd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (fd < 0) return luaL_fileresult(L, 0, "could not wait for signals");
  if (process_own_fd(fd) < 0) {
    process_close(&fd);
    return luaL_fileresult(L, 0, "could not wait for signals");
  }
  s->fd = fd;
  sigprocmask(SIG_BLOCK, &set, &s->before);
  return 1;
}

static struct signals *to_signals(lua_State *L) {
  return luaL_checkudata(L, 1, SIGNALS_NAME);
}

// signals:fileno() -> readable when one has come; -1 once closed
static int f_fileno(lua_State *L) {
  lua_pushinteger(L, to_signals(L)->fd);
  return 1;
}

// signals:take() -> its number; nil: none has come
static int f_take(lua_State *L) {
  struct signalfd_siginfo info;
  if (read(to_signals(L)->fd, &info, sizeof info) != sizeof info) return 0;
  lua_pushinteger(L, info.ssi_signo);
  return 1;
}

// signals:close(): those that come from now on do what they did before
static int f_close(lua_State *L) {
  struct signals *s = to_signals(L);
  if (s->fd < 0 || s->epoch != epoch_now()) return 0;
  process_close(&s->fd);
  sigprocmask(SIG_SETMASK, &s->before, NULL);
  return 0;
}

void signals_open(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"fileno", f_fileno}, {"take", f_take},     {"close", f_close},
      {"__gc", f_close},    {"__close", f_close}, {NULL, NULL},
  };
  metatable_push(L, SIGNALS_NAME, methods);
  lua_pop(L, 1);
}
