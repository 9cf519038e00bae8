// SPDX-License-Identifier: MIT
// Each allocation of a piece of work fails once, Lua's and our own alike: the
// first one, then the second, and so on, until the work needs no more of them;
// and again so that all that follow fail too. Whatever fails, there is either
// the right result or an error about memory, or about a worker that had none
// left; the same work can be done afterwards, and nothing is left: no memory, no
// descriptor, no process.
#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <string.h>

#include "../unit/unit.h"
#include "channel.h"
#include "json.h"
#include "lib.h"
#include "preload.h"

// --- allocations -----------------------------------------------------------

static long countdown;  // until one fails; 0: none does
static bool for_good;   // those behind it fail too
static bool failed;     // one has
static long live;       // blocks in use

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static bool fails(void) {
  if (countdown == 0) return false;
  if (--countdown > 0) return false;
  failed = true;
  if (for_good) countdown = 1;
  errno = ENOMEM;
  return true;
}

static void *got(void *p) {
  live += p != NULL;
  return p;
}

void *__wrap_malloc(size_t n) { return fails() ? NULL : got(__real_malloc(n)); }

void *__wrap_calloc(size_t n, size_t size) {
  return fails() ? NULL : got(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n) {
  if (fails()) return NULL;
  return p == NULL ? got(__real_realloc(p, n)) : __real_realloc(p, n);
}

void __wrap_free(void *p) {
  live -= p != NULL;
  __real_free(p);
}

static void arm(long n, bool and_all_after) {
  countdown = n;
  for_good = and_all_after;
  failed = false;
}

static void disarm(void) { countdown = 0; }

// --- the work --------------------------------------------------------------

// Each returns the work, a function that says whether what it returned is right,
// and one that readies it to be done again after a failure.
struct scenario {
  const char *name, *code;
};

#define VALUE                                                         \
  "local shared, deep = {1, 2.5, 'x'}, {}\n"                          \
  "local at = deep\n"                                                 \
  "for i = 1, 40 do at.next = {i}; at = at.next end\n"                \
  "local class = setmetatable({__index = shared}, {__call = type})\n" \
  "local n = 0\n"                                                     \
  "local function up() n = n + 1 return n end\n"                      \
  "local function down() n = n - 1 return up, math.floor end\n"       \
  "local v = {shared, shared, deep, ('y'):rep(1000), [2^53] = 1,\n"   \
  "  up, down, setmetatable({7}, class), string.format}\n"            \
  "for i = 1, 100 do v[-i * 65535] = i; v['key' .. i % 9] = i end\n"  \
  "for i = 1, 20 do v[i + 20] = {name = 'name', value = i} end\n"     \
  "local function alike(w)\n"                                         \
  "  local up, down, count = w[5], w[6], n\n"                         \
  "  return w[1] == w[2] and w[1][2] == 2.5 and #w[4] == 1000 and\n"  \
  "    w[2^53] == 1 and down() == up and up() == n and n == n and\n"  \
  "    w[7][3] == 'x' and w[8] == string.format and\n"                \
  "    w[-65535 * 99] == 99 and w[40].value == 20\n"                  \
  "end\n"

static const struct scenario codec[] = {
    {"encode",
     VALUE "return function() return host.encode(v, 1, deep) end,\n"
           "  function(s) return alike((host.decode(s, {code = true}))) end"},
    {"decode",
     VALUE "local s = host.encode(v)\n"
           "return function() return host.decode(s, {code = true}) end, alike"},
    {"plain",
     "local list = {}\n"
     "for i = 1, 60 do list[i] = {i, n = i, s = 's' .. i % 7} end\n"
     "return function() return host.decode(host.encode(list)) end,\n"
     "  function(l) return #l == 60 and l[60].n == 60 end"},
    {"refusal",
     "local bad = {a = {{b = {[true] = coroutine.create(print)}}}}\n"
     "return function()\n"
     "  local ok, e = host.pack(nil, nil, 'items', false, bad)\n"
     "  return e\n"
     "end, function(e) return e:find('coroutine', 1, true) end"},
    {"malformed",
     "local s = host.encode({1, {2, {3}}, x = 'y'})\n"
     "return function()\n"
     "  for i = 0, #s - 1 do\n"
     "    local ok, e = pcall(host.decode, s:sub(1, i))\n"
     "    if ok then return 'decoded' end\n"
     "    if e:find('memory') then error(e, 0) end\n"
     "  end\n"
     "  return 'refused'\n"
     "end, function(s) return s == 'refused' end"},
    {"register",
     "local big, n = {1, 2}, 0\n"
     "return function()\n"
     "  n = n + 1\n"
     "  host.register('big' .. n, big)\n"
     "  return host.decode(host.encode({big}))\n"
     "end, function(t) return t[1] == big end"},
    {"session", VALUE "return function()\n"
                      "  local a, b = host.session(0), host.session(1)\n"
                      "  a:view(a:snapshot('spawn'))\n"
                      "  local sa, sb, ra, rb = {}, {}, {}, {}\n"
                      "  local s = assert(host.pack(a, sa, 'v', false, v))\n"
                      "  local ok, w = host.unpack(b, sb, s)\n"
                      "  if not ok then error(w, 0) end\n"
                      "  s = assert(host.pack(b, rb, 'w', false, w))\n"
                      "  ok, w = host.unpack(a, ra, s)\n"
                      "  if not ok then error(w, 0) end\n"
                      "  return w\n"
                      "end, function(w)\n"
                      "  return alike(w) and getmetatable(w[7]) == class\n"
                      "end"},
    {"json",
     "local list = {}\n"
     "for i = 1, 70 do list[i] = {a = {1, 2.5, json.null}, b = 'a\\n'} end\n"
     "local text = json.encode({list, json.decode(('['):rep(40) ..\n"
     "  '12345678901234567890' .. (']'):rep(40))})\n"
     "return function() return json.encode(json.decode(text)) end,\n"
     "  function(s) return #s == #text end"},
    {"frames", "return frames, function(s) return s == 'abcabcabc' end"},
};

// Frames through a channel, by feeding what another one has in its buffer.
static int f_frames(lua_State *L) {
  struct channel out, in;
  struct frame f;
  luaL_Buffer all;
  int done = 1;
  channel_init(&out, -1, -1);
  channel_init(&in, -1, -1);
  for (int i = 0; i < 3 && done > 0; i++) {
    done = channel_begin(&out, 1, 1);
    if (done > 0) done = buffer_put(&out.out, "abc", 3);
    if (done > 0) done = channel_end(&out);
  }
  size_t half = out.out.len / 2;
  if (done > 0) done = channel_feed(&in, out.out.data, half);
  if (done > 0)
    done = channel_feed(&in, out.out.data + half, out.out.len - half);
  bool memory = done > 0 || errno == ENOMEM;
  char text[16] = "";
  while (done > 0 && channel_next(&in, &f) == 1)
    strncat(text, (const char *)f.bytes, f.length);
  channel_free(&out);
  channel_free(&in);
  CHECK(memory);
  if (done < 0) return luaL_error(L, "not enough memory");
  luaL_buffinit(L, &all);
  luaL_addstring(&all, text);
  luaL_pushresult(&all);
  return 1;
}

#define POOL                                    \
  "package.path = 'lua/?.lua;lua/?/init.lua'\n" \
  "local luapool = require 'luapool'\n"         \
  "local function f(x) return x * x end\n"      \
  "local items = {}\n"                          \
  "for i = 1, 50 do items[i] = i end\n"         \
  "local function squares(l) return #l == 50 and l[50] == 2500 end\n"

static const struct scenario pools[] = {
    {"Pool",
     POOL "return function() return luapool.Pool(2) end, function(pool)\n"
          "  local l = pool:map(f, items)\n"
          "  pool:terminate()\n"
          "  return squares(l)\n"
          "end"},
    {"Pool, spawned", POOL "return function()\n"
                           "  return luapool.Pool{1, start_method = 'spawn'}\n"
                           "end, function(pool)\n"
                           "  local l = pool:map(f, items)\n"
                           "  pool:terminate()\n"
                           "  return squares(l)\n"
                           "end"},
    {"map", POOL
     "local pool = luapool.Pool(1)\n"
     "return function() return pool:map(f, items) end, squares, function()\n"
     "  pool:terminate()\n"
     "  pool = luapool.Pool(1)\n"
     "end"},
};

void luapool_preload(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_luapool_host);
  lua_setfield(L, -2, "luapool.host");
  lua_pop(L, 1);
}

