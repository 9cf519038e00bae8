// SPDX-License-Identifier: MIT
// See httpd_request.h. Who may call the methods: the Lua code that got the
// object from server:step(), in the process that made the server.
#include "httpd_request.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "metatable.h"

#define REQUEST_NAME "luapool.httpd.request"

enum { PIECE = 64 * 1024 };  // bytes handed to libmicrohttpd at once

struct request *request_new(struct MHD_Connection *conn, const char *path,
                            const char *method) {
  struct request *r = calloc(1, sizeof *r);
  if (r == NULL) return NULL;
  r->users = 1;
  r->conn = conn;
  r->path = strdup(path);
  r->method = strdup(method);
  r->in_chunks = MHD_lookup_connection_value(conn, MHD_HEADER_KIND,
                                             "Transfer-Encoding") != NULL;
  if (r->path != NULL && r->method != NULL) return r;
  request_release(r);
  return NULL;
}

void request_release(struct request *r) {
  if (--r->users > 0) return;
  if (r->response != NULL) MHD_destroy_response(r->response);
  buffer_free(&r->body);
  buffer_free(&r->out);
  free(r->path);
  free(r->method);
  free(r);
}

void request_suspend(struct request *r) {
  r->suspended = true;
  MHD_suspend_connection(r->conn);
}

void request_resume(struct request *r) {
  if (r->conn == NULL || !r->suspended) return;
  r->suspended = false;
  *r->due = true;
  MHD_resume_connection(r->conn);
}

// ------------------------------------------------------------ what arrived

static struct request **to_place(lua_State *L) {
  return luaL_checkudata(L, 1, REQUEST_NAME);
}

static struct request *to_request(lua_State *L) { return *to_place(L); }

// request:method() -> "GET"
static int f_method(lua_State *L) {
  lua_pushstring(L, to_request(L)->method);
  return 1;
}

// request:path() -> percent-decoded, without the query
static int f_path(lua_State *L) {
  lua_pushstring(L, to_request(L)->path);
  return 1;
}

static int lookup(lua_State *L, enum MHD_ValueKind kind) {
  const struct request *r = to_request(L);
  const char *name = luaL_checkstring(L, 2);
  const char *value =
      r->conn ? MHD_lookup_connection_value(r->conn, kind, name) : NULL;
  lua_pushstring(L, value);  // nil for NULL
  return 1;
}

// request:header(name), argument(name), trailer(name) -> string or nil. Nil too
// once the exchange is over; trailers are there when the body is complete.
static int f_header(lua_State *L) { return lookup(L, MHD_HEADER_KIND); }
static int f_trailer(lua_State *L) { return lookup(L, MHD_FOOTER_KIND); }
static int f_argument(lua_State *L) { return lookup(L, MHD_GET_ARGUMENT_KIND); }

// request:state() -> "open": more is to come, "complete", or "over": answered,
// or the peer has gone
static int f_state(lua_State *L) {
  const struct request *r = to_request(L);
  lua_pushstring(L, r->conn == NULL ? "over"
                    : r->complete   ? "complete"
                                    : "open");
  return 1;
}

// request:body() -> what has arrived since the last call
static int f_body(lua_State *L) {
  struct request *r = to_request(L);
  lua_pushlstring(L, (const char *)r->body.data, r->body.len);
  buffer_reset(&r->body, 0);
  return 1;
}

// request:size() -> bytes of the body so far, those dropped for being too many
// included
static int f_size(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)to_request(L)->size);
  return 1;
}

// -------------------------------------------------------------- the answer

static bool answerable(const struct request *r) {
  return r->conn != NULL && r->response == NULL;
}

// Adds the line on top of the stack, "Name: value".
static bool add_header(lua_State *L, struct MHD_Response *response) {
  const char *line = lua_tostring(L, -1);
  const char *colon = line != NULL ? strstr(line, ": ") : NULL;
  if (colon == NULL) return false;
  const char *name = lua_pushlstring(L, line, (size_t)(colon - line));
  if (MHD_add_response_header(response, name, colon + 2) != MHD_YES)
    return false;
  lua_pop(L, 1);
  return true;
}

