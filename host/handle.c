// SPDX-License-Identifier: MIT
// The parent's end of one worker. Nothing in here waits: writes go as far as
// the pipe takes them, reads take what is there.
//
// Who may call it: lua/luapool/, in the process that made the worker.

#include "handle.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

#include "codec.h"
#include "epoch.h"
#include "frames.h"
#include "ledger.h"
#include "lib.h"
#include "metatable.h"
#include "poller.h"

#define HANDLE_NAME "luapool.handle"

enum {
  NS = 1000000000,
  // What the headers of a chunk of one item take at most, and the budget of
  // those before it, bytes.
  FRAME_SLACK = 1 << 20
};

struct handle *handle_check(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, HANDLE_NAME);
}

static struct handle *to_handle(lua_State *L) { return handle_check(L, 1); }

static void no_memory(lua_State *L) { luaL_error(L, "not enough memory"); }

// ------------------------------------------------------------- frames out

static void frame_begin(lua_State *L, struct handle *h, uint8_t type,
                        uint16_t task) {
  channel_abort(&h->ch);  // one that an error left half-built
  if (channel_begin(&h->ch, type, task) < 0) no_memory(L);
}

static void frame_put(lua_State *L, struct handle *h, const void *p, size_t n) {
  if (buffer_put(&h->ch.out, p, n) < 0) {
    channel_abort(&h->ch);
    no_memory(L);
  }
}

static void frame_end(lua_State *L, struct handle *h) {
  if (channel_end(&h->ch) == 1) return;
  channel_abort(&h->ch);
  luaL_error(L, "a message takes more than 4 GiB");
}

static uint32_t check_u32(lua_State *L, int arg) {
  return (uint32_t)luaL_checkinteger(L, arg);
}

// handle:send_function(call, bytes): the function of a call, encoded
static int f_send_function(lua_State *L) {
  struct handle *h = to_handle(L);
  const struct frame_call head = {check_u32(L, 2)};
  size_t n;
  const char *bytes = luaL_checklstring(L, 3, &n);
  frame_begin(L, h, FRAME_FUNCTION, 0);
  frame_put(L, h, &head, sizeof head);
  frame_put(L, h, bytes, n);
  frame_end(L, h);
  return 0;
}

// handle:send_forget(call)
static int f_send_forget(lua_State *L) {
  struct handle *h = to_handle(L);
  const struct frame_call head = {check_u32(L, 2)};
  frame_begin(L, h, FRAME_FORGET, 0);
  frame_put(L, h, &head, sizeof head);
  frame_end(L, h);
  return 0;
}

static int send_bytes(lua_State *L, uint8_t type) {
  struct handle *h = to_handle(L);
  size_t n;
  const char *bytes = luaL_checklstring(L, 2, &n);
  frame_begin(L, h, type, 0);
  frame_put(L, h, bytes, n);
  frame_end(L, h);
  return 0;
}

// handle:send_define(bytes), handle:send_init(bytes): of the session;
// handle:send_environment("name=value" or "name")
static int f_send_environment(lua_State *L) {
  return send_bytes(L, FRAME_ENVIRONMENT);
}
static int f_send_define(lua_State *L) { return send_bytes(L, FRAME_DEFINE); }
static int f_send_init(lua_State *L) { return send_bytes(L, FRAME_INIT); }

// The fields that both kinds of chunk share: serial, call, kind, timed at
// `arg`, then seed (nil: none) and nth.
static uint32_t chunk_begin(lua_State *L, struct handle *h, int arg,
                            struct frame_chunk *c) {
  uint32_t serial = check_u32(L, arg);
  memset(c, 0, sizeof *c);
  c->call = check_u32(L, arg + 1);
  c->kind = (uint8_t)luaL_checkinteger(L, arg + 2);
  c->timed = (uint8_t)lua_toboolean(L, arg + 3);
  c->seeded = !lua_isnoneornil(L, arg + 4);
  c->seed = luaL_optinteger(L, arg + 4, 0);
  c->nth = (uint64_t)luaL_checkinteger(L, arg + 5);
  frame_begin(L, h, FRAME_CHUNK, (uint16_t)serial);
  frame_put(L, h, c, sizeof *c);
  return serial;
}

