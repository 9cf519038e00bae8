// SPDX-License-Identifier: MIT
// One HTTP request and its answer: an easy handle of libcurl's, the bytes that
// go out and come in, and how it ended. No Lua: libcurl's callbacks run in here,
// and an error must not jump across libcurl. No waiting either: http_client.h.
#ifndef LUAPOOL_HTTP_TRANSFER_H
#define LUAPOOL_HTTP_TRANSFER_H

#include <curl/curl.h>
#include <stdbool.h>

#include "buffer.h"

struct http_client;

enum { HTTP_QUEUE_MOST = 1 << 20 };  // bytes of a stream that wait to be sent

struct http_transfer {
  struct http_client *client;  // NULL before it starts and once it is over
  struct http_transfer *next;  // in the client's list
  CURL *easy;
  struct curl_slist *headers, *trailers;
  struct buffer body;    // of the answer
  struct buffer queue;   // of a stream: bytes to send ...
  size_t taken;          // ... of which libcurl has had so many
  double deadline;       // seconds on http_clock; infinite: none
  bool once, streaming;  // see http.h
  bool finished;         // of a stream: no more bytes will come
  bool sent;             // a connection stood, and sending began
  bool dropped;          // that connection ended without an answer
  bool answered;         // the head of the final answer is there
  bool early;            // ... though the stream was not finished
  bool late;             // the deadline has passed
  bool no_memory;
  bool over;
  const char *cancelled;  // why; NULL where nobody did
  CURLcode code;          // how it ended; before, the first option to fail
  char message[CURL_ERROR_SIZE];
};

// CLOCK_MONOTONIC, in seconds.
double http_clock(void);

// Makes the easy handle. false for want of memory; free it all the same.
bool http_transfer_init(struct http_transfer *t);

// Frees what is there. The transfer is in no client any more.
void http_transfer_free(struct http_transfer *t);

// What to ask for. Each is false for want of memory, or where libcurl does not
// take it. Header lines are "Name: value", checked by the caller. `body` must
// stay where it is until the transfer is over; NULL: none.
bool http_transfer_url(struct http_transfer *t, const char *url);
bool http_transfer_header(struct http_transfer *t, const char *line);
bool http_transfer_method(struct http_transfer *t, const char *method,
                          const char *body, size_t n);
bool http_transfer_limits(struct http_transfer *t, double seconds,
                          double connect_seconds);

// Over a connection of its own, though one may have been kept.
bool http_transfer_fresh(struct http_transfer *t);

// After all that: ready to be given to a client.
bool http_transfer_prepare(struct http_transfer *t);

// Streams. put takes as many bytes as the queue may hold with them, and returns
// how many; no_memory where there is no memory. finish: no more bytes will come.
size_t http_transfer_put(struct http_transfer *t, const char *bytes, size_t n,
                         size_t most);
bool http_transfer_trailer(struct http_transfer *t, const char *line);
void http_transfer_finish(struct http_transfer *t);

// What libcurl cannot know by itself: that an answer came before the end of a
// stream. Called after each step of libcurl's.
void http_transfer_look(struct http_transfer *t);

// It has ended, as libcurl says; no callback runs any more.
void http_transfer_end(struct http_transfer *t, CURLcode code);

// Of one that is over: NULL where there is an answer; else why not, and of what
// kind: "connect", "timeout", "send", "recv", "aborted", "other".
const char *http_transfer_failure(const struct http_transfer *t,
                                  const char **kind);

#endif
