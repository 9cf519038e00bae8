// SPDX-License-Identifier: MIT
// What a script asks for, as a transfer that is ready to start.
#ifndef LUAPOOL_HTTP_REQUEST_H
#define LUAPOOL_HTTP_REQUEST_H

#include <lua.h>

#include "http_transfer.h"

// Reads the table at index 2, the argument of client:start, into t, which is
// initialised. Raises, as a bad argument or for want of memory; t is then still
// to be freed. Leaves one value on the stack that must live as long as t: its
// body.
void http_request_read(lua_State *L, struct http_transfer *t);

// Adds the header lines {"Name: value", ...} at `index`, argument `arg`, to t.
// `what` names them in errors.
void http_request_lines(lua_State *L, int index, int arg, const char *what,
                        struct http_transfer *t,
                        bool (*add)(struct http_transfer *, const char *));

// Raises what a function of http_transfer.h that gave false means.
int http_request_failed(lua_State *L, const struct http_transfer *t);

#endif
