// SPDX-License-Identifier: MIT
// See http.h. What scripts hold: clients and transfers. Both belong to the
// process that made them: what a child inherits raises, and collecting it there
// leaves libcurl alone.
#include "http.h"

#include <ctype.h>
#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "epoch.h"
#include "http_client.h"
#include "http_request.h"
#include "http_transfer.h"
#include "lib.h"
#include "metatable.h"

#define CLIENT_NAME "luapool.http.client"
#define TRANSFER_NAME "luapool.http.transfer"

struct client {
  unsigned epoch;  // 0 until it is open
  struct http_client http;
};

struct transfer {
  unsigned epoch;
  struct http_transfer http;
};

// The user values of a transfer: its client, which it keeps alive, and the body
// of the request, in whose place the answer stands once it was asked for.
enum { VALUE_CLIENT = 1, VALUE_BODY = 2, VALUE_ANSWER = 2, VALUES = 2 };

static void check_process(lua_State *L, unsigned epoch, const char *what) {
  if (epoch != epoch_now())
    luaL_error(L, "this HTTP %s belongs to another process", what);
}

static struct http_client *to_client(lua_State *L) {
  struct client *c = luaL_checkudata(L, 1, CLIENT_NAME);
  check_process(L, c->epoch, "client");
  if (c->http.multi == NULL) luaL_error(L, "the HTTP client is closed");
  return &c->http;
}

static struct http_transfer *to_transfer(lua_State *L, int index) {
  struct transfer *t = luaL_checkudata(L, index, TRANSFER_NAME);
  check_process(L, t->epoch, "transfer");
  return &t->http;
}

static enum http_wait check(lua_State *L, const struct http_client *c,
                            const struct http_transfer *t, enum http_wait r) {
  if (r == HTTP_FAILED && c->code != CURLM_OUT_OF_MEMORY)
    luaL_error(L, "could not wait: %s", curl_multi_strerror(c->code));
  if (r == HTTP_FAILED || t->no_memory) luaL_error(L, "not enough memory");
  return r;
}

// For the callers of a wait an interrupt is a result: see lib.h.
static enum http_wait wait_until_over(lua_State *L, struct http_client *c,
                                      const struct http_transfer *t,
                                      double seconds) {
  sig_atomic_t was = luapool_busy;
  luapool_busy = 1;
  enum http_wait r = http_client_wait(c, t, seconds);
  luapool_busy = was;
  return check(L, c, t, r);
}

static enum http_wait wait_for_room(lua_State *L, struct http_transfer *t) {
  struct http_client *c = t->client;
  sig_atomic_t was = luapool_busy;
  luapool_busy = 1;
  enum http_wait r = http_client_drain(t);
  luapool_busy = was;
  return check(L, c, t, r);
}

// --- clients --------------------------------------------------------------

// client() -> client
static int f_client(lua_State *L) {
  struct client *c = lua_newuserdatauv(L, sizeof *c, 0);
  memset(c, 0, sizeof *c);
  luaL_setmetatable(L, CLIENT_NAME);
  if (http_client_open(&c->http) < 0)
    return luaL_error(L, "could not make an HTTP client: %s", strerror(errno));
  c->epoch = epoch_now();
  return 1;
}

static struct http_transfer *new_transfer(lua_State *L) {
  struct transfer *t = lua_newuserdatauv(L, sizeof *t, VALUES);
  memset(t, 0, sizeof *t);
  luaL_setmetatable(L, TRANSFER_NAME);
  t->epoch = epoch_now();
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, VALUE_CLIENT);
  if (!http_transfer_init(&t->http)) http_request_failed(L, &t->http);
  return &t->http;
}

