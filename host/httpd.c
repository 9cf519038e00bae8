// SPDX-License-Identifier: MIT
// `require "luapool.httpd"`: an HTTP server on loopback for programs that wait
// for other things too, by GNU libmicrohttpd without a thread of its own. It
// serves requests that are held for long: each connection rests until the Lua
// code answers, in its own time. It knows bodies in chunks, trailers and answers
// in pieces.
//
// Who may call it: one Lua state, in the process that made the server, and not
// one with a pool, whose workers would inherit the sockets. No Lua runs inside
// libmicrohttpd's callbacks, which cannot be left by an error.
#include <arpa/inet.h>
#include <errno.h>
#include <lauxlib.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <string.h>

#include "httpd_request.h"
#include "metatable.h"

#define HTTPD_NAME "luapool.httpd"

enum {
  // Of each connection: the longest line of its head, and all of its trailers.
  CONNECTION_MEMORY = 256 * 1024,
  // Seconds without a byte. Long, since a body in chunks may pause for as long
  // as its sender thinks. libmicrohttpd overlooks the end of a connection that
  // comes together with its last bytes, and would keep it for ever.
  CONNECTION_TIMEOUT = 1200,
};

struct httpd {
  struct MHD_Daemon *daemon;
  size_t most;  // bytes of a body; what is beyond is dropped and counted
  struct request *news, **last;
  struct request *live;  // not yet over
  bool due;              // a connection was resumed: no descriptor shows that
};

// --------------------------------------------------- libmicrohttpd's side

static void add_news(struct httpd *h, struct request *r) {
  if (r->has_news) return;
  r->has_news = true;
  r->users++;
  r->next = NULL;
  *h->last = r;
  h->last = &r->next;
}

static struct request *take_news(struct httpd *h) {
  struct request *r = h->news;
  if (r == NULL) return NULL;
  h->news = r->next;
  if (h->news == NULL) h->last = &h->news;
  r->has_news = false;
  return r;
}

static void link_live(struct httpd *h, struct request *r) {
  r->live = h->live;
  h->live = r;
}

static void unlink_live(struct httpd *h, const struct request *r) {
  struct request **at = &h->live;
  while (*at != NULL && *at != r) at = &(*at)->live;
  if (*at != NULL) *at = r->live;
}

static enum MHD_Result on_begin(struct httpd *h, struct request *r) {
  if (r == NULL) return MHD_NO;  // ends the connection
  link_live(h, r);
  r->due = &h->due;
  if (r->in_chunks) add_news(h, r);
  return MHD_YES;
}

static enum MHD_Result on_bytes(struct httpd *h, struct request *r,
                                const char *bytes, size_t n) {
  size_t room = h->most > r->size ? h->most - r->size : 0;
  r->size += n;
  if (buffer_put(&r->body, bytes, n < room ? n : room) < 0) return MHD_NO;
  if (r->in_chunks) add_news(h, r);
  return MHD_YES;
}

// The body is whole. Called again when the connection is resumed.
static enum MHD_Result on_end(struct httpd *h, struct request *r) {
  if (r->response != NULL)
    return MHD_queue_response(r->conn, r->status, r->response);
  r->complete = true;
  add_news(h, r);
  request_suspend(r);
  return MHD_YES;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *conn,
                                  const char *path, const char *method,
                                  const char *version, const char *bytes,
                                  size_t *n, void **place) {
  struct request *r = *place;
  (void)version;
  if (r == NULL)
    return on_begin(user, *place = request_new(conn, path, method));
  if (*n == 0) return on_end(user, r);
  size_t got = *n;
  *n = 0;
  return on_bytes(user, r, bytes, got);
}

// Answered, or the peer has gone.
static void on_over(void *user, struct MHD_Connection *conn, void **place,
                    enum MHD_RequestTerminationCode how) {
  struct request *r = *place;
  (void)conn;
  (void)how;
  if (r == NULL) return;
  r->conn = NULL;
  unlink_live(user, r);
  add_news(user, r);
  request_release(r);
  *place = NULL;
}

// --------------------------------------------------------------- Lua's side

static struct httpd *to_httpd(lua_State *L) {
  struct httpd *h = luaL_checkudata(L, 1, HTTPD_NAME);
  luaL_argcheck(L, h->daemon != NULL, 1, "a closed server");
  return h;
}

