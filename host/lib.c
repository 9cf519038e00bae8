// SPDX-License-Identifier: MIT
// `require "luapool.host"`: the index of what C gives to lua/luapool, and the
// fork, the one place where processes and Lua states meet.

#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "codec.h"
#include "environment.h"
#include "epoch.h"
#include "handle.h"
#include "ledger.h"
#include "link.h"
#include "metatable.h"
#include "names.h"
#include "poller.h"
#include "preload.h"
#include "process.h"
#include "program.h"
#include "signals.h"
#include "terminate.h"

volatile sig_atomic_t luapool_busy;

void luapool_interrupt(void) { poller_interrupt(); }

static bool interrupt_raised;

int luapool_raise_interrupt(lua_State *L) {
  interrupt_raised = true;
  return luaL_error(L, "interrupted!");
}

// ------------------------------------------------------- messages as strings

enum { PACK_KEEP = 64 * 1024 };  // bytes

static int f_free_buffer(lua_State *L) {
  buffer_free(lua_touserdata(L, 1));
  return 0;
}

static struct buffer *new_buffer(lua_State *L) {
  static const luaL_Reg methods[] = {{"__gc", f_free_buffer}, {NULL, NULL}};
  struct buffer *b = lua_newuserdatauv(L, sizeof *b, 0);
  memset(b, 0, sizeof *b);
  metatable_push(L, "luapool.buffer", methods);
  lua_setmetatable(L, -2);
  return b;
}

// The buffer of pack, kept between calls. A new one where it is in use: encoding
// may look up globals through a metatable of the user's, who may come back here.
static struct buffer *pack_buffer(lua_State *L) {
  struct buffer *b = lua_touserdata(L, lua_upvalueindex(1));
  return b->len == 0 ? b : new_buffer(L);
}

