// SPDX-License-Identifier: MIT
// See program.h. Nothing in here waits but `stop`.
//
// Who may call it: lua/luapool/, in the process that started the program.
#include "program.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "epoch.h"
#include "metatable.h"
#include "process.h"

#define PROGRAM_NAME "luapool.program"

enum { PIECE = 64 * 1024 };  // bytes of output read at once

struct program {
  struct process process;
  int output;
  unsigned epoch;
};

// ------------------------------------------------------------- its start

static const char *check_field(lua_State *L, const char *name) {
  if (lua_getfield(L, 1, name) != LUA_TSTRING)
    luaL_error(L, "bad field '%s' (string expected, got %s)", name,
               luaL_typename(L, -1));
  return lua_tostring(L, -1);
}

// The list of strings in that field, ended by NULL. It stays valid while what
// this leaves on the stack does.
static char **check_list(lua_State *L, const char *name) {
  if (lua_getfield(L, 1, name) != LUA_TTABLE)
    luaL_error(L, "bad field '%s' (table expected, got %s)", name,
               luaL_typename(L, -1));
  int list = lua_gettop(L);
  size_t n = lua_rawlen(L, list);
  char **words = lua_newuserdatauv(L, (n + 1) * sizeof *words, 0);
  for (size_t i = 0; i < n; i++) {
    if (lua_rawgeti(L, list, (lua_Integer)i + 1) != LUA_TSTRING)
      luaL_error(L, "bad field '%s' (not a list of strings)", name);
    // execve has no const, and changes nothing.
    words[i] = (char *)(uintptr_t)lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  words[n] = NULL;
  return words;
}

static struct program *program_push(lua_State *L) {
  struct program *p = lua_newuserdatauv(L, sizeof *p, 0);
  *p = (struct program){.process.pidfd = -1, .output = -1};
  p->epoch = epoch_now();
  luaL_setmetatable(L, PROGRAM_NAME);
  return p;
}

int program_f_new(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const struct process_program what = {
      .path = check_field(L, "path"),
      .directory = check_field(L, "directory"),
      .argv = check_list(L, "argv"),
      .envp = check_list(L, "env"),
  };
  struct program *p = program_push(L);
  if (process_start_program(&p->process, &what, &p->output) == 1) return 1;
  return luaL_fileresult(L, 0, what.path);
}

// ---------------------------------------------------------- while it runs

static struct program *to_program(lua_State *L) {
  struct program *p = luaL_checkudata(L, 1, PROGRAM_NAME);
  luaL_argcheck(L, p->epoch == epoch_now(), 1, "another process's program");
  return p;
}

// program:pid(): of its group; nil once it is reaped
static int f_pid(lua_State *L) {
  const struct program *p = to_program(L);
  if (p->process.pid <= 0) return 0;
  lua_pushinteger(L, p->process.pid);
  return 1;
}

// program:pidfd() -> readable when it has ended; -1 once it is reaped
static int f_pidfd(lua_State *L) {
  lua_pushinteger(L, to_program(L)->process.pidfd);
  return 1;
}

// program:output() -> readable when it has printed; -1 once closed
static int f_output(lua_State *L) {
  lua_pushinteger(L, to_program(L)->output);
  return 1;
}

// program:read() -> bytes that it has printed | nil: none now | false: no more
// will come
static int f_read(lua_State *L) {
  struct program *p = to_program(L);
  luaL_Buffer b;
  char *to = luaL_buffinitsize(L, &b, PIECE);
  ssize_t n = p->output < 0 ? 0 : read(p->output, to, PIECE);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (n <= 0) {
    process_close(&p->output);
    lua_pushboolean(L, 0);
    return 1;
  }
  luaL_pushresultsize(&b, (size_t)n);
  return 1;
}

// program:kill(signal): to its group
static int f_kill(lua_State *L) {
  process_kill(&to_program(L)->process, (int)luaL_checkinteger(L, 2));
  return 0;
}

// program:ended() -> false: it runs | true, exitcode, signal (one is nil)
static int f_ended(lua_State *L) {
  struct process *p = &to_program(L)->process;
  lua_pushboolean(L, process_reap(p) != 0);
  if (!p->reaped) return 1;
  bool killed = WIFSIGNALED(p->status);
  lua_pushnil(L);
  lua_pushinteger(L, killed ? WTERMSIG(p->status) : WEXITSTATUS(p->status));
  if (!killed) lua_insert(L, -2);
  return 3;
}

// program:stop(seconds): TERM, that grace, KILL; reaps
static int f_stop(lua_State *L) {
  lua_Number seconds = luaL_checknumber(L, 2);
  process_end(&to_program(L)->process, (int)(seconds * 1000));
  return 0;
}

// program:close(): ends it at once where it runs. In another process its
// descriptors are closed, and it is a sibling.
static int f_close(lua_State *L) {
  struct program *p = luaL_checkudata(L, 1, PROGRAM_NAME);
  if (p->epoch != epoch_now()) return 0;
  if (p->process.pid > 0) process_end(&p->process, 0);
  process_close(&p->output);
  return 0;
}

void program_open(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"pid", f_pid},   {"pidfd", f_pidfd}, {"output", f_output},
      {"read", f_read}, {"kill", f_kill},   {"ended", f_ended},
      {"stop", f_stop}, {"close", f_close}, {"__gc", f_close},
      {NULL, NULL},
  };
  metatable_push(L, PROGRAM_NAME, methods);
  lua_pop(L, 1);
}