static int daemon_start(struct httpd *h, const struct sockaddr_in *address) {
  h->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0,
                               NULL, NULL, on_request, h, MHD_OPTION_SOCK_ADDR,
                               address, MHD_OPTION_NOTIFY_COMPLETED, on_over, h,
                               MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                               (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
  return h->daemon != NULL ? 1 : -1;
}

// listen(port, most) -> server | nil, message
// On 127.0.0.1; port 0 takes a free one. Of a body at most `most` bytes are kept.
static int f_listen(lua_State *L) {
  lua_Integer port = luaL_checkinteger(L, 1);
  lua_Integer most = luaL_checkinteger(L, 2);
  luaL_argcheck(L, port >= 0 && port <= 65535, 1, "not a port");
  struct httpd *h = lua_newuserdatauv(L, sizeof *h, 1);
  *h = (struct httpd){.most = most > 0 ? (size_t)most : 0};
  h->last = &h->news;
  luaL_setmetatable(L, HTTPD_NAME);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 1);
  struct sockaddr_in address = {
      .sin_family = AF_INET,
      .sin_port = htons((uint16_t)port),
      .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
  };
  errno = 0;
  if (daemon_start(h, &address) == 1) return 1;
  lua_pushnil(L);
  lua_pushfstring(L, "could not listen on 127.0.0.1:%d: %s", (int)port,
                  strerror(errno));
  return 2;
}

static int f_port(lua_State *L) {
  struct httpd *h = to_httpd(L);
  const union MHD_DaemonInfo *info =
      MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
  lua_pushinteger(L, info != NULL ? info->port : 0);
  return 1;
}

// server:fileno() -> readable when there is something to do
static int f_fileno(lua_State *L) {
  struct httpd *h = to_httpd(L);
  const union MHD_DaemonInfo *info =
      MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
  lua_pushinteger(L, info != NULL ? info->epoll_fd : -1);
  return 1;
}

// server:timeout() -> seconds in which step must be called, nil for any number
static int f_timeout(lua_State *L) {
  struct httpd *h = to_httpd(L);
  MHD_UNSIGNED_LONG_LONG ms = 0;
  if (!h->due && MHD_get_timeout(h->daemon, &ms) != MHD_YES) return 0;
  lua_pushnumber(L, (lua_Number)ms / 1e3);
  return 1;
}

// Pushes the object of a request, the same as long as it is not over.
static void push_object(lua_State *L, int known, struct request *r) {
  if (lua_rawgetp(L, known, r) == LUA_TUSERDATA) return;
  lua_pop(L, 1);
  request_push(L, r);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, known, r);
}

static int push_news(lua_State *L, struct httpd *h) {
  lua_newtable(L);
  int list = lua_gettop(L);
  lua_getiuservalue(L, 1, 1);
  lua_Integer n = 0;
  struct request *r;
  while ((r = take_news(h)) != NULL) {
    push_object(L, list + 1, r);
    lua_rawseti(L, list, ++n);
    if (r->conn == NULL) {
      lua_pushnil(L);
      lua_rawsetp(L, list + 1, r);
    }
    request_release(r);
  }
  lua_settop(L, list);
  return 1;
}

// server:step() -> the list of requests with news. Does what can be done without
// waiting. A request has news when its body is whole and when it is over; one in
// chunks, whose sender may take his time, also at once and as its body grows.
static int f_step(lua_State *L) {
  struct httpd *h = to_httpd(L);
  h->due = false;
  if (MHD_run(h->daemon) != MHD_YES)
    return luaL_error(L, "could not serve: %s", strerror(errno));
  return push_news(L, h);
}

// server:close(): ends every connection, whatever it waits for
static int f_close(lua_State *L) {
  struct httpd *h = luaL_checkudata(L, 1, HTTPD_NAME);
  if (h->daemon == NULL) return 0;
  for (struct request *r = h->live; r != NULL; r = r->live) request_resume(r);
  MHD_stop_daemon(h->daemon);
  h->daemon = NULL;
  for (struct request *r; (r = take_news(h)) != NULL;) request_release(r);
  return 0;
}

static const luaL_Reg methods[] = {
    {"port", f_port},     {"fileno", f_fileno}, {"timeout", f_timeout},
    {"step", f_step},     {"close", f_close},   {"__gc", f_close},
    {"__close", f_close}, {NULL, NULL},
};

static const luaL_Reg functions[] = {{"listen", f_listen}, {NULL, NULL}};

int luaopen_luapool_httpd(lua_State *L);

int luaopen_luapool_httpd(lua_State *L) {
  metatable_push(L, HTTPD_NAME, methods);
  request_open(L);
  luaL_newlib(L, functions);
  return 1;
}