// Fills in what is known only after the items: where the chunk begins.
static void chunk_head(struct handle *h, const struct frame_chunk *c) {
  memcpy(h->ch.out.data + h->ch.out_frame + sizeof(struct frame_header), c,
         sizeof *c);
}

// handle:send_call(serial, 0, 2, timed, seed, nth, bytes): a chunk of one item
// that was encoded when it was submitted
static int f_send_call(lua_State *L) {
  struct handle *h = to_handle(L);
  struct frame_chunk c;
  size_t n;
  const char *bytes = luaL_checklstring(L, 8, &n);
  if (n > UINT32_MAX - FRAME_SLACK)
    return luaL_error(L, "the arguments take more than 4 GiB");
  uint32_t serial = chunk_begin(L, h, 2, &c);
  uint32_t length = (uint32_t)n;
  c.count = 1;
  c.first = 1;
  chunk_head(h, &c);
  frame_put(L, h, &length, sizeof length);
  frame_put(L, h, bytes, n);
  frame_end(L, h);
  ledger_open(h->ledger, serial, 1);
  return 0;
}

// Stack slots of send_items.
enum { SERIAL = 2, SESSION = 8, SCOPE, ITEMS, FIRST, COUNT, BUDGET };

// Pushes the values of the item on top of the stack, which is an argument list,
// and returns their number; -1 where they are too many.
static int spread(lua_State *L) {
  int list = lua_gettop(L);
  lua_pushliteral(L, "n");
  lua_rawget(L, list);
  lua_Integer n = lua_isinteger(L, -1) ? lua_tointeger(L, -1)
                                       : (lua_Integer)lua_rawlen(L, list);
  lua_pop(L, 1);
  if (n < 0) n = 0;
  if (n > INT_MAX / 2 || !lua_checkstack(L, (int)n + LUA_MINSTACK)) return -1;
  for (lua_Integer i = 1; i <= n; i++) lua_rawgeti(L, list, i);
  return (int)n;
}

// Appends items[at] with its length in front. False with a message on the stack
// where it cannot travel; the frame is then as before.
static bool item_put(lua_State *L, struct handle *h, lua_Integer index,
                     bool star) {
  const struct codec_path path = {"items", index, star};
  struct buffer *out = &h->ch.out;
  size_t mark = out->len - h->ch.out_frame;
  uint32_t length = 0;
  frame_put(L, h, &length, sizeof length);
  lua_rawgeti(L, ITEMS, index);
  int n = star ? spread(L) : 1;
  int first = lua_gettop(L) - n + 1;
  bool ok = n >= 0;
  if (ok)
    ok = codec_put(L, SESSION, SCOPE, out, first, n, &path);
  else
    lua_pushfstring(L, "items[%I] has too many arguments", index);
  size_t bytes = out->len - h->ch.out_frame - mark - sizeof length;
  if (ok && bytes > UINT32_MAX - FRAME_SLACK) {
    lua_pushfstring(L, "items[%I] takes more than 4 GiB", index);
    ok = false;
  }
  if (!ok) {
    out->len = h->ch.out_frame + mark;
    return false;
  }
  length = (uint32_t)bytes;
  memcpy(out->data + h->ch.out_frame + mark, &length, sizeof length);
  return true;
}

// handle:send_items(serial, call, kind, timed, seed, nth, session, scope, items,
//   first, count, budget) -> sent [, message]
// A chunk of items[first .. first+count-1]; fewer where they pass `budget` bytes
// or where one cannot travel: then `message` says why. Nothing is sent where
// sent is 0.
static int f_send_items(lua_State *L) {
  struct handle *h = to_handle(L);
  struct frame_chunk c;
  luaL_checktype(L, ITEMS, LUA_TTABLE);
  lua_Integer first = luaL_checkinteger(L, FIRST);
  lua_Integer count = luaL_checkinteger(L, COUNT);
  size_t budget = (size_t)luaL_checkinteger(L, BUDGET);
  uint32_t serial = chunk_begin(L, h, SERIAL, &c);
  int top = lua_gettop(L);
  bool ok = true;
  while (c.count < count && h->ch.out.len - h->ch.out_frame < budget) {
    ok = item_put(L, h, first + c.count, c.kind == CHUNK_STAR);
    if (!ok) break;
    c.count++;
    lua_settop(L, top);
  }
  if (c.count == 0) {
    channel_abort(&h->ch);
  } else {
    c.first = (uint64_t)first;
    chunk_head(h, &c);
    frame_end(L, h);
    ledger_open(h->ledger, serial, c.count);
  }
  lua_pushinteger(L, c.count);
  if (ok) return 1;
  lua_insert(L, -2);
  return 2;
}

