// SPDX-License-Identifier: MIT
// See http_request.h. Called by http.c.
#include "http_request.h"

#include <ctype.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>

enum { REQUEST = 2 };  // where on the stack the table is

int http_request_failed(lua_State *L, const struct http_transfer *t) {
  bool memory = t->code == CURLE_OK || t->code == CURLE_OUT_OF_MEMORY;
  return luaL_error(L, "%s",
                    memory ? "not enough memory" : curl_easy_strerror(t->code));
}

static void bad_field(lua_State *L, const char *field, const char *wanted) {
  luaL_argerror(L, REQUEST,
                lua_pushfstring(L, "field '%s': %s expected, got %s", field,
                                wanted, luaL_typename(L, -1)));
}

// A misspelt field would be an option silently left out.
static void check_fields(lua_State *L) {
  static const char *const known[] = {"url",  "method",    "headers",
                                      "body", "timeout",   "connect_timeout",
                                      "once", "streaming", "fresh"};
  for (lua_pushnil(L); lua_next(L, REQUEST); lua_pop(L, 1)) {
    bool found = false;
    const char *name =
        lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
      found |= strcmp(name, known[i]) == 0;
    if (!found)
      luaL_argerror(L, REQUEST, lua_pushfstring(L, "unknown field '%s'", name));
  }
}

// Pushes a field that is a string or nil: NULL. libcurl takes strings that end
// at a zero.
static const char *text_field(lua_State *L, const char *field) {
  if (lua_getfield(L, REQUEST, field) == LUA_TNIL) return NULL;
  if (lua_type(L, -1) != LUA_TSTRING) bad_field(L, field, "string");
  const char *text = lua_tostring(L, -1);
  if (strlen(text) != lua_rawlen(L, -1))
    luaL_argerror(L, REQUEST,
                  lua_pushfstring(L, "field '%s' contains a zero byte", field));
  return text;
}

static bool flag_field(lua_State *L, const char *field) {
  int type = lua_getfield(L, REQUEST, field);
  if (type != LUA_TNIL && type != LUA_TBOOLEAN) bad_field(L, field, "boolean");
  bool on = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return on;
}

// Infinite where there is none.
static double seconds_field(lua_State *L, const char *field) {
  double seconds = INFINITY;
  if (lua_getfield(L, REQUEST, field) != LUA_TNIL) {
    if (lua_type(L, -1) != LUA_TNUMBER) bad_field(L, field, "number");
    seconds = lua_tonumber(L, -1);
    if (!(seconds > 0))
      luaL_argerror(L, REQUEST,
                    lua_pushfstring(L, "field '%s' must be positive", field));
  }
  lua_pop(L, 1);
  return seconds;
}

// RFC 9110, 5.6.2.
static bool is_token(const char *s, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (!isalnum((unsigned char)s[i]) && !strchr("!#$%&'*+-.^_`|~", s[i]))
      return false;
  return n > 0;
}

// "Name: value" in one line; a value may be empty.
static bool is_line(const char *s, size_t n) {
  const char *colon = memchr(s, ':', n);
  if (colon == NULL || !is_token(s, (size_t)(colon - s))) return false;
  for (size_t i = 0; i < n; i++)
    if ((unsigned char)s[i] < ' ' && s[i] != '\t') return false;
  return memchr(s, 127, n) == NULL;
}

// A name without a value means to libcurl that its own header is left out; one
// that is to be sent ends in ';'. Leaves a string on the stack.
static const char *line_for_curl(lua_State *L, const char *line) {
  const char *colon = strchr(line, ':');
  if (colon[1 + strspn(colon + 1, " \t")] != '\0') return line;
  lua_pushlstring(L, line, (size_t)(colon - line));
  lua_pushliteral(L, ";");
  lua_concat(L, 2);
  return lua_tostring(L, -1);
}

// The line at the top of the stack, checked; what[i] names it in the error.
static const char *to_line(lua_State *L, int arg, const char *what,
                           lua_Integer i) {
  size_t n;
  if (lua_type(L, -1) == LUA_TSTRING) {
    const char *line = lua_tolstring(L, -1, &n);
    if (is_line(line, n)) return line_for_curl(L, line);
  }
  luaL_argerror(
      L, arg,
      lua_pushfstring(L, "%s[%I] is not a line 'Name: value'", what, i));
  return NULL;
}

void http_request_lines(lua_State *L, int index, int arg, const char *what,
                        struct http_transfer *t,
                        bool (*add)(struct http_transfer *, const char *)) {
  int top = lua_gettop(L);
  lua_Integer n = luaL_len(L, index);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_geti(L, index, i);
    if (!add(t, to_line(L, arg, what, i))) http_request_failed(L, t);
    lua_settop(L, top);
  }
}

static void read_headers(lua_State *L, struct http_transfer *t) {
  if (lua_getfield(L, REQUEST, "headers") != LUA_TNIL) {
    if (!lua_istable(L, -1)) bad_field(L, "headers", "table");
    http_request_lines(L, lua_gettop(L), REQUEST, "headers", t,
                       http_transfer_header);
  }
  lua_pop(L, 1);
}

static void read_url(lua_State *L, struct http_transfer *t) {
  const char *url = text_field(L, "url");
  if (url == NULL) luaL_argerror(L, REQUEST, "field 'url' is missing");
  if (!http_transfer_url(t, url)) http_request_failed(L, t);
  lua_pop(L, 1);
}

// Those whose meaning is a body say so with an empty one too.
static bool has_body(const char *method) {
  return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
         strcmp(method, "PATCH") == 0;
}

// Leaves the body on the stack.
static void read_body(lua_State *L, struct http_transfer *t) {
  size_t n = 0;
  const char *body = NULL;
  int type = lua_getfield(L, REQUEST, "body");
  if (type != LUA_TNIL && type != LUA_TSTRING) bad_field(L, "body", "string");
  if (type == LUA_TSTRING) body = lua_tolstring(L, -1, &n);
  if (body != NULL && t->streaming)
    luaL_argerror(L, REQUEST, "a stream has no field 'body'");
  const char *method = text_field(L, "method");
  if (method == NULL) method = body || t->streaming ? "POST" : "GET";
  if (!is_token(method, strlen(method)))
    luaL_argerror(L, REQUEST, "field 'method' is not a method");
  if (body == NULL && has_body(method)) body = "";
  if (!http_transfer_method(t, method, body, n)) http_request_failed(L, t);
  lua_pop(L, 1);
}

void http_request_read(lua_State *L, struct http_transfer *t) {
  check_fields(L);
  t->streaming = flag_field(L, "streaming");
  // The bytes of a stream are gone once sent.
  t->once = flag_field(L, "once") || t->streaming;
  double seconds = seconds_field(L, "timeout");
  if (!http_transfer_limits(t, seconds, seconds_field(L, "connect_timeout")))
    http_request_failed(L, t);
  if (flag_field(L, "fresh") && !http_transfer_fresh(t))
    http_request_failed(L, t);
  read_url(L, t);
  read_headers(L, t);
  if (!http_transfer_prepare(t)) http_request_failed(L, t);
  read_body(L, t);
}
