// SPDX-License-Identifier: MIT
// Values to text: see json.h. Nothing of the user's runs meanwhile but
// finalizers: tables are read raw.
//
// The tables on the way down lie on the stack as json_refuse.h says. C calls
// itself as deep as they go.
#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "buffer.h"
#include "json.h"
#include "json_number.h"
#include "json_refuse.h"
#include "json_text.h"
#include "metatable.h"

struct writer {
  lua_State *L;
  struct buffer out;
};

enum {
  VALUE = 1,   // stack index of the argument
  PIECE = 512  // bytes of a string that room is made for at once
};

// --- the text ----------------------------------------------------------------

static void reserve(struct writer *w, size_t n) {
  if (buffer_reserve(&w->out, n) < 0) luaL_error(w->L, "not enough memory");
}

static void put(struct writer *w, const char *s, size_t n) {
  reserve(w, n);
  memcpy(w->out.data + w->out.len, s, n);
  w->out.len += n;
}

static void put_char(struct writer *w, char c) { put(w, &c, 1); }

static void put_number(struct writer *w, int i) {
  reserve(w, JSON_NUMBER);
  char *begin = (char *)w->out.data + w->out.len;
  char *end = lua_isinteger(w->L, i)
                  ? json_number_integer(begin, lua_tointeger(w->L, i))
                  : json_number_float(begin, lua_tonumber(w->L, i));
  w->out.len += (size_t)(end - begin);
}

// One that may not stand in a string as it is. DEL may, but is invisible.
static uint8_t *put_escape(uint8_t *out, uint8_t c) {
  static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
  static const char hex[] = "0123456789abcdef";
  const char *at = c == 0 ? NULL : strchr(named, c);
  char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
  if (at != NULL) text[1] = letters[at - named];
  memcpy(out, text, sizeof text);
  return out + (at != NULL ? 2 : 6);
}

static bool is_plain(uint8_t c) {
  return c >= ' ' && c < 0x7f && c != '"' && c != '\\';
}

// What is at *p, of a string that goes to `end`, and a few bytes more where they
// are plain; NULL where it is no UTF-8.
static uint8_t *put_some(uint8_t *out, const uint8_t **p, const uint8_t *end) {
  unsigned n = 1;
  if (end - *p >= 8 && (n = json_text_plain(*p, true)) > 0) {
    memcpy(out, *p, 8);
  } else if (**p >= 0x80) {
    n = json_text_character(*p, end);
    memcpy(out, *p, n);
  } else if (is_plain(**p)) {
    *out = **p;
  } else {
    return put_escape(out, *(*p)++);
  }
  *p += n;
  return n > 0 ? out + n : NULL;
}

// The string at index i, or false where it is no UTF-8.
static bool put_string(struct writer *w, int i) {
  size_t n;
  const uint8_t *p = (const uint8_t *)lua_tolstring(w->L, i, &n);
  const uint8_t *end = p + n;
  put_char(w, '"');
  while (p < end) {
    const uint8_t *stop = end - p > PIECE ? p + PIECE : end;
    reserve(w, (size_t)(stop - p + 8) * 6);
    uint8_t *out = w->out.data + w->out.len;
    while (out != NULL && p < stop) out = put_some(out, &p, end);
    if (out == NULL) return false;
    w->out.len = (size_t)(out - w->out.data);
  }
  put_char(w, '"');
  return true;
}

// --- values ----------------------------------------------------------------

static bool put_value(struct writer *w, int depth);

// The table in its slot, which has keys.
static bool put_object(struct writer *w, int depth) {
  lua_State *L = w->L;
  int table = JSON_ROOT + 2 * depth;
  char before = '{';
  for (lua_pushnil(L); lua_next(L, table); lua_settop(L, table + 1)) {
    if (lua_type(L, table + 1) != LUA_TSTRING)
      return json_refuse_keys(L, depth);
    put_char(w, before);
    if (!put_string(w, table + 1))
      return json_refuse(L, depth, "a key that is no UTF-8");
    put_char(w, ':');
    if (!put_value(w, depth + 1)) return false;
    before = ',';
  }
  put_char(w, '}');
  return true;
}

