// SPDX-License-Identifier: MIT
// Transfers that go on at the same time, over connections that are kept: a multi
// handle of libcurl's, and the one place that waits for it. No Lua. In a forked
// child a client must not be touched, nor its transfers.
#ifndef LUAPOOL_HTTP_CLIENT_H
#define LUAPOOL_HTTP_CLIENT_H

#include "http_transfer.h"

struct http_client {
  CURLM *multi;                 // NULL: closed
  int interrupts;               // readable while one is pending; -1: not in use
  struct http_transfer *first;  // of those that go on
  CURLMcode code;               // why the last HTTP_FAILED: memory, most likely
};

enum http_wait { HTTP_OVER, HTTP_TIME_UP, HTTP_INTERRUPTED, HTTP_FAILED };

// 1, or -1 with errno and nothing open.
int http_client_open(struct http_client *c);

// Ends the transfers that go on, as cancelled.
void http_client_close(struct http_client *c);

// Hands over a transfer that is prepared, and makes a first step: anything but
// HTTP_FAILED is well.
enum http_wait http_client_start(struct http_client *c,
                                 struct http_transfer *t);

// Ends it and its connection where it still goes on; `why` stays readable.
void http_client_cancel(struct http_transfer *t, const char *why);

// Waits for so many seconds (infinite: for ever) until t is over, while all
// transfers go on.
enum http_wait http_client_wait(struct http_client *c,
                                const struct http_transfer *t, double seconds);

// Waits until there is room in the queue of a stream, or it is over.
enum http_wait http_client_drain(struct http_transfer *t);

#endif