// handle:flush() -> true: all is written; false: some waits for the pipe; nil:
// the worker reads no more
static int f_flush(lua_State *L) {
  struct handle *h = to_handle(L);
  int r = h->ch.wfd < 0 ? 1 : channel_flush(&h->ch);
  if (r < 0)
    lua_pushnil(L);
  else
    lua_pushboolean(L, r);
  return 1;
}

// handle:finish(): no more frames; the worker ends once it has read them
static int f_finish(lua_State *L) {
  process_close(&to_handle(L)->ch.wfd);
  return 0;
}

// -------------------------------------------------------------- frames in

// handle:read() -> true: something came; false: nothing is there; nil: the end
static int f_read(lua_State *L) {
  struct handle *h = to_handle(L);
  int r = channel_read(&h->ch);
  if (r < 0)
    lua_pushnil(L);
  else
    lua_pushboolean(L, r);
  return 1;
}

// A frame that should not be: it and what follows count as not received, so
// that salvage finds the results made before it.
static int protocol(lua_State *L, struct handle *h, size_t pos,
                    const char *what) {
  h->ch.in_pos = pos;
  channel_drop(&h->ch);
  lua_pushliteral(L, "protocol");
  lua_pushstring(L, what);
  return 2;
}

// Of item number `item` (0, 1 ...) of that chunk?
static bool is_result(const struct frame *f, uint32_t serial,
                      lua_Integer item) {
  return f->type == FRAME_TYPE(FRAME_RESULT, item) &&
         f->task == (uint16_t)serial;
}

// Decodes the frame's message; -1 with a text on the stack.
static int values(lua_State *L, int session, int scope, const struct frame *f) {
  const uint8_t *p = f->bytes;
  int n = codec_get(L, session, scope, CODEC_CODE, &p, f->bytes + f->length);
  if (n < 0) return -1;
  if (p == f->bytes + f->length) return n;
  lua_pop(L, n);
  lua_pushliteral(L, "bytes behind the message");
  return -1;
}

// handle:take(serial, session, scope, item) -> what, ...
//   "result", values...     of item number `item` (0, 1 ...) of the chunk `serial`
//   "error", kind, message, traceback, value
//   "undecodable", message  a result that cannot be read back
//   "ready"
//   "protocol", message     not what this worker may say now
//   nothing                 no whole frame is there
static int f_take(lua_State *L) {
  struct handle *h = to_handle(L);
  uint32_t serial = check_u32(L, 2);
  lua_Integer item = luaL_checkinteger(L, 5);
  struct frame f;
  lua_settop(L, 4);
  int r = channel_next(&h->ch, &f);
  if (r == 0) return 0;
  size_t pos = h->ch.in_pos;
  if (r < 0) return protocol(L, h, pos, "bytes that are no frame");
  pos -= sizeof(struct frame_header) + f.length;
  if (f.type == FRAME_READY) {
    lua_pushliteral(L, "ready");
    return 1;
  }
  uint8_t type = f.type & 15;
  if (type != FRAME_RESULT && type != FRAME_ERROR)
    return protocol(L, h, pos, "a frame of a type that no worker sends");
  if (f.task != (uint16_t)serial || f.type != FRAME_TYPE(type, item))
    return protocol(L, h, pos, "a result of a task it does not have");
  lua_pushstring(L, type == FRAME_RESULT ? "result" : "error");
  int n = values(L, 3, 4, &f);
  if (n >= 0) return n + 1;
  lua_pushliteral(L, "undecodable");
  lua_insert(L, -2);
  return 2;
}

// Stack slots of call.
enum { CALL_SESSION = 3, CALL_SCOPE, CALL_SECONDS, CALL_FUNCTION };