// --- the sweep -------------------------------------------------------------

static lua_State *new_state(const struct scenario *s) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  luapool_preload(L);
  luaL_requiref(L, "luapool.host", luaopen_luapool_host, 0);
  lua_setglobal(L, "host");
  luaL_requiref(L, "luapool.json", luaopen_luapool_json, 0);
  lua_setglobal(L, "json");
  lua_register(L, "frames", f_frames);
  lua_settop(L, 0);
  if (luaL_dostring(L, s->code) != LUA_OK) {
    fprintf(stderr, "%s: %s\n", s->name, lua_tostring(L, -1));
    exit(1);
  }
  lua_settop(L, 3);
  return L;
}

// Calls the work at stack index 1, then the check at 2 with what it returned.
// 1 right, 0 wrong, -1 an error, on top of the stack.
static int work(lua_State *L, long n, bool all) {
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 1);
  arm(n, all);
  int status = lua_pcall(L, 0, 1, 0);
  disarm();
  if (status != LUA_OK) return -1;
  // An error here is one of a worker that was forked while armed.
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) return -1;
  return lua_toboolean(L, -1);
}

static bool about_memory(lua_State *L) {
  const char *text = luaL_tolstring(L, -1, NULL);
  return strstr(text, "not enough memory") != NULL ||
         strstr(text, "Cannot allocate memory") != NULL ||
         strstr(text, "exited with status 1") != NULL;
}

