// SPDX-License-Identifier: MIT
// See http_transfer.h. Called by http_client.c, http_request.c and http.c.
#include "http_transfer.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "process.h"

double http_clock(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// --- what libcurl calls ---------------------------------------------------
// Types are libcurl's: NOLINTBEGIN(readability-non-const-parameter)

// A request with effects must not be sent a second time, but libcurl does so by
// itself where a connection that it used before ends without an answer. True the
// second time.
static bool again(struct http_transfer *t) {
  if (t->once && t->sent) t->dropped = true;
  return t->dropped;
}

static int on_sending(void *data, char *ip, char *local_ip, int port,
                      int local_port) {
  (void)ip, (void)local_ip, (void)port, (void)local_port;
  struct http_transfer *t = data;
  if (again(t)) return CURL_PREREQFUNC_ABORT;
  t->sent = true;
  return CURL_PREREQFUNC_OK;
}

// Sockets are in the table of descriptors that no child gets.
static curl_socket_t on_open(void *data, curlsocktype purpose,
                             struct curl_sockaddr *a) {
  (void)purpose;
  if (again(data)) return CURL_SOCKET_BAD;
  int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
  fd = process_raise_fd(fd);
  if (fd >= 0 && process_own_fd(fd) < 0) process_close(&fd);
  return fd;
}

static int on_close(void *data, curl_socket_t fd) {
  (void)data;
  process_close(&fd);
  return 0;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *data) {
  struct http_transfer *t = data;
  if (buffer_put(&t->body, bytes, size * n) > 0) return size * n;
  t->no_memory = true;
  return 0;
}

// The headers themselves are kept by libcurl; this tells only when they end. For
// libcurl they may end with the connection.
static size_t on_header(char *line, size_t size, size_t n, void *data) {
  struct http_transfer *t = data;
  long status = 0;
  curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
  if (status >= 200 && (line[0] == '\r' || line[0] == '\n')) t->answered = true;
  return size * n;
}

static size_t on_read(char *out, size_t size, size_t n, void *data) {
  struct http_transfer *t = data;
  size_t some = t->queue.len - t->taken;
  if (some > size * n) some = size * n;
  if (some == 0) return t->finished ? 0 : CURL_READFUNC_PAUSE;
  memcpy(out, t->queue.data + t->taken, some);
  t->taken += some;
  return some;
}

// libcurl frees the list.
static int on_trailers(struct curl_slist **list, void *data) {
  struct http_transfer *t = data;
  *list = t->trailers;
  t->trailers = NULL;
  return CURL_TRAILERFUNC_OK;
}

// NOLINTEND(readability-non-const-parameter)

// --- what is asked for ----------------------------------------------------

// Remembers the first option that could not be set.
static bool note(struct http_transfer *t, CURLcode code) {
  if (t->code == CURLE_OK) t->code = code;
  return code == CURLE_OK;
}

#define SET(t, option, value) \
  note(t, curl_easy_setopt((t)->easy, option, value))

static bool set_callbacks(struct http_transfer *t) {
  return SET(t, CURLOPT_PRIVATE, t) &&
         SET(t, CURLOPT_ERRORBUFFER, t->message) &&
         SET(t, CURLOPT_PREREQFUNCTION, on_sending) &&
         SET(t, CURLOPT_PREREQDATA, t) &&
         SET(t, CURLOPT_OPENSOCKETFUNCTION, on_open) &&
         SET(t, CURLOPT_OPENSOCKETDATA, t) &&
         SET(t, CURLOPT_CLOSESOCKETFUNCTION, on_close) &&
         SET(t, CURLOPT_HEADERFUNCTION, on_header) &&
         SET(t, CURLOPT_HEADERDATA, t) &&
         SET(t, CURLOPT_WRITEFUNCTION, on_body) && SET(t, CURLOPT_WRITEDATA, t);
}

// Proxies and cookies are not even built. libcurl sends with MSG_NOSIGNAL: no
// SIGPIPE comes of it.
static bool set_manners(struct http_transfer *t) {
  return SET(t, CURLOPT_NOSIGNAL, 1L) && SET(t, CURLOPT_NOPROGRESS, 1L) &&
         SET(t, CURLOPT_PROTOCOLS_STR, "http") &&
         SET(t, CURLOPT_FOLLOWLOCATION, 0L) && SET(t, CURLOPT_PATH_AS_IS, 1L) &&
         SET(t, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
}

// Names without a value: what libcurl adds of its own is not sent.
static bool no_headers_unasked(struct http_transfer *t) {
  return http_transfer_header(t, "Accept:") &&
         http_transfer_header(t, "Content-Type:") &&
         http_transfer_header(t, "Expect:");
}

bool http_transfer_init(struct http_transfer *t) {
  memset(t, 0, sizeof *t);
  t->deadline = INFINITY;
  t->easy = curl_easy_init();
  return t->easy != NULL && set_callbacks(t) && set_manners(t) &&
         no_headers_unasked(t);
}

void http_transfer_free(struct http_transfer *t) {
  curl_easy_cleanup(t->easy);
  curl_slist_free_all(t->headers);
  curl_slist_free_all(t->trailers);
  buffer_free(&t->body);
  buffer_free(&t->queue);
  t->easy = NULL;
  t->headers = t->trailers = NULL;
}

bool http_transfer_url(struct http_transfer *t, const char *url) {
  return SET(t, CURLOPT_URL, url);
}

static bool append(struct http_transfer *t, struct curl_slist **list,
                   const char *line) {
  struct curl_slist *longer = curl_slist_append(*list, line);
  if (longer == NULL) return note(t, CURLE_OUT_OF_MEMORY);
  *list = longer;
  return true;
}

bool http_transfer_header(struct http_transfer *t, const char *line) {
  return append(t, &t->headers, line);
}

bool http_transfer_trailer(struct http_transfer *t, const char *line) {
  return append(t, &t->trailers, line);
}

static bool set_stream(struct http_transfer *t) {
  return SET(t, CURLOPT_POST, 1L) && SET(t, CURLOPT_READFUNCTION, on_read) &&
         SET(t, CURLOPT_READDATA, t) &&
         SET(t, CURLOPT_TRAILERFUNCTION, on_trailers) &&
         SET(t, CURLOPT_TRAILERDATA, t);
}

bool http_transfer_method(struct http_transfer *t, const char *method,
                          const char *body, size_t n) {
  bool ok = true;
  if (t->streaming)
    ok = set_stream(t);
  else if (body != NULL)
    ok = SET(t, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n) &&
         SET(t, CURLOPT_POSTFIELDS, body);
  else if (strcmp(method, "HEAD") == 0)
    return SET(t, CURLOPT_NOBODY, 1L);
  return ok && SET(t, CURLOPT_CUSTOMREQUEST, method);
}

bool http_transfer_limits(struct http_transfer *t, double seconds,
                          double connect_seconds) {
  t->deadline = http_clock() + seconds;
  if (!(connect_seconds < 1e6)) return true;
  long ms = (long)ceil(connect_seconds * 1e3);
  return SET(t, CURLOPT_CONNECTTIMEOUT_MS, ms > 0 ? ms : 1L);
}

bool http_transfer_fresh(struct http_transfer *t) {
  return SET(t, CURLOPT_FRESH_CONNECT, 1L);
}

bool http_transfer_prepare(struct http_transfer *t) {
  return SET(t, CURLOPT_HTTPHEADER, t->headers);
}

// --- streams --------------------------------------------------------------

// libcurl may have paused sending for want of bytes.
static void resume(struct http_transfer *t) {
  CURLcode code = curl_easy_pause(t->easy, CURLPAUSE_CONT);
  if (code == CURLE_OUT_OF_MEMORY) t->no_memory = true;
}

size_t http_transfer_put(struct http_transfer *t, const char *bytes, size_t n,
                         size_t most) {
  size_t room = most - (t->queue.len - t->taken);
  if (n > room) n = room;
  if (t->taken > t->queue.len / 2) {
    buffer_drop(&t->queue, t->taken);
    t->taken = 0;
  }
  if (buffer_put(&t->queue, bytes, n) < 0) {
    t->no_memory = true;
    return 0;
  }
  resume(t);
  return n;
}

void http_transfer_finish(struct http_transfer *t) {
  if (t->finished) return;
  t->finished = true;
  resume(t);
}

// An error ends the sending in libcurl, which then closes the connection. After
// any other answer it would wait for the rest of the body for ever.
void http_transfer_look(struct http_transfer *t) {
  if (!t->answered || t->finished) return;
  t->early = true;
  t->taken = t->queue.len;
  http_transfer_finish(t);
}

// --- the end --------------------------------------------------------------

void http_transfer_end(struct http_transfer *t, CURLcode code) {
  t->over = true;
  t->early |= t->answered && !t->finished;
  t->client = NULL;
  t->code = code;
  if (code == CURLE_OUT_OF_MEMORY) t->no_memory = true;
  buffer_free(&t->queue);
  t->taken = 0;
}

static const char *kind_of(const struct http_transfer *t) {
  if (t->cancelled != NULL) return "aborted";
  if (t->late) return "timeout";
  if (t->dropped) return "recv";
  switch (t->code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:  // of connecting: ours are `late`
      return "connect";
    case CURLE_SEND_ERROR:
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_UPLOAD_FAILED:
      return "send";
    default:
      return t->sent ? "recv" : "other";
  }
}

const char *http_transfer_failure(const struct http_transfer *t,
                                  const char **kind) {
  *kind = kind_of(t);
  if (t->cancelled != NULL) return t->cancelled;
  if (t->late) return "no answer in time";
  if (t->code == CURLE_OK && t->answered) return NULL;
  if (t->code == CURLE_OK) return "the connection ended within the headers";
  if (t->dropped)
    return "the connection ended without an answer; the request was not sent "
           "again";
  return t->message[0] != '\0' ? t->message : curl_easy_strerror(t->code);
}
