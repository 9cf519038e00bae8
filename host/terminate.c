// SPDX-License-Identifier: MIT
// See terminate.h. The handler itself leaves nothing: exit() takes locks that
// whoever was interrupted may hold. It ends the waits of this process, makes Lua
// call a hook at its next instruction, which leaves by exit(), and sets an
// alarm. The hook stands in the main state alone, since nothing tells a handler
// which coroutine is running: one that computes, or a C function that does not
// return, is what the alarm is for. Its handler leaves without exit().
//
// Who may call it: lib.c.

#include "terminate.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "metatable.h"
#include "poller.h"
#include "process.h"

enum {
  PATIENCE = 200 * 1000,   // us between SIGTERM and the alarm
  LAST_WORDS = 30 * 1000,  // us that the alarm's handler may take
  MOST_GRACE = 60          // s
};

static struct {
  pid_t pid;     // of the process that is to leave so; no child's
  lua_State *L;  // its main state, NULL once that is closed
  int status;
  int grace;  // ms
  volatile sig_atomic_t asked, alarmed;
} term;

static _Noreturn void leave(void) {
  fflush(stdout);  // before children take their time
  process_set_exit_grace(term.grace);
  exit(term.status);
}

void terminate_if_asked(void) {
  if (term.asked && term.pid == getpid()) leave();
}

static void hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  terminate_if_asked();
}

static void set_action(int sig, void (*f)(int), int flags) {
  struct sigaction sa = {.sa_handler = f, .sa_flags = flags};
  sigemptyset(&sa.sa_mask);
  sigaction(sig, &sa, NULL);
}

static void set_alarm(int us) {
  const struct itimerval t = {{0, 0}, {0, us}};
  setitimer(ITIMER_REAL, &t, NULL);
}

// Comes a second time where the first cannot get on with its output.
static void on_alarm(int sig) {
  (void)sig;
  if (term.alarmed) _exit(term.status);
  term.alarmed = 1;
  set_alarm(LAST_WORDS);
  process_kill_all();
  process_spill_stdout();
  _exit(term.status);
}

// A child that somebody else has forked inherits the handler but not the duty.
static void die(int sig) {
  set_action(sig, SIG_DFL, 0);
  raise(sig);  // blocked until this handler returns
}

static void on_term(int sig) {
  int saved = errno;
  if (term.pid != getpid()) {
    die(sig);
  } else if (!term.asked) {
    term.asked = 1;
    set_action(SIGALRM, on_alarm, SA_NODEFER);
    set_alarm(PATIENCE);
    if (term.L != NULL)
      lua_sethook(term.L, hook,
                  LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
    poller_interrupt();
  }
  errno = saved;
}

// The main state is closed: it can have no hook any more.
static int f_gc(lua_State *L) {
  (void)L;
  term.L = NULL;
  return 0;
}

static void watch_state(lua_State *L) {
  static const luaL_Reg methods[] = {{"__gc", f_gc}, {NULL, NULL}};
  static const char key;
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  term.L = lua_tothread(L, -1);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) == LUA_TNIL) {
    lua_newuserdatauv(L, 0, 0);
    metatable_push(L, "luapool.terminate", methods);
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
  }
}

int terminate_f_exit_on_term(lua_State *L) {
  int status = (int)luaL_checkinteger(L, 1);
  lua_Number grace = luaL_checknumber(L, 2);
  luaL_argcheck(L, grace >= 0 && grace <= MOST_GRACE, 2, "not a time to wait");
  watch_state(L);
  term.pid = getpid();
  term.status = status;
  term.grace = (int)(grace * 1000);
  term.asked = term.alarmed = 0;
  set_action(SIGTERM, on_term, 0);  // a read that it interrupts ends
  return 0;
}
