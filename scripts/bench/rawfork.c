// SPDX-License-Identifier: MIT
// The limits of a pool's life and of its speed-up, as a Lua module, so that they
// are measured in the very process that the pool is made in: what a fork costs
// depends on the memory of the process that forks. Also which CPUs to run on.
#include <lauxlib.h>
#include <lua.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_CHILDREN = 16 };

struct child {
  pid_t pid;
  int down[2], up[2];
};

static lua_Integer check_count(lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 1 && n <= MAX_CHILDREN, 1, "1 to 16 children");
  return n;
}

static bool echo(int rfd, int wfd) {
  char byte;
  return read(rfd, &byte, 1) == 1 && write(wfd, &byte, 1) == 1;
}

static bool start(struct child *c) {
  if (pipe(c->down) || pipe(c->up)) return false;
  c->pid = fork();
  if (c->pid != 0) return c->pid > 0;
  close(c->down[1]);
  while (echo(c->down[0], c->up[1])) continue;
  _exit(0);
}

static bool end(struct child *c) {
  bool reaped;
  close(c->down[1]);
  reaped = waitpid(c->pid, NULL, 0) == c->pid;
  close(c->down[0]);
  close(c->up[0]);
  close(c->up[1]);
  return reaped;
}

// life(n): n forked children with a pair of pipes each, one byte to the first
// child and back, end of file, and all of them reaped.
static int f_life(lua_State *L) {
  struct child children[MAX_CHILDREN];
  lua_Integer n = check_count(L);
  char byte = 'x';
  for (lua_Integer i = 0; i < n; i++) {
    if (!start(&children[i])) return luaL_error(L, "cannot fork");
  }
  bool ok = write(children[0].down[1], &byte, 1) == 1 &&
            read(children[0].up[0], &byte, 1) == 1;
  // A later child holds the earlier ones' pipes: the last one must end first.
  for (lua_Integer i = n; i-- > 0;) ok = end(&children[i]) && ok;
  if (!ok) return luaL_error(L, "a child was lost");
  return 0;
}

// split(n, f): n forked children, child i calls f(i); returns when all are done.
static int f_split(lua_State *L) {
  pid_t pids[MAX_CHILDREN];
  lua_Integer n = check_count(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  for (lua_Integer i = 0; i < n; i++) {
    pids[i] = fork();
    if (pids[i] < 0) return luaL_error(L, "cannot fork");
    if (pids[i] == 0) {
      lua_settop(L, 2);
      lua_pushinteger(L, i + 1);
      _exit(lua_pcall(L, 1, 0, 0) != LUA_OK);
    }
  }
  int failed = 0, status;
  for (lua_Integer i = 0; i < n; i++) {
    if (waitpid(pids[i], &status, 0) != pids[i] || status != 0) failed++;
  }
  if (failed) return luaL_error(L, "%d children failed", failed);
  return 0;
}

// cpus(): the numbers of the CPUs this process may run on.
static int f_cpus(lua_State *L) {
  cpu_set_t set;
  lua_Integer found = 0;
  if (sched_getaffinity(0, sizeof set, &set)) return luaL_error(L, "no CPUs");
  lua_newtable(L);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET((size_t)cpu, &set)) continue;
    lua_pushinteger(L, cpu);
    lua_seti(L, -2, ++found);
  }
  return 1;
}

// pin(cpu, ...): from now on this process runs on these CPUs only.
static int f_pin(lua_State *L) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int i = 1; i <= lua_gettop(L); i++) {
    lua_Integer cpu = luaL_checkinteger(L, i);
    luaL_argcheck(L, cpu >= 0 && cpu < CPU_SETSIZE, i, "no such CPU");
    CPU_SET((size_t)cpu, &set);
  }
  if (sched_setaffinity(0, sizeof set, &set))
    return luaL_error(L, "not pinned");
  return 0;
}

int luaopen_rawfork(lua_State *L);
int luaopen_rawfork(lua_State *L) {
  static const luaL_Reg functions[] = {{"life", f_life},
                                       {"split", f_split},
                                       {"cpus", f_cpus},
                                       {"pin", f_pin},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