// pack(session, scope, base, each, values...) -> string | nil, message
// One message. `base` names the values in the error: base, or base[1], base[2]
// ... where each is true.
static int f_pack(lua_State *L) {
  struct codec_path path = {luaL_checkstring(L, 3), 0, lua_toboolean(L, 4)};
  int n = lua_gettop(L) - 4;
  struct buffer *b = pack_buffer(L);
  if (!codec_put(L, 1, 2, b, 5, n, &path)) {
    buffer_reset(b, PACK_KEEP);
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  lua_pushlstring(L, (const char *)b->data, b->len);
  buffer_reset(b, PACK_KEEP);
  return 1;
}

// unpack(session, scope, string) -> true, values... | false, message
static int f_unpack(lua_State *L) {
  size_t n;
  const uint8_t *p = (const uint8_t *)luaL_checklstring(L, 3, &n);
  lua_pushboolean(L, 1);
  int values = codec_get(L, 1, 2, CODEC_CODE, &p, p + n);
  if (values >= 0) return values + 1;
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

// -------------------------------------------------------------- the fork

// The pipes of a worker that is about to be made. Index 0 reads, 1 writes.
struct pipes {
  int request[2];
  int reply[2];
};

static void pipes_close(struct pipes *p) {
  process_close(&p->request[0]);
  process_close(&p->request[1]);
  process_close(&p->reply[0]);
  process_close(&p->reply[1]);
}

static int set_nonblocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

// 1, or -1 with errno and nothing open. The worker's ends block, ours do not.
static int pipes_open(struct pipes *p) {
  *p = (struct pipes){{-1, -1}, {-1, -1}};
  if (process_pipe(p->request) < 0) return -1;
  if (process_pipe(p->reply) < 0) goto fail;
  if (set_nonblocking(p->request[1]) < 0) goto fail;
  if (set_nonblocking(p->reply[0]) < 0) goto fail;
  return 1;
fail:;
  int e = errno;
  pipes_close(p);
  errno = e;
  return -1;
}

// A fork makes every page shared until written, and a collection writes to all
// of them. So the worker's collector starts only after it has allocated as much
// as it inherited (as a pause of 200 % would have it), but no less than this.
enum { CREDIT_LEAST = 4 * 1024 };  // KiB

static void defer_collection(lua_State *L) {
  int heap = lua_gc(L, LUA_GCCOUNT, 0);
  lua_gc(L, LUA_GCSTEP, heap > CREDIT_LEAST ? -heap : -CREDIT_LEAST);
}

// What a child needs for its link.
struct start {
  struct pipes *pipes;
  struct ledger *ledger;
  FILE *before;  // the parent's stdout
};

// Calls f_child(main, start) and never returns. All that may fail, for want of
// memory too, happens inside: an error must not find the parent's pcall, which
// stands further down on the stack.
static _Noreturn void run_child(lua_State *L, lua_CFunction f_child,
                                struct start *start) {
  int status = 0;
  int main = lua_gettop(L);
  lua_pushcfunction(L, f_child);
  lua_pushvalue(L, main);
  lua_pushlightuserdata(L, start);
  if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
    const char *text = lua_tostring(L, -1);
    lua_writestringerror("luapool: %s\n", text ? text : "error in a worker");
    status = 1;
  }
  process_exit(status);
}

static void push_link(lua_State *L, const struct start *s) {
  link_open(L);
  link_new(L, s->pipes->request[0], s->pipes->reply[1], s->ledger);
}

// A file handle that is open on the parent's stdout gets the child's own.
static void exchange_stream(lua_State *L, FILE *before) {
  luaL_Stream *s = luaL_testudata(L, -1, LUA_FILEHANDLE);
  if (s != NULL && s->f == before) s->f = stdout;
}

static void exchange_stdout(lua_State *L, FILE *before) {
  int top = lua_gettop(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushliteral(L, "io");
  if (lua_rawget(L, -2) == LUA_TTABLE) {
    lua_pushliteral(L, "stdout");
    lua_rawget(L, -2);
    exchange_stream(L, before);
  }
  lua_getfield(L, LUA_REGISTRYINDEX, "_IO_output");  // liolib.c, IO_OUTPUT
  exchange_stream(L, before);
  lua_settop(L, top);
}

// The child of start method "fork": the very state, as it is.
static int f_forked(lua_State *L) {
  const struct start *start = lua_touserdata(L, 2);
  exchange_stdout(L, start->before);
  defer_collection(L);
  lua_settop(L, 1);
  push_link(L, start);
  lua_call(L, 1, 0);
  return 0;
}

// The child of start method "spawn": a fresh state, where `main` is a buffer of
// the options, encoded, and require "luapool.worker".spawned runs.
static int f_spawned(lua_State *L) {
  const struct buffer *b = lua_touserdata(L, 1);
  const struct start *start = lua_touserdata(L, 2);
  const uint8_t *p = b->data;
  luaL_openlibs(L);
  luapool_preload(L);
  if (codec_get(L, 0, 0, CODEC_CODE, &p, p + b->len) != 1) return lua_error(L);
  int options = lua_gettop(L);
  lua_getglobal(L, "package");
  lua_getfield(L, options, "path");
  lua_setfield(L, -2, "path");
  lua_getfield(L, options, "cpath");
  lua_setfield(L, -2, "cpath");
  lua_getfield(L, options, "arg");
  lua_setglobal(L, "arg");
  lua_getglobal(L, "require");
  lua_pushliteral(L, "luapool.worker");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "spawned");
  push_link(L, start);
  lua_pushvalue(L, options);
  lua_call(L, 2, 0);
  return 0;
}

// Never returns. The inherited state of a spawned worker is left alone, its
// finalizers unrun.
static _Noreturn void enter_child(lua_State *L, struct start *start,
                                  struct buffer *options) {
  if (options == NULL) {
    lua_sethook(L, NULL, 0, 0);
    lua_pushvalue(L, 1);
    run_child(L, f_forked, start);
  }
  lua_State *fresh = luaL_newstate();
  if (fresh == NULL) process_exit(1);
  lua_pushlightuserdata(fresh, options);
  run_child(fresh, f_spawned, start);
}

static int fork_failed(lua_State *L, struct ledger *ledger, struct pipes *p) {
  int e = errno;
  ledger_free(ledger);
  pipes_close(p);
  lua_pushnil(L);
  lua_pushfstring(L, "could not start a worker: %s", strerror(e));
  lua_pushinteger(L, e);
  return 3;
}

static int fork_worker(lua_State *L, struct buffer *options) {
  struct pipes p = {{-1, -1}, {-1, -1}};
  struct handle *h = handle_new(L);
  struct ledger *ledger = ledger_new();
  if (ledger == NULL || pipes_open(&p) < 0) return fork_failed(L, ledger, &p);
  const int keep[] = {p.request[0], p.reply[1]};
  struct start start = {&p, ledger, stdout};
  int r = process_fork(&h->process, keep, 2);
  if (r == 0) enter_child(L, &start, options);
  if (r < 0) return fork_failed(L, ledger, &p);
  process_close(&p.request[0]);
  process_close(&p.reply[1]);
  ledger_hide(ledger);
  channel_init(&h->ch, p.reply[0], p.request[1]);
  h->ledger = ledger;
  return 1;
}

// fork(main) -> handle | nil, message, errno
// fork(nil, options): a fresh state, where options {path, cpath, arg, ...} go to
// require "luapool.worker".spawned(link, options). In the child it runs that,
// or main(link), and never returns.
static int f_fork(lua_State *L) {
  static const struct codec_path path = {"options", 0, false};
  process_prepare();
  if (lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    return fork_worker(L, NULL);
  }
  lua_settop(L, 2);
  struct buffer *b = new_buffer(L);
  if (!codec_put(L, 0, 0, b, 2, 1, &path)) return lua_error(L);
  return fork_worker(L, b);
}

// ------------------------------------------------------------ small things

// clock() -> CLOCK_MONOTONIC, seconds
static int f_clock(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec / 1e9);
  return 1;
}

// wall_clock() -> CLOCK_REALTIME, whole milliseconds since the epoch
static int f_wall_clock(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  lua_pushinteger(L, (lua_Integer)t.tv_sec * 1000 + t.tv_nsec / 1000000);
  return 1;
}