// client:start{url=, ...} -> transfer
static int f_start(lua_State *L) {
  struct http_client *c = to_client(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  struct http_transfer *t = new_transfer(L);
  http_request_read(L, t);
  lua_setiuservalue(L, 3, VALUE_BODY);
  check(L, c, t, http_client_start(c, t));
  return 1;
}

// client:wait(transfer, seconds or nil) -> true: it is over | false: time is up |
// nil: interrupted
static int f_wait(lua_State *L) {
  struct http_client *c = to_client(L);
  struct http_transfer *t = to_transfer(L, 2);
  double seconds = luaL_optnumber(L, 3, INFINITY);
  luaL_argcheck(L, t->over || t->client == c, 2,
                "a transfer of another client");
  if (!(seconds > 0)) seconds = 0;  // not a number, too
  enum http_wait r = wait_until_over(L, c, t, seconds);
  if (r == HTTP_INTERRUPTED)
    lua_pushnil(L);
  else
    lua_pushboolean(L, r == HTTP_OVER);
  return 1;
}

// client:close()
static int f_close(lua_State *L) {
  struct client *c = luaL_checkudata(L, 1, CLIENT_NAME);
  check_process(L, c->epoch, "client");
  http_client_close(&c->http);
  return 0;
}

static int f_free_client(lua_State *L) {
  struct client *c = luaL_checkudata(L, 1, CLIENT_NAME);
  if (c->epoch == epoch_now()) http_client_close(&c->http);
  return 0;
}

// --- transfers ------------------------------------------------------------

// libcurl leaves the line's end to a value that is empty.
static void push_value(lua_State *L, const char *value) {
  size_t n = strlen(value);
  while (n > 0 && isspace((unsigned char)value[n - 1])) n--;
  lua_pushlstring(L, value, n);
}

// Adds one header to the table on top: names in lower case, values of the same
// name joined.
static void add_header(lua_State *L, const struct curl_header *h) {
  luaL_Buffer name;
  luaL_buffinit(L, &name);
  for (const char *p = h->name; *p != '\0'; p++)
    luaL_addchar(&name, (char)tolower((unsigned char)*p));
  luaL_pushresult(&name);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, -3) == LUA_TNIL) {
    lua_pop(L, 1);
    push_value(L, h->value);
  } else {
    lua_pushliteral(L, ", ");
    push_value(L, h->value);
    lua_concat(L, 3);
  }
  lua_rawset(L, -3);
}

static void push_headers(lua_State *L, struct http_transfer *t) {
  struct curl_header *h = NULL;
  lua_newtable(L);
  while ((h = curl_easy_nextheader(t->easy, CURLH_HEADER, -1, h)) != NULL)
    add_header(L, h);
}

// Pushes the answer, and frees all that libcurl knows of it.
static void push_answer(lua_State *L, struct http_transfer *t) {
  long status = 0, connects = 0;
  curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connects);
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, status);
  lua_setfield(L, -2, "status");
  lua_pushboolean(L, connects == 0);
  lua_setfield(L, -2, "reused");
  push_headers(L, t);
  lua_setfield(L, -2, "headers");
  lua_pushlstring(L, (const char *)t->body.data, t->body.len);
  lua_setfield(L, -2, "body");
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 1, VALUE_ANSWER);
  http_transfer_free(t);
}

static int push_failure(lua_State *L, const char *message, const char *kind) {
  lua_pushnil(L);
  lua_pushstring(L, message);
  lua_pushstring(L, kind);
  return 3;
}

// transfer:result() -> {status=, headers=, body=, reused=} | nil, message, kind
static int f_result(lua_State *L) {
  struct http_transfer *t = to_transfer(L, 1);
  const char *kind;
  if (!t->over) return luaL_error(L, "the transfer is not over");
  if (t->no_memory) return luaL_error(L, "not enough memory");
  const char *message = http_transfer_failure(t, &kind);
  if (message != NULL) return push_failure(L, message, kind);
  if (t->easy != NULL)
    push_answer(L, t);
  else
    lua_getiuservalue(L, 1, VALUE_ANSWER);
  return 1;
}

