// SPDX-License-Identifier: MIT
// The worker's end of its pipes. It blocks: a worker has nothing else to wait
// for. Results go to the ledger's outbox first, where they outlive this process,
// and from there to the pipe in one write for many.
//
// Who may call it: lua/luapool/worker.lua, in a worker, from one Lua state.

#include "link.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

#include "channel.h"
#include "codec.h"
#include "frames.h"
#include "ledger.h"
#include "metatable.h"
#include "process.h"

#define LINK_NAME "luapool.link"

enum {
  FLUSH_AFTER = 1000000,  // ns that a result may stay in the outbox
  CHECK_MOST = 16,        // items between two looks at the clock, at most
  SCRATCH_KEEP = 1 << 20  // bytes
};

struct link {
  struct channel ch;
  struct ledger *ledger;
  struct buffer scratch;  // the frame of one result
  size_t unsent;          // bytes in the outbox

  // The chunk at hand; p == NULL between chunks.
  const uint8_t *p, *end;
  struct frame_chunk chunk;
  uint32_t item;  // the next one
  uint16_t task;

  // A frame that was read on the way to the next item and is none.
  struct frame kept;
  enum { KEPT_NOTHING, KEPT_FRAME, KEPT_END } keeps;

  uint64_t begun;    // when the chunk was
  uint64_t flushed;  // when the outbox was last known empty
  unsigned check, checked;
};

// Stack slots of every method: the link, its session, the scope of the call.
enum { SELF = 1 };

// Unchecked: a link is seen by worker.lua alone, which calls once an item.
static struct link *to_link(lua_State *L) { return lua_touserdata(L, SELF); }

static int os_error(lua_State *L, const char *what) {
  return luaL_error(L, "could not %s: %s", what, strerror(errno));
}

// ---------------------------------------------------------------- results

// All that goes to the parent. The parent must know when this worker is not in
// the middle of it: a frame that is not whole then never will be.
static void pipe_write(lua_State *L, struct link *k, const void *p, size_t n) {
  atomic_fetch_add_explicit(&k->ledger->writes, 1, memory_order_release);
  if (channel_write(&k->ch, p, n) < 0) os_error(L, "write a result");
  atomic_fetch_add_explicit(&k->ledger->writes, 1, memory_order_release);
}

// What a task has printed is out when its result is.
static void outbox_flush(lua_State *L, struct link *k) {
  process_flush_stdout();
  if (k->unsent > 0) {
    pipe_write(L, k, k->ledger->outbox, k->unsent);
    k->unsent = 0;
    ledger_sent(k->ledger, 0);
  }
}

// Puts the frame in scratch behind all earlier ones. Too large for the outbox,
// it goes to the pipe from where it is.
static void frame_put(lua_State *L, struct link *k) {
  size_t n = k->scratch.len;
  if (n > ledger_room(k->ledger)) outbox_flush(L, k);
  if (n <= ledger_room(k->ledger)) {
    memcpy(ledger_tail(k->ledger), k->scratch.data, n);
    ledger_commit(k->ledger, n);
    k->unsent += n;
    return;
  }
  pipe_write(L, k, k->scratch.data, n);
  ledger_sent(k->ledger, n);
  buffer_reset(&k->scratch, SCRATCH_KEEP);
}

static void frame_begin(lua_State *L, struct link *k) {
  k->scratch.len = 0;
  if (buffer_reserve(&k->scratch, sizeof(struct frame_header)) < 0)
    luaL_error(L, "not enough memory");
  k->scratch.len = sizeof(struct frame_header);
}

static struct frame_header frame_header(const struct link *k, uint8_t type,
                                        size_t n) {
  uint32_t item = k->item > 0 ? k->item - 1 : 0;  // 0: before any chunk
  return (struct frame_header){(uint32_t)n, k->task, FRAME_TYPE(type, item),
                               CHANNEL_MAGIC};
}

// Returns false where the payload is more than a frame can hold.
static bool frame_end(struct link *k, uint8_t type) {
  size_t n = k->scratch.len - sizeof(struct frame_header);
  if (n > UINT32_MAX) return false;
  const struct frame_header h = frame_header(k, type, n);
  memcpy(k->scratch.data, &h, sizeof h);
  return true;
}

// The short way of a value that needs no more than a few bytes: it is encoded in
// place, in the outbox. False where it is another or there is no room.
static bool frame_encode_small(lua_State *L, struct link *k, uint8_t type,
                               int idx) {
  enum { MOST = 64 };  // above what codec_put_plain asks room for
  if (lua_type(L, idx) == LUA_TSTRING || ledger_room(k->ledger) < MOST)
    return false;
  struct buffer b = {ledger_tail(k->ledger), sizeof(struct frame_header), MOST};
  if (codec_put_plain(L, &b, idx) <= 0) return false;
  const struct frame_header h = frame_header(k, type, b.len - sizeof h);
  memcpy(b.data, &h, sizeof h);
  ledger_commit(k->ledger, b.len);
  k->unsent += b.len;
  return true;
}