// The results of a chunk go straight into the list: the caller's slots.
enum { TAKE_SERIAL = 2, TAKE_SESSION, TAKE_SCOPE, LIST, AT, MOST, NIL, ITEM };

// handle:take_list(serial, session, scope, list, at, most, nil_value, item)
//   -> taken, nils
// Takes up to `most` results of the chunk `serial` that are there, from number
// `item` on, first values into list[at], list[at+1], ... A nil goes in as
// nil_value. Stops before anything that is no such result; take says what it is.
static int f_take_list(lua_State *L) {
  struct handle *h = to_handle(L);
  uint32_t serial = check_u32(L, TAKE_SERIAL);
  lua_Integer at = luaL_checkinteger(L, AT);
  lua_Integer most = luaL_checkinteger(L, MOST);
  lua_Integer item = luaL_checkinteger(L, ITEM);
  lua_Integer taken = 0, nils = 0;
  struct frame f;
  luaL_checktype(L, LIST, LUA_TTABLE);
  lua_settop(L, NIL);
  while (taken < most) {
    struct channel before = h->ch;
    if (channel_next(&h->ch, &f) != 1) break;
    int n = is_result(&f, serial, item + taken)
                ? values(L, TAKE_SESSION, TAKE_SCOPE, &f)
                : -1;
    if (n != 1) {
      h->ch.in_pos = before.in_pos;
      break;
    }
    if (lua_isnil(L, -1)) {
      lua_pushvalue(L, NIL);
      nils++;
    }
    lua_rawseti(L, LIST, at + taken);
    lua_settop(L, NIL);
    taken++;
  }
  lua_pushinteger(L, taken);
  lua_pushinteger(L, nils);
  return 2;
}

// Puts a chunk of one call, the n values at `first`, into the channel. 0 where
// they cannot travel.
static int call_put(lua_State *L, struct handle *h, uint32_t serial, int first,
                    int n) {
  static const struct codec_path path = {"args", 0, true};
  const struct frame_chunk c = {.count = 1, .first = 1, .kind = CHUNK_CALL};
  uint32_t length = 0;
  frame_begin(L, h, FRAME_CHUNK, (uint16_t)serial);
  frame_put(L, h, &c, sizeof c);
  frame_put(L, h, &length, sizeof length);
  size_t at = h->ch.out.len - h->ch.out_frame;
  bool ok = codec_put(L, CALL_SESSION, CALL_SCOPE, &h->ch.out, first, n, &path);
  size_t bytes = h->ch.out.len - h->ch.out_frame - at;
  if (!ok || bytes > UINT32_MAX - FRAME_SLACK) {
    channel_abort(&h->ch);
    return 0;
  }
  length = (uint32_t)bytes;
  memcpy(h->ch.out.data + h->ch.out_frame + at - sizeof length, &length,
         sizeof length);
  frame_end(L, h);
  ledger_open(h->ledger, serial, 1);
  return 1;
}

// Waits for the answer to the chunk. Pushes its values and returns their number;
// -1 where anything else happens first, which is then still to be taken.
static int call_wait(lua_State *L, struct handle *h, uint32_t serial,
                     double *frozen) {
  struct frame f;
  double seconds = luaL_optnumber(L, CALL_SECONDS, HUGE_VAL);
  while (poller_wait_for(h->ch.rfd, h->process.pidfd, seconds, frozen)) {
    if (channel_read(&h->ch) < 0) return -1;
    size_t before = h->ch.in_pos;
    int r = channel_next(&h->ch, &f);
    // The scheduler waits for the rest of a large one, or one without an end.
    if (r == 0) return -1;
    if (r == 1 && is_result(&f, serial, 0)) {
      int n = values(L, CALL_SESSION, CALL_SCOPE, &f);
      if (n >= 0) return n;
      lua_pop(L, 1);
    }
    h->ch.in_pos = before;
    return -1;
  }
  return -1;
}