// Whether the keys of the table in its slot are 1 to n and no others.
static bool check_list(struct writer *w, int depth, lua_Integer n) {
  lua_State *L = w->L;
  int table = JSON_ROOT + 2 * depth;
  lua_Integer found = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_settop(L, table + 1)) {
    lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (key < 1 || key > n) return json_refuse_keys(L, depth);
    found++;
  }
  return found == n || json_refuse_keys(L, depth);
}

static bool put_list(struct writer *w, int depth) {
  lua_State *L = w->L;
  int table = JSON_ROOT + 2 * depth;
  lua_Integer n = (lua_Integer)lua_rawlen(L, table);
  if (!check_list(w, depth, n)) return false;
  put_char(w, '[');
  for (lua_Integer i = 1; i <= n; i++) {
    if (i > 1) put_char(w, ',');
    lua_pushinteger(L, i);
    lua_rawgeti(L, table, i);
    if (!put_value(w, depth + 1)) return false;
    lua_settop(L, table);
  }
  put_char(w, ']');
  return true;
}

static bool is_marked(lua_State *L, int table) {
  if (!lua_getmetatable(L, table)) return false;
  bool marked = lua_rawequal(L, -1, lua_upvalueindex(1));
  lua_settop(L, table);
  return marked;
}

// The table on top of the stack. It is a list where its metatable or the first
// key at hand says so; all else must fit that.
static bool put_table(struct writer *w, int depth) {
  lua_State *L = w->L;
  int table = lua_gettop(L);
  if (depth >= JSON_LEVELS) return json_refuse_depth(L, depth);
  luaL_checkstack(L, LUA_MINSTACK, "cannot encode");
  if (is_marked(L, table)) return put_list(w, depth);
  lua_pushnil(L);
  if (!lua_next(L, table)) {
    put(w, "{}", 2);
    return true;
  }
  bool object = lua_type(L, table + 1) == LUA_TSTRING;
  lua_settop(L, table);
  return object ? put_object(w, depth) : put_list(w, depth);
}

static bool put_float(struct writer *w, int depth) {
  lua_Number x = lua_tonumber(w->L, -1);
  if (isnan(x)) return json_refuse(w->L, depth, "NaN");
  if (isinf(x)) return json_refuse(w->L, depth, "an infinity");
  put_number(w, -1);
  return true;
}

// The value on top of the stack, which is inside of `depth` tables. As deep as
// C calls itself.
static bool put_value(struct writer *w, int depth) {
  lua_State *L = w->L;
  switch (lua_type(L, -1)) {
    case LUA_TSTRING:
      return put_string(w, -1) ||
             json_refuse(L, depth, "a string that is no UTF-8");
    case LUA_TNUMBER:
      if (!lua_isinteger(L, -1)) return put_float(w, depth);
      put_number(w, -1);
      return true;
    case LUA_TBOOLEAN:
      lua_toboolean(L, -1) ? put(w, "true", 4) : put(w, "false", 5);
      return true;
    case LUA_TTABLE:
      return put_table(w, depth);
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, -1) != NULL) return json_refuse_type(L, depth);
      put(w, "null", 4);
      return true;
    case LUA_TNIL:
      put(w, "null", 4);
      return true;
    default:
      return json_refuse_type(L, depth);
  }
}

// --- the whole ---------------------------------------------------------------

static int f_free(lua_State *L) {
  struct writer *w = lua_touserdata(L, 1);
  buffer_free(&w->out);
  return 0;
}

static struct writer *push_writer(lua_State *L) {
  static const luaL_Reg methods[] = {{"__gc", f_free}, {NULL, NULL}};
  struct writer *w = lua_newuserdatauv(L, sizeof *w, 0);
  *w = (struct writer){.L = L};
  metatable_push(L, "luapool.json.writer", methods);
  lua_setmetatable(L, -2);
  return w;
}

int json_f_encode(lua_State *L) {
  luaL_checkany(L, VALUE);
  lua_settop(L, VALUE);
  struct writer *w = push_writer(L);
  lua_pushvalue(L, VALUE);
  if (put_value(w, 0)) {
    lua_pushlstring(L, (const char *)w->out.data, w->out.len);
    buffer_free(&w->out);
    return 1;
  }
  buffer_free(&w->out);
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}