static void session_push(lua_State *L) { lua_getiuservalue(L, SELF, 1); }
static void scope_push(lua_State *L) { lua_getiuservalue(L, SELF, 2); }

// Encodes the n values at `first` as a frame of this type. On failure pushes the
// message and returns false, nothing sent.
static bool frame_encode(lua_State *L, struct link *k, uint8_t type, int first,
                         int n, const struct codec_path *path) {
  if (n == 1 && frame_encode_small(L, k, type, first)) return true;
  session_push(L);
  scope_push(L);
  int session = lua_gettop(L) - 1;
  frame_begin(L, k);
  if (!codec_put(L, session, session + 1, &k->scratch, first, n, path))
    return false;
  lua_settop(L, session - 1);
  if (!frame_end(k, type)) {
    buffer_reset(&k->scratch, SCRATCH_KEEP);
    lua_pushfstring(L, "the %s takes more than 4 GiB", path->base);
    return false;
  }
  frame_put(L, k);
  return true;
}

// An error frame of kind and message alone; neither can fail to travel.
static void error_put(lua_State *L, struct link *k, const char *kind,
                      const char *message) {
  static const struct codec_path path = {"error", 0, false};
  int top = lua_gettop(L);
  lua_pushstring(L, kind);
  lua_pushstring(L, message);
  if (!frame_encode(L, k, FRAME_ERROR, top + 1, 2, &path)) lua_error(L);
  lua_settop(L, top);
}

// link:fail(kind, message, traceback, value): the item at hand has failed. A
// value that cannot travel is left out; its text is the message.
static int f_fail(lua_State *L) {
  static const struct codec_path path = {"error", 0, false};
  struct link *k = to_link(L);
  lua_settop(L, 5);
  if (!frame_encode(L, k, FRAME_ERROR, 2, 4, &path)) {
    lua_settop(L, 4);
    if (!frame_encode(L, k, FRAME_ERROR, 2, 3, &path)) lua_error(L);
  }
  return 0;
}

static void result_put(lua_State *L, struct link *k, int first, int n) {
  static const struct codec_path one = {"result", 0, false};
  static const struct codec_path many = {"result", 0, true};
  bool all = k->chunk.kind == CHUNK_CALL;
  if (!all) {  // a map's result is one value, nil where there was none
    lua_settop(L, first);
    n = 1;
  }
  if (!frame_encode(L, k, FRAME_RESULT, first, n, n == 1 ? &one : &many))
    error_put(L, k, "encode", lua_tostring(L, -1));
}

// A result that has waited for a while goes out.
static void outbox_due(lua_State *L, struct link *k, uint64_t now) {
  if (now - k->flushed < FLUSH_AFTER) return;
  outbox_flush(L, k);
  k->flushed = now;
  k->check = 1;
}

// The clock is read at every item while items are slow, seldom while they are
// quick. That the next item will be slow nobody knows: the parent looks into the
// outbox where it hears nothing.
static void outbox_tick(lua_State *L, struct link *k) {
  if (k->chunk.kind == CHUNK_CALL) return;  // chunk_over does
  if (++k->checked < k->check) return;
  k->checked = 0;
  if (k->check < CHECK_MOST) k->check *= 2;
  outbox_due(L, k, ledger_now());
}

// ------------------------------------------------------------------ items

static void chunk_over(lua_State *L, struct link *k) {
  uint64_t now = ledger_now(), busy = now - k->begun;
  k->p = NULL;
  atomic_fetch_add_explicit(&k->ledger->busy, busy, memory_order_relaxed);
  outbox_due(L, k, now);
}

static int frame_wait(lua_State *L, struct link *k, struct frame *f);
static void chunk_enter(struct link *k, const struct frame *f);

// Does f hold a call that can be run like the one before it?
static bool is_next_call(const struct link *k, const struct frame *f) {
  struct frame_chunk c;
  if (f->type != FRAME_CHUNK || f->length < sizeof c) return false;
  memcpy(&c, f->bytes, sizeof c);
  return c.kind == CHUNK_CALL && k->chunk.kind == CHUNK_CALL &&
         c.seeded == k->chunk.seeded;
}