static int no_more(lua_State *L, const char *message) {
  lua_pushnil(L);
  lua_pushstring(L, message);
  return 2;
}

// Whether the other side still reads; pushes nil and why where it does not.
static bool takes_bytes(lua_State *L, const struct http_transfer *t) {
  const char *kind;
  const char *message = t->over ? http_transfer_failure(t, &kind) : NULL;
  if (message == NULL && t->early)
    message = "the answer came before the end of the body";
  if (message == NULL && t->finished) luaL_error(L, "the stream is finished");
  if (message != NULL) no_more(L, message);
  return message == NULL;
}

static struct http_transfer *to_stream(lua_State *L) {
  struct http_transfer *t = to_transfer(L, 1);
  if (!t->streaming) luaL_error(L, "the transfer is not a stream");
  return t;
}

// transfer:write(bytes) -> true | nil, message
// An interrupt ends the waiting, but no bytes are torn off: all are kept.
static int f_write(lua_State *L) {
  struct http_transfer *t = to_stream(L);
  size_t n, most = HTTP_QUEUE_MOST;
  const char *bytes = luaL_checklstring(L, 2, &n);
  do {
    if (!takes_bytes(L, t)) return 2;
    size_t some = http_transfer_put(t, bytes, n, most);
    bytes += some;
    n -= some;
    if (wait_for_room(L, t) == HTTP_INTERRUPTED) most = SIZE_MAX;
  } while (n > 0);
  if (most == SIZE_MAX) return no_more(L, "interrupted");
  if (!takes_bytes(L, t)) return 2;
  lua_pushboolean(L, 1);
  return 1;
}

// transfer:finish(trailers or nil) -> true | nil, message
static int f_finish(lua_State *L) {
  struct http_transfer *t = to_stream(L);
  if (!takes_bytes(L, t)) return 2;
  if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    http_request_lines(L, 2, 2, "trailers", t, http_transfer_trailer);
  }
  http_transfer_finish(t);
  wait_until_over(L, t->client, t, 0);
  lua_pushboolean(L, 1);
  return 1;
}

// transfer:cancel()
static int f_cancel(lua_State *L) {
  http_client_cancel(to_transfer(L, 1), "cancelled");
  return 0;
}

static int f_free_transfer(lua_State *L) {
  struct transfer *t = luaL_checkudata(L, 1, TRANSFER_NAME);
  if (t->epoch != epoch_now()) return 0;
  http_client_cancel(&t->http, "cancelled");
  http_transfer_free(&t->http);
  return 0;
}

// --- the module -----------------------------------------------------------

// escape(text) -> text with all but RFC 3986's unreserved characters as %XX
static int f_escape(lua_State *L) {
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)s[i];
    if (isalnum(c) || (c != '\0' && strchr("-._~", c))) {
      luaL_addchar(&b, (char)c);
    } else {
      luaL_addchar(&b, '%');
      luaL_addchar(&b, "0123456789ABCDEF"[c >> 4]);
      luaL_addchar(&b, "0123456789ABCDEF"[c & 15]);
    }
  }
  luaL_pushresult(&b);
  return 1;
}

static const luaL_Reg client_methods[] = {
    {"start", f_start},   {"wait", f_wait},        {"close", f_close},
    {"__close", f_close}, {"__gc", f_free_client}, {NULL, NULL},
};

static const luaL_Reg transfer_methods[] = {
    {"result", f_result}, {"write", f_write},    {"finish", f_finish},
    {"cancel", f_cancel}, {"__close", f_cancel}, {"__gc", f_free_transfer},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"client", f_client}, {"escape", f_escape}, {NULL, NULL}};

int luaopen_luapool_http(lua_State *L) {
  epoch_start();
  if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK)
    return luaL_error(L, "not enough memory");
  metatable_push(L, CLIENT_NAME, client_methods);
  metatable_push(L, TRANSFER_NAME, transfer_methods);
  luaL_newlib(L, functions);
  return 1;
}