// handle:call(serial, session, scope, seconds or nil, f, args...)
//   -> true, results...
//   | false [, frozen]: sent, but the answer is not there, or is no result; for
//     how many seconds this process was stopped meanwhile, as of poller:wait
//   | nil: not sent, since something in it cannot travel
// The short way of an apply on a pool that does nothing else: the scheduler's
// bookkeeping takes as long as the pipes. Where false comes an interrupt is held
// back (luapool_busy) until the scheduler knows of the chunk.
static int f_call(lua_State *L) {
  struct handle *h = to_handle(L);
  uint32_t serial = check_u32(L, 2);
  double frozen = 0;
  if (!call_put(L, h, serial, CALL_FUNCTION, lua_gettop(L) - CALL_SECONDS))
    return 0;
  luapool_busy = 1;
  lua_settop(L, CALL_SECONDS);
  lua_pushboolean(L, 1);
  int n = channel_flush(&h->ch) == 1 ? call_wait(L, h, serial, &frozen) : -1;
  luapool_busy = n < 0;
  if (n >= 0) return n + 1;
  lua_pushboolean(L, 0);
  if (frozen == 0) return 1;
  lua_pushnumber(L, frozen);
  return 2;
}

// handle:stuck() -> whether its last frame stops in the middle for good: all
// that it has written has been read, and it is not writing.
static int f_stuck(lua_State *L) {
  struct handle *h = to_handle(L);
  _Atomic uint32_t *writes = &h->ledger->writes;
  uint32_t before = atomic_load_explicit(writes, memory_order_acquire);
  int r = channel_read(&h->ch);
  uint32_t after = atomic_load_explicit(writes, memory_order_acquire);
  lua_pushboolean(L, r == 0 && before == after && before % 2 == 0 &&
                         channel_partial(&h->ch));
  return 1;
}

// handle:partial() -> whether the end of a frame is still to come
static int f_partial(lua_State *L) {
  lua_pushboolean(L, channel_partial(&to_handle(L)->ch));
  return 1;
}

// handle:discard(): what has been read of a broken frame
static int f_discard(lua_State *L) {
  channel_drop(&to_handle(L)->ch);
  return 0;
}

// handle:salvage(): after the end, and once read says nil: what was finished and
// not sent comes in as if it had been read
static int f_salvage(lua_State *L) {
  struct handle *h = to_handle(L);
  const uint8_t *bytes;
  size_t n = ledger_salvage(h->ledger, h->ch.received, &bytes);
  if (n > 0 && channel_feed(&h->ch, bytes, n) < 0) no_memory(L);
  lua_pushboolean(L, n > 0);
  return 1;
}

// handle:look() -> whether something came: what the worker has finished comes in
// now, even where it has not written it yet
static int f_look(lua_State *L) {
  struct handle *h = to_handle(L);
  uint64_t before = h->ch.received;
  int r;
  do r = channel_read(&h->ch);
  while (r == 1);
  struct buffer copy = {NULL, 0, 0};
  ssize_t n = r == 0 ? ledger_peek(h->ledger, h->ch.received, &copy) : 0;
  if (n > 0) n = channel_feed_early(&h->ch, copy.data, (size_t)n);
  buffer_free(&copy);
  if (n < 0) no_memory(L);
  lua_pushboolean(L, h->ch.received != before);
  return 1;
}

// -------------------------------------------------------------- the ledger

static struct ledger *ledger_of(lua_State *L) {
  struct handle *h = to_handle(L);
  if (h->ledger == NULL) luaL_error(L, "the worker is not this process's");
  return h->ledger;
}

// handle:claimed(serial) -> items of the chunk that were started
static int f_claimed(lua_State *L) {
  lua_pushinteger(L, ledger_claimed(ledger_of(L), check_u32(L, 2)));
  return 1;
}

// handle:revoke(serial, keep) -> items the chunk has from now on
static int f_revoke(lua_State *L) {
  uint32_t serial = check_u32(L, 2);
  lua_pushinteger(L, ledger_revoke(ledger_of(L), serial, check_u32(L, 3)));
  return 1;
}

static int push_seconds(lua_State *L, uint64_t ns) {
  lua_pushnumber(L, (lua_Number)ns / NS);
  return 1;
}

// handle:started() -> time of the last claim of a timed chunk, seconds
static int f_started(lua_State *L) {
  return push_seconds(L, atomic_load(&ledger_of(L)->started));
}

// handle:busy() -> seconds in chunks that are over
static int f_busy(lua_State *L) {
  return push_seconds(L, atomic_load(&ledger_of(L)->busy));
}

