// SPDX-License-Identifier: MIT
// See http_client.h. Called by http.c.
#include "http_client.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>

#include "poller.h"

// A wait that lasts this much longer than it was told to, in seconds, was not
// slow but stopped, together with the limits.
static const double FREEZE = 1.0;

// Limited waits are made of pieces of this many seconds, as in poller.c.
static const double PIECE = 0.25;

int http_client_open(struct http_client *c) {
  *c = (struct http_client){.interrupts = poller_use_interrupts()};
  if (c->interrupts < 0) return -1;
  c->multi = curl_multi_init();
  if (c->multi != NULL) return 1;
  poller_leave_interrupts();
  c->interrupts = -1;
  errno = ENOMEM;
  return -1;
}

void http_client_close(struct http_client *c) {
  if (c->multi == NULL) return;
  while (c->first != NULL)
    http_client_cancel(c->first, "the client was closed");
  curl_multi_cleanup(c->multi);
  c->multi = NULL;
  poller_leave_interrupts();
}

// --- which go on ----------------------------------------------------------

// Out of list and multi handle. A connection in use is closed.
static void leave(struct http_transfer *t, CURLcode code) {
  struct http_transfer **link = &t->client->first;
  while (*link != t) link = &(*link)->next;
  *link = t->next;
  curl_multi_remove_handle(t->client->multi, t->easy);
  http_transfer_end(t, code);
}

// False where libcurl says no, and then c->code says why.
static bool check(struct http_client *c, CURLMcode code) {
  c->code = code;
  return code == CURLM_OK;
}

enum http_wait http_client_start(struct http_client *c,
                                 struct http_transfer *t) {
  if (!check(c, curl_multi_add_handle(c->multi, t->easy))) return HTTP_FAILED;
  t->client = c;
  t->next = c->first;
  c->first = t;
  return http_client_wait(c, t, 0);
}

void http_client_cancel(struct http_transfer *t, const char *why) {
  if (t->client == NULL) return;
  t->cancelled = why;
  leave(t, CURLE_ABORTED_BY_CALLBACK);
}

// --- steps and waits ------------------------------------------------------

static void collect(struct http_client *c) {
  int left;
  const CURLMsg *m;
  while ((m = curl_multi_info_read(c->multi, &left)) != NULL) {
    struct http_transfer *t;
    CURLcode code = m->data.result;  // the message goes with its handle
    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
    leave(t, code);
  }
}

static void look_at_limits(struct http_client *c, double now) {
  struct http_transfer *next;
  for (struct http_transfer *t = c->first; t != NULL; t = next) {
    next = t->next;
    http_transfer_look(t);
    if (now < t->deadline) continue;
    t->late = true;
    leave(t, CURLE_OPERATION_TIMEDOUT);
  }
}

// What has arrived counts first, then what is late.
static bool step(struct http_client *c) {
  int running;
  if (!check(c, curl_multi_perform(c->multi, &running))) return false;
  collect(c);
  look_at_limits(c, http_clock());
  return true;
}

static double first_limit(const struct http_client *c, double end) {
  for (const struct http_transfer *t = c->first; t != NULL; t = t->next)
    if (t->deadline < end) end = t->deadline;
  return end;
}

// All limits, for they were stopped too.
static void shift_limits(struct http_client *c, double seconds) {
  for (struct http_transfer *t = c->first; t != NULL; t = t->next)
    t->deadline += seconds;
}

// Waits for the sockets until `end` at most, and shifts the limits, `end` too,
// where this process was stopped meanwhile.
static bool sleep_until(struct http_client *c, double *end) {
  struct curl_waitfd extra = {c->interrupts, CURL_WAIT_POLLIN, 0};
  double before = http_clock();
  double piece = first_limit(c, *end) - before;
  bool limited = piece < INFINITY;
  if (limited && piece > PIECE) piece = PIECE;
  int ms = !limited ? INT_MAX : piece > 0 ? (int)ceil(piece * 1e3) : 0;
  if (!check(c, curl_multi_poll(c->multi, &extra, 1, ms, NULL))) return false;
  double slept = http_clock() - before;
  if (!limited || slept - piece < FREEZE) return true;
  shift_limits(c, slept);
  *end += slept;
  return true;
}

enum http_wait http_client_wait(struct http_client *c,
                                const struct http_transfer *t, double seconds) {
  double end = http_clock() + seconds;
  for (;;) {
    if (t->over) return HTTP_OVER;
    if (!step(c)) return HTTP_FAILED;
    if (t->over) return HTTP_OVER;
    if (poller_interrupt_pending()) return HTTP_INTERRUPTED;
    if (http_clock() >= end) return HTTP_TIME_UP;
    if (!sleep_until(c, &end)) return HTTP_FAILED;
  }
}

enum http_wait http_client_drain(struct http_transfer *t) {
  struct http_client *c = t->client;
  double never = INFINITY;
  for (;;) {
    if (!step(c)) return HTTP_FAILED;
    if (t->over || t->queue.len - t->taken < HTTP_QUEUE_MOST) return HTTP_OVER;
    if (poller_interrupt_pending()) return HTTP_INTERRUPTED;
    if (!sleep_until(c, &never)) return HTTP_FAILED;
  }
}