// Classes that the last call brought are not the next one's.
static void scope_renew(lua_State *L) {
  scope_push(L);
  lua_pushnil(L);
  if (lua_next(L, -2)) {
    lua_newtable(L);
    lua_setiuservalue(L, SELF, 2);
  }
  lua_settop(L, SELF);
}

// Calls follow one another without a way back through worker.lua. Any other
// frame is kept for it.
static bool chunk_next(lua_State *L, struct link *k) {
  if (k->chunk.kind != CHUNK_CALL) return false;
  if (!frame_wait(L, k, &k->kept)) {
    k->keeps = KEPT_END;
  } else if (!is_next_call(k, &k->kept)) {
    k->keeps = KEPT_FRAME;
  } else {
    scope_renew(L);
    chunk_enter(k, &k->kept);
    return true;
  }
  return false;
}

static bool item_claim(struct link *k) {
  if (k->item >= k->chunk.count) return false;
  if (k->chunk.timed) ledger_start(k->ledger);
  return ledger_claim(k->ledger, k->task, k->item);
}

// Finds the bytes of the next item. The parent made them: anything amiss means
// that the stream is broken, and this worker ends.
static const uint8_t *item_bytes(lua_State *L, struct link *k) {
  uint32_t n;
  if ((size_t)(k->end - k->p) < sizeof n) luaL_error(L, "a chunk is cut short");
  memcpy(&n, k->p, sizeof n);
  k->p += sizeof n;
  if ((size_t)(k->end - k->p) < n) luaL_error(L, "a chunk is cut short");
  const uint8_t *bytes = k->p;
  k->p += n;
  k->item++;
  return bytes;
}

// Claims and decodes items until one can be run: returns true and its values;
// or nothing where the chunk is over. An item that does not decode has failed.
static int chunk_item(lua_State *L, struct link *k) {
  lua_settop(L, SELF);
  while (k->p != NULL && item_claim(k)) {
    const uint8_t *bytes = item_bytes(L, k);
    lua_pushboolean(L, 1);
    if (codec_get_plain(L, &bytes, k->p)) return 2;
    lua_settop(L, SELF);
    session_push(L);
    scope_push(L);
    lua_pushboolean(L, 1);
    int n = codec_get(L, SELF + 1, SELF + 2, CODEC_CODE, &bytes, k->p);
    if (n >= 0) return n + 1;
    error_put(L, k, "decode", lua_tostring(L, -1));
    lua_settop(L, SELF);
  }
  if (k->p != NULL) chunk_over(L, k);
  return 0;
}

static int item_next(lua_State *L, struct link *k) {
  int n = chunk_item(L, k);
  while (n == 0 && chunk_next(L, k)) n = chunk_item(L, k);
  return n;
}

// link:next() -> true, values... | nothing
static int f_next(lua_State *L) { return item_next(L, to_link(L)); }

// link:step(results...): sends them, then as next.
static int f_step(lua_State *L) {
  struct link *k = to_link(L);
  result_put(L, k, SELF + 1, lua_gettop(L) - SELF);
  outbox_tick(L, k);
  return item_next(L, k);
}

// link:random() -> seed, nth, index of the item at hand; nothing where the chunk
// is not seeded
static int f_random(lua_State *L) {
  struct link *k = to_link(L);
  if (!k->chunk.seeded) return 0;
  lua_pushinteger(L, k->chunk.seed);
  lua_pushinteger(L, (lua_Integer)k->chunk.nth);
  lua_pushinteger(L, (lua_Integer)(k->chunk.first + k->item - 1));
  return 3;
}

// ----------------------------------------------------------------- frames

static const char *const frame_names[] = {
    [FRAME_INIT] = "init",
    [FRAME_FUNCTION] = "function",
    [FRAME_FORGET] = "forget",
    [FRAME_DEFINE] = "define",
    [FRAME_ENVIRONMENT] = "environment",
    [FRAME_CHUNK] = "chunk",
};

static uint32_t take_call(lua_State *L, struct link *k) {
  struct frame_call head;
  if ((size_t)(k->end - k->p) < sizeof head)
    luaL_error(L, "a frame is cut short");
  memcpy(&head, k->p, sizeof head);
  k->p += sizeof head;
  return head.call;
}

static void chunk_enter(struct link *k, const struct frame *f) {
  memcpy(&k->chunk, f->bytes, sizeof k->chunk);
  k->p = f->bytes + sizeof k->chunk;
  k->end = f->bytes + f->length;
  k->task = f->task;
  k->item = 0;
  k->begun = ledger_now();
  if (k->unsent == 0) k->flushed = k->begun;
  k->check = 1;
  k->checked = 0;
}