static int f_epoch(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)epoch_now());
  return 1;
}

// exit(status): flushes and leaves a worker, never to return
static int f_exit(lua_State *L) { process_exit((int)luaL_checkinteger(L, 1)); }

static int f_cpu_count(lua_State *L) {
  lua_pushinteger(L, process_cpu_count());
  return 1;
}

// follow_sigpipe(): see process.h
static int f_follow_sigpipe(lua_State *L) {
  (void)L;
  process_follow_sigpipe();
  return 0;
}

// entropy() -> two integers from the kernel. Lua's own seeds are the time and an
// address: the same in every worker of a fork.
static int f_entropy(lua_State *L) {
  lua_Integer seed[2];
  if (getrandom(seed, sizeof seed, 0) != sizeof seed)
    return luaL_error(L, "could not get entropy: %s", strerror(errno));
  lua_pushinteger(L, seed[0]);
  lua_pushinteger(L, seed[1]);
  return 2;
}

// The generator's state is the upvalue of math.random, a userdata without a
// metatable (lmathlib.c, setseed), and plain bytes.
static void *random_state(lua_State *L, int random, size_t *n) {
  if (lua_getupvalue(L, random, 1) == NULL || !lua_isuserdata(L, -1))
    luaL_error(L, "math.random has no state to keep");
  *n = lua_rawlen(L, -1);
  return lua_touserdata(L, -1);
}

// generator(random) -> its state, a string; generator(random, state) sets it
static int f_generator(lua_State *L) {
  size_t n, given;
  lua_settop(L, 2);
  void *state = random_state(L, 1, &n);
  const char *s = luaL_optlstring(L, 2, NULL, &given);
  if (s == NULL) {
    lua_pushlstring(L, state, n);
    return 1;
  }
  luaL_argcheck(L, given == n, 2, "not a generator's state");
  memcpy(state, s, n);
  return 0;
}

// splitmix64's finalizer (Steele, Lea, Flood: Fast Splittable Pseudorandom
// Number Generators, 2014).
static uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

// stream(seed, nth, index) -> two integers to seed the generator with
static int f_stream(lua_State *L) {
  const uint64_t gamma = UINT64_C(0x9e3779b97f4a7c15);
  uint64_t z = 0;
  for (int i = 1; i <= 3; i++)
    z = mix(z + gamma + (uint64_t)luaL_checkinteger(L, i));
  lua_pushinteger(L, (lua_Integer)mix(z + gamma));
  lua_pushinteger(L, (lua_Integer)mix(z + 2 * gamma));
  return 2;
}

// busy(on) -> what it was: an interrupt waits, see lib.h
static int f_busy(lua_State *L) {
  lua_pushboolean(L, luapool_busy);
  luapool_busy = lua_toboolean(L, 1);
  return 1;
}

// interrupted() -> whether one came; forgets it. Does not return where it was
// SIGTERM, and that is to end this process: of a wait that it has ended in a
// coroutine nobody else would hear.
static int f_interrupted(lua_State *L) {
  terminate_if_asked();
  lua_pushboolean(L, poller_interrupted());
  return 1;
}

// raised() -> whether an interrupt was raised in Lua code since the last look
static int f_raised(lua_State *L) {
  lua_pushboolean(L, interrupt_raised);
  interrupt_raised = false;
  return 1;
}

static const char *signal_name(int number) {
  const char *name = sigabbrev_np(number);
  return name != NULL ? name : "RT";
}

// signal_name(9) -> "SIGKILL"
static int f_signal_name(lua_State *L) {
  lua_pushfstring(L, "SIG%s", signal_name((int)luaL_checkinteger(L, 1)));
  return 1;
}

static const luaL_Reg functions[] = {
    {"encode", codec_f_encode},
    {"decode", codec_f_decode},
    {"register", codec_f_register},
    {"session", codec_f_session},
    {"name", names_f_name},
    {"unpack", f_unpack},
    {"fork", f_fork},
    {"poller", poller_f_new},
    {"poll", poller_f_poll},
    {"program", program_f_new},
    {"signals", signals_f_new},
    {"clock", f_clock},
    {"wall_clock", f_wall_clock},
    {"epoch", f_epoch},
    {"cpu_count", f_cpu_count},
    {"exit", f_exit},
    {"exit_on_term", terminate_f_exit_on_term},
    {"setenv", environment_f_set},
    {"follow_sigpipe", f_follow_sigpipe},
    {"entropy", f_entropy},
    {"generator", f_generator},
    {"stream", f_stream},
    {"busy", f_busy},
    {"interrupted", f_interrupted},
    {"raised", f_raised},
    {"signal_name", f_signal_name},
    {NULL, NULL},
};

int luaopen_luapool_host(lua_State *L) {
  epoch_start();
  handle_open(L);
  link_open(L);
  poller_open(L);
  program_open(L);
  signals_open(L);
  luaL_newlib(L, functions);
  new_buffer(L);
  lua_pushcclosure(L, f_pack, 1);
  lua_setfield(L, -2, "pack");
  return 1;
}