// handle:bytes() -> received, sent
static int f_bytes(lua_State *L) {
  struct handle *h = to_handle(L);
  lua_pushinteger(L, (lua_Integer)h->ch.received);
  lua_pushinteger(L, (lua_Integer)h->ch.sent);
  return 2;
}

// ------------------------------------------------------------- the process

// handle:pid(); nil once reaped
static int f_pid(lua_State *L) {
  struct handle *h = to_handle(L);
  if (h->process.pid <= 0) return 0;
  lua_pushinteger(L, h->process.pid);
  return 1;
}

// handle:kill(signal): to the worker's process group
static int f_kill(lua_State *L) {
  process_kill(&to_handle(L)->process, (int)luaL_checkinteger(L, 2));
  return 0;
}

// handle:terminate(seconds): TERM, that grace, KILL; reaps
static int f_terminate(lua_State *L) {
  struct handle *h = to_handle(L);
  lua_Number seconds = luaL_checknumber(L, 2);
  if (!h->process.reaped) process_end(&h->process, (int)(seconds * 1000));
  return 0;
}

// handle:reap() -> exitcode, signal (one is nil), of a process whose end has been
// announced. Where there are no pidfds that is by the end of a pipe, which comes
// a moment before the process's own; or a task has closed that pipe, and then
// its process is to end.
static int f_reap(lua_State *L) {
  enum { GRACE = 100 };  // ms
  struct process *p = &to_handle(L)->process;
  if (!p->reaped && process_reap(p) != 1) process_end(p, GRACE);
  bool killed = WIFSIGNALED(p->status);
  lua_pushnil(L);
  lua_pushinteger(L, killed ? WTERMSIG(p->status) : WEXITSTATUS(p->status));
  if (!killed) lua_insert(L, -2);
  return 2;
}

// In a child of the process that made the handle its fds are closed already
// (their numbers may be other files by now), and the worker is a sibling.
static void disown(struct handle *h) {
  h->ch.rfd = h->ch.wfd = h->process.pidfd = -1;
  h->process.pid = 0;
  h->ledger = NULL;  // ledger_hide: not mapped here
}

// handle:close(): both pipes and the ledger; the process must have been reaped
static int f_close(lua_State *L) {
  struct handle *h = to_handle(L);
  if (h->epoch != epoch_now()) disown(h);
  channel_free(&h->ch);
  ledger_free(h->ledger);
  h->ledger = NULL;
  return 0;
}

// A handle that is dropped with its worker alive ends it.
static int f_gc(lua_State *L) {
  struct handle *h = to_handle(L);
  if (h->epoch == epoch_now() && h->process.pid > 0)
    process_end(&h->process, 0);
  return f_close(L);
}

static const luaL_Reg methods[] = {
    {"send_function", f_send_function},
    {"send_forget", f_send_forget},
    {"send_define", f_send_define},
    {"send_environment", f_send_environment},
    {"send_init", f_send_init},
    {"send_call", f_send_call},
    {"send_items", f_send_items},
    {"flush", f_flush},
    {"finish", f_finish},
    {"read", f_read},
    {"take", f_take},
    {"take_list", f_take_list},
    {"call", f_call},
    {"stuck", f_stuck},
    {"partial", f_partial},
    {"discard", f_discard},
    {"salvage", f_salvage},
    {"look", f_look},
    {"claimed", f_claimed},
    {"revoke", f_revoke},
    {"started", f_started},
    {"busy", f_busy},
    {"bytes", f_bytes},
    {"pid", f_pid},
    {"kill", f_kill},
    {"terminate", f_terminate},
    {"reap", f_reap},
    {"close", f_close},
    {"__gc", f_gc},
    {NULL, NULL},
};

void handle_open(lua_State *L) {
  metatable_push(L, HANDLE_NAME, methods);
  lua_pop(L, 1);
}

struct handle *handle_new(lua_State *L) {
  struct handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  memset(h, 0, sizeof *h);
  h->epoch = epoch_now();
  channel_init(&h->ch, -1, -1);
  h->process.pidfd = -1;
  luaL_setmetatable(L, HANDLE_NAME);
  return h;
}