// With the n-th allocation failing. Returns whether there was one.
static bool attempt(const struct scenario *s, long n, bool all) {
  long before = live;
  lua_State *L = new_state(s);
  int done = work(L, n, all);
  bool swept = failed;
  // A worker counts on from where its parent was, so that the last one may fail
  // in it alone.
  int ok = done > 0 || (done < 0 && about_memory(L));
  if (!ok) {
    fprintf(stderr, "%s, allocation %ld%s: %s\n", s->name, n,
            all ? " and on" : "", luaL_tolstring(L, -1, NULL));
  }
  CHECK(ok);
  lua_settop(L, 3);
  if (lua_isfunction(L, 3)) lua_call(L, 0, 0);
  ok = work(L, 0, false) == 1;
  if (!ok)
    fprintf(stderr, "%s, after allocation %ld%s: %s\n", s->name, n,
            all ? " and on" : "", luaL_tolstring(L, -1, NULL));
  CHECK(ok);
  lua_close(L);
  if (live != before)
    fprintf(stderr, "%s, allocation %ld: %ld blocks left\n", s->name, n,
            live - before);
  CHECK(live == before);
#ifdef __SANITIZE_ADDRESS__
  // The leak checker of a worker that is killed in the midst of it leaves its
  // helper process to us. One that lived on would be waited for until the alarm.
  unit_reap_all();
#endif
  pid_t child = waitpid(-1, NULL, WNOHANG);
  int fds = unit_count_fds() - unit_fds;
  ok = child < 0 && fds == 0;
  if (!ok)
    fprintf(stderr, "%s, allocation %ld%s: left: %d descriptors, %s\n", s->name,
            n, all ? " and on" : "", fds, child < 0 ? "no child" : "a child");
  CHECK(ok);
  return swept;
}

static void sweep(const struct scenario *s, size_t n_scenarios, long by) {
  for (size_t i = 0; i < n_scenarios; i++) {
    long n[2] = {1, 1};
    for (int all = 0; all < 2; all++)
      while (attempt(&s[i], n[all], all)) n[all] += by;
    printf("%s: %ld allocations\n", s[i].name, n[0] - 1);
  }
}

// A fork under a sanitizer takes twenty times as long: its build looks at some of
// what the plain one looks at in full.
#ifdef __SANITIZE_ADDRESS__
enum { POOL_STRIDE = 11 };
#else
enum { POOL_STRIDE = 1 };
#endif

int main(void) {
  unit_begin(110);
  setlinebuf(stdout);
  // What libraries keep for good is allocated first.
  attempt(&codec[0], 0, false);
  attempt(&pools[0], 0, false);
  sweep(codec, sizeof codec / sizeof *codec, 1);
  sweep(pools, sizeof pools / sizeof *pools, POOL_STRIDE);
  return unit_end();
}