// Answers with `response` and the headers of the list in slot 3. Raises where
// one cannot be sent; nothing is answered then.
static void answer(lua_State *L, struct request *r,
                   struct MHD_Response *response) {
  if (response == NULL) luaL_error(L, "not enough memory");
  lua_Integer n = lua_istable(L, 3) ? (lua_Integer)lua_rawlen(L, 3) : 0;
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 3, i);
    if (!add_header(L, response)) {
      MHD_destroy_response(response);
      luaL_error(L, "header %d cannot be sent", (int)i);
    }
    lua_pop(L, 1);
  }
  r->response = response;
  request_resume(r);
}

static unsigned check_status(lua_State *L) {
  lua_Integer status = luaL_checkinteger(L, 2);
  luaL_argcheck(L, status >= 200 && status <= 599, 2, "not a status");
  return (unsigned)status;
}

// request:respond(status, headers, body) -> true | nil: the peer has gone, or
// there is an answer already
static int f_respond(lua_State *L) {
  struct request *r = to_request(L);
  size_t n;
  unsigned status = check_status(L);
  const char *body = luaL_optlstring(L, 4, "", &n);
  if (!answerable(r)) return 0;
  r->status = status;
  // libmicrohttpd changes nothing in what it is told to copy.
  answer(L, r,
         MHD_create_response_from_buffer(n, (void *)(uintptr_t)body,
                                         MHD_RESPMEM_MUST_COPY));
  lua_pushboolean(L, 1);
  return 1;
}

// libmicrohttpd wants bytes of an answer in pieces.
static ssize_t on_room(void *user, uint64_t position, char *to, size_t most) {
  struct request *r = user;
  (void)position;
  size_t n = r->out.len - r->sent;
  if (n > most) n = most;
  if (n > 0) {
    memcpy(to, r->out.data + r->sent, n);
    r->sent += n;
    return (ssize_t)n;
  }
  buffer_reset(&r->out, PIECE);
  r->sent = 0;
  if (r->finished) return MHD_CONTENT_READER_END_OF_STREAM;
  request_suspend(r);
  return 0;
}

// request:begin(status, headers) -> true | nil: the peer has gone, or there is
// an answer already. The body follows by write, and ends with finish.
static int f_begin(lua_State *L) {
  struct request *r = to_request(L);
  unsigned status = check_status(L);
  if (!answerable(r)) return 0;
  r->status = status;
  answer(L, r,
         MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE, on_room, r,
                                           NULL));
  r->in_pieces = true;
  lua_pushboolean(L, 1);
  return 1;
}

// request:write(bytes) -> true | nil: the peer has gone
static int f_write(lua_State *L) {
  struct request *r = to_request(L);
  size_t n;
  const char *bytes = luaL_checklstring(L, 2, &n);
  if (r->conn == NULL) return 0;
  luaL_argcheck(L, r->in_pieces && !r->finished, 1, "no answer in pieces");
  if (buffer_put(&r->out, bytes, n) < 0) luaL_error(L, "not enough memory");
  request_resume(r);
  lua_pushboolean(L, 1);
  return 1;
}

// request:finish(): the answer that begin began is whole
static int f_finish(lua_State *L) {
  struct request *r = to_request(L);
  if (r->conn == NULL) return 0;
  luaL_argcheck(L, r->in_pieces, 1, "no answer in pieces");
  r->finished = true;
  request_resume(r);
  return 0;
}

static int f_gc(lua_State *L) {
  struct request **place = to_place(L);
  if (*place != NULL) request_release(*place);
  *place = NULL;
  return 0;
}

void request_open(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"method", f_method},     {"path", f_path},
      {"header", f_header},     {"trailer", f_trailer},
      {"argument", f_argument}, {"state", f_state},
      {"body", f_body},         {"size", f_size},
      {"respond", f_respond},   {"begin", f_begin},
      {"write", f_write},       {"finish", f_finish},
      {"__gc", f_gc},           {NULL, NULL},
  };
  metatable_push(L, REQUEST_NAME, methods);
  lua_pop(L, 1);
}

void request_push(lua_State *L, struct request *r) {
  struct request **place = lua_newuserdatauv(L, sizeof(struct request *), 0);
  *place = r;
  r->users++;
  luaL_setmetatable(L, REQUEST_NAME);
}