static int take_chunk(lua_State *L, struct link *k, const struct frame *f) {
  if (f->length < sizeof k->chunk) return luaL_error(L, "a chunk is cut short");
  chunk_enter(k, f);
  lua_pushliteral(L, "chunk");
  lua_pushinteger(L, k->chunk.call);
  lua_pushinteger(L, k->chunk.kind);
  lua_pushboolean(L, k->chunk.seeded);
  return 4;
}

static int frame_push(lua_State *L, struct link *k, const struct frame *f) {
  if (f->type == FRAME_CHUNK) return take_chunk(L, k, f);
  k->p = f->bytes;
  k->end = f->bytes + f->length;
  k->task = f->task;
  if (f->type < FRAME_INIT || f->type > FRAME_CHUNK)
    return luaL_error(L, "a frame of unknown type %d", f->type);
  lua_pushstring(L, frame_names[f->type]);
  if (f->type == FRAME_FUNCTION || f->type == FRAME_FORGET) {
    lua_pushinteger(L, take_call(L, k));
    return 2;
  }
  if (f->type == FRAME_DEFINE || f->type == FRAME_ENVIRONMENT) {
    lua_pushlstring(L, (const char *)k->p, f->length);
    return 2;
  }
  return 1;
}

// 1 a whole frame, 0 the parent has closed the pipe.
static int frame_wait(lua_State *L, struct link *k, struct frame *f) {
  for (;;) {
    int r = channel_next(&k->ch, f);
    if (r < 0) os_error(L, "understand the parent");
    if (r > 0) return 1;
    outbox_flush(L, k);
    atomic_store_explicit(&k->ledger->reading, 1, memory_order_release);
    r = channel_read(&k->ch);
    atomic_store_explicit(&k->ledger->reading, 0, memory_order_release);
    if (r < 0 && errno == EPIPE) return 0;
    if (r < 0) os_error(L, "read from the parent");
  }
}

// link:receive() -> what, ...: waits for the next frame
//   "chunk", call, kind (0 map, 1 star, 2 call), seeded
//   "function" | "forget", call
//   "define" | "environment", bytes
//   "init"
//   nothing: the parent has closed the pipe
static int f_receive(lua_State *L) {
  struct link *k = to_link(L);
  k->p = NULL;
  if (k->keeps == KEPT_NOTHING)
    k->keeps = frame_wait(L, k, &k->kept) ? KEPT_FRAME : KEPT_END;
  if (k->keeps == KEPT_END) return 0;
  k->keeps = KEPT_NOTHING;
  return frame_push(L, k, &k->kept);
}

// link:values() -> true, values... of the frame at hand | false, message
static int f_values(lua_State *L) {
  struct link *k = to_link(L);
  lua_settop(L, SELF);
  session_push(L);
  scope_push(L);
  lua_pushboolean(L, 1);
  int n = codec_get(L, SELF + 1, SELF + 2, CODEC_CODE, &k->p, k->end);
  if (n >= 0) return n + 1;
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

// link:scope(scope): class ids of the call at hand, see host.session
static int f_scope(lua_State *L) {
  to_link(L);
  lua_settop(L, 2);
  lua_setiuservalue(L, SELF, 2);
  return 0;
}

// link:session(session)
static int f_session(lua_State *L) {
  to_link(L);
  lua_settop(L, 2);
  lua_setiuservalue(L, SELF, 1);
  return 0;
}

// link:ready(): the initializer has returned
static int f_ready(lua_State *L) {
  struct link *k = to_link(L);
  frame_begin(L, k);
  frame_end(k, FRAME_READY);
  frame_put(L, k);
  outbox_flush(L, k);
  return 0;
}

// link:flush(): what is finished goes out now
static int f_flush(lua_State *L) {
  outbox_flush(L, to_link(L));
  return 0;
}

static int f_gc(lua_State *L) {
  struct link *k = to_link(L);
  channel_free(&k->ch);
  buffer_free(&k->scratch);
  return 0;
}

static const luaL_Reg methods[] = {
    {"receive", f_receive}, {"values", f_values}, {"next", f_next},
    {"step", f_step},       {"fail", f_fail},     {"random", f_random},
    {"scope", f_scope},     {"ready", f_ready},   {"flush", f_flush},
    {"session", f_session}, {"__gc", f_gc},       {NULL, NULL},
};

void link_open(lua_State *L) {
  metatable_push(L, LINK_NAME, methods);
  lua_pop(L, 1);
}

void link_new(lua_State *L, int rfd, int wfd, struct ledger *ledger) {
  struct link *k = lua_newuserdatauv(L, sizeof *k, 2);
  memset(k, 0, sizeof *k);
  channel_init(&k->ch, rfd, wfd);
  k->ledger = ledger;
  luaL_setmetatable(L, LINK_NAME);
}
