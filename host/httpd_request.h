// SPDX-License-Identifier: MIT
// One request to the HTTP server and its answer, as a Lua object. Shared by
// libmicrohttpd's callbacks (httpd.c), which fill in what arrives and send what
// is there, and by Lua, which reads the one and gives the other. Either side may
// be done with it first; the last one frees it.
#ifndef LUAPOOL_HTTPD_REQUEST_H
#define LUAPOOL_HTTPD_REQUEST_H

#include <lua.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>

#include "buffer.h"

struct request {
  struct request *next;         // of those with news
  struct request *live;         // of those that are not over
  struct MHD_Connection *conn;  // NULL once the exchange is over
  struct MHD_Response *response;
  bool *due;  // of the server: set where the connection is resumed
  char *method, *path;
  struct buffer body;  // what has arrived and nobody has taken
  struct buffer out;   // of an answer in pieces
  size_t sent;         // of out
  size_t size;         // of all that has arrived
  unsigned status;     // of the answer
  int users;           // of Lua and libmicrohttpd
  bool in_chunks, complete, has_news, suspended;
  bool in_pieces, finished;  // the answer
};

// With one user; NULL where memory ran out.
struct request *request_new(struct MHD_Connection *conn, const char *path,
                            const char *method);
void request_release(struct request *r);

// The connection rests until there is something to send.
void request_suspend(struct request *r);
void request_resume(struct request *r);

// Registers the object's metatable.
void request_open(lua_State *L);

// Pushes an object that is a further user.
void request_push(lua_State *L, struct request *r);

#endif
