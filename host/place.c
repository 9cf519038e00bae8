// SPDX-License-Identifier: MIT
// Where a value that cannot travel is: see place.h. A breadth-first search from
// the values of the message, so that the place is the shortest there is. It goes
// where the encoder goes: not into what has a name.
#include "place.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>

#include "globals.h"
#include "named.h"

// The search is a list of steps: the object reached, the number of the step it
// was reached from (0: a value of the message), and the label of that edge.
struct place {
  struct encoder *e;
  lua_State *L;
  int bad;                       // stack indexes
  int objects, parents, labels;  // of each step; lists
  int seen;                      // set of objects
  lua_Integer steps;
};

enum {
  PLACE_LABELS = 16,  // of a longer path the middle is left out
  PLACE_KEY = 40,     // bytes of a key that are shown
};

// --- labels ----------------------------------------------------------------

static bool place_is_name(const char *s, size_t n) {
  static const char words[] =
      " and break do else elseif end false for function goto if in local nil "
      "not or repeat return then true until while ";
  char word[12] = " ";
  if (n == 0 || isdigit((unsigned char)s[0]) || n > PLACE_KEY) return false;
  for (size_t i = 0; i < n; i++)
    if (!isalnum((unsigned char)s[i]) && s[i] != '_') return false;
  if (n > 8) return true;
  memcpy(word + 1, s, n);
  word[n + 1] = ' ';
  return strstr(words, word) == NULL;
}

static void place_push_quoted(lua_State *L, const char *s, size_t n) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, "[\"");
  for (size_t i = 0; i < n && i < PLACE_KEY; i++) {
    char c = s[i], text[8];
    if (c == '"' || c == '\\') luaL_addchar(&b, '\\');
    if (iscntrl((unsigned char)c)) {
      snprintf(text, sizeof(text), "\\%d", (unsigned char)c);
      luaL_addstring(&b, text);
    } else {
      luaL_addchar(&b, c);
    }
  }
  luaL_addstring(&b, n > PLACE_KEY ? "...\"]" : "\"]");
  luaL_pushresult(&b);
}

void place_push_field(lua_State *L, int idx) {
  size_t n;
  const char *s;
  switch (lua_type(L, idx)) {
    case LUA_TSTRING:
      s = lua_tolstring(L, idx, &n);
      if (place_is_name(s, n))
        lua_pushfstring(L, ".%s", s);
      else
        place_push_quoted(L, s, n);
      break;
    case LUA_TNUMBER:
      if (lua_isinteger(L, idx))
        lua_pushfstring(L, "[%I]", (LUAI_UACINT)lua_tointeger(L, idx));
      else
        lua_pushfstring(L, "[%f]", (LUAI_UACNUMBER)lua_tonumber(L, idx));
      break;
    case LUA_TBOOLEAN:
      lua_pushstring(L, lua_toboolean(L, idx) ? "[true]" : "[false]");
      break;
    default:
      lua_pushfstring(L, "[a %s]", luaL_typename(L, idx));
  }
}

// Pushes the whole place: the labels from the value of the message down to the
// step, then the one on top of the stack, in whose place it comes.
static void place_push_path(struct place *s, lua_Integer step) {
  lua_State *L = s->L;
  int top = lua_gettop(L);
  lua_Integer length = 1, left;
  for (left = step; left > 0; length++) {
    lua_rawgeti(L, s->parents, left);
    left = lua_tointeger(L, -1);
    lua_settop(L, top);
  }
  left = length - 1;  // labels still to come, from the last one up
  for (; left > 0; left--) {
    bool shown = length <= PLACE_LABELS || left <= PLACE_LABELS / 2 ||
                 left > length - PLACE_LABELS / 2;
    bool gap = !shown && left == PLACE_LABELS / 2 + 1;
    lua_rawgeti(L, s->labels, step);
    if (!shown && gap) lua_pushliteral(L, " ... ");
    if (shown || gap) {
      lua_pushvalue(L, top);
      lua_concat(L, 2);
      lua_replace(L, top);
    }
    lua_rawgeti(L, s->parents, step);
    step = lua_tointeger(L, -1);
    lua_settop(L, top);
  }
}

// --- the search ------------------------------------------------------------

// The value below the label on top of the stack, reached from a step. Pops the
// label. Where it is the one, leaves the place in its stead and returns true.
static bool place_reach(struct place *s, lua_Integer from) {
  lua_State *L = s->L;
  int value = lua_gettop(L) - 1, type = lua_type(L, value);
  if (lua_rawequal(L, value, s->bad)) {
    place_push_path(s, from);
    return true;
  }
  if (type != LUA_TTABLE && type != LUA_TFUNCTION) goto done;
  lua_pushvalue(L, value);
  if (lua_rawget(L, s->seen) != LUA_TNIL) goto done;
  lua_settop(L, value + 1);
  lua_pushvalue(L, value);
  lua_pushboolean(L, 1);
  lua_rawset(L, s->seen);
  lua_pushvalue(L, value);
  if (named_is(s->e)) goto done;
  lua_rawseti(L, s->objects, ++s->steps);
  lua_rawseti(L, s->labels, s->steps);
  lua_pushinteger(L, from);
  lua_rawseti(L, s->parents, s->steps);
done:
  lua_settop(L, value);
  return false;
}

static bool place_search_table(struct place *s, lua_Integer step) {
  lua_State *L = s->L;
  int table = lua_gettop(L);
  if (lua_getmetatable(L, table)) {
    lua_pushliteral(L, " metatable");
    if (place_reach(s, step)) return true;
    lua_settop(L, table);
  }
  for (lua_pushnil(L); lua_next(L, table); lua_settop(L, table + 1)) {
    place_push_field(L, table + 1);
    if (place_reach(s, step)) return true;
    lua_settop(L, table + 1);
    lua_pushvalue(L, table + 1);
    lua_pushliteral(L, " key");
    if (place_reach(s, step)) return true;
  }
  return false;
}

static bool place_search_function(struct place *s, lua_Integer step) {
  lua_State *L = s->L;
  int function = lua_gettop(L);
  if (lua_iscfunction(L, function)) return false;
  for (int i = 1;; i++) {
    const char *name = lua_getupvalue(L, function, i);
    if (name == NULL) return false;
    if (!globals_is_env(L, name)) {
      lua_pushfstring(L, " upvalue '%s'", name);
      if (place_reach(s, step)) return true;
    }
    lua_settop(L, function);
  }
}

// Searches what has been reached. True with the place pushed.
static bool place_search(struct place *s) {
  lua_State *L = s->L;
  int top = lua_gettop(L);
  for (lua_Integer step = 1; step <= s->steps; step++) {
    lua_rawgeti(L, s->objects, step);
    if (lua_istable(L, -1) ? place_search_table(s, step)
                           : place_search_function(s, step))
      return true;
    lua_settop(L, top);
  }
  return false;
}

static void place_push_root(lua_State *L, const struct codec_path *path,
                            int i) {
  lua_pushstring(L, path->base);
  if (path->index != 0)
    lua_pushfstring(L, "[%I]", (LUAI_UACINT)path->index);
  else
    lua_pushliteral(L, "");
  if (path->each)
    lua_pushfstring(L, "[%d]", i + 1);
  else
    lua_pushliteral(L, "");
  lua_concat(L, 3);
}

static bool place_search_values(struct place *s, int first, int n,
                                const struct codec_path *path) {
  for (int i = 0; i < n; i++) {
    lua_pushvalue(s->L, first + i);
    place_push_root(s->L, path, i);
    if (place_reach(s, 0)) return true;
    lua_settop(s->L, -2);
  }
  return place_search(s);
}

// The globals that travel with the message's functions.
static bool place_search_globals(struct place *s) {
  lua_State *L = s->L;
  int sets = encode_slot(s->e, ENCODE_SETS), top = lua_gettop(L);
  for (lua_Integer i = 0; i < s->e->sets_last; i += 3) {
    lua_rawgeti(L, sets, i + 1);
    bool field = lua_rawgeti(L, sets, i + 2) == LUA_TSTRING;
    lua_rawgeti(L, sets, i + 3);
    if (field)
      lua_pushfstring(L, "global '%s.%s'", lua_tostring(L, top + 1),
                      lua_tostring(L, top + 2));
    else
      lua_pushfstring(L, "global '%s'", lua_tostring(L, top + 1));
    if (place_reach(s, 0)) return true;
    lua_settop(L, top);
  }
  return place_search(s);
}

// --- what it is ------------------------------------------------------------

// Pushes the kind of one of luapool's own objects, or returns false.
static bool place_push_own(lua_State *L, int idx) {
  static const char prefix[] = "luapool.";
  bool table = lua_istable(L, idx);
  if (!lua_getmetatable(L, idx)) return false;
  lua_pushstring(L, table ? "__luapool" : "__name");
  bool own = lua_rawget(L, -2) == LUA_TSTRING;
  const char *name = own ? lua_tostring(L, -1) : "";
  if (own && !table) own = strncmp(name, prefix, strlen(prefix)) == 0;
  if (own) lua_pushstring(L, table ? name : name + strlen(prefix));
  return own;
}

static void place_push_kind(lua_State *L, int idx) {
  if (place_push_own(L, idx)) return;
  switch (lua_type(L, idx)) {
    case LUA_TTHREAD:
      lua_pushliteral(L, "coroutine");
      return;
    case LUA_TLIGHTUSERDATA:
      lua_pushliteral(L, "light userdata");
      return;
    case LUA_TFUNCTION:
      lua_pushliteral(L, "C function");
      return;
    default:
      lua_pushstring(L, luaL_typename(L, idx));
  }
}

void place_push(struct encoder *e, int first, int n,
                const struct codec_path *path) {
  lua_State *L = e->L;
  struct place s = {.e = e, .L = L, .bad = encode_slot(e, ENCODE_BAD)};
  luaL_checkstack(L, 32, "cannot encode");
  s.objects = lua_gettop(L) + 1;
  s.parents = s.objects + 1;
  s.labels = s.objects + 2;
  s.seen = s.objects + 3;
  for (int i = 0; i < 4; i++) lua_createtable(L, 0, 0);
  if (!place_search_values(&s, first, n, path) && !place_search_globals(&s))
    lua_pushstring(L, path->base);
  int where = lua_gettop(L);
  place_push_kind(L, s.bad);
  const char *kind = lua_tostring(L, -1);
  lua_pushfstring(L, "cannot send %s %s (%s)",
                  strchr("aeio", kind[0]) != NULL ? "an" : "a", kind,
                  lua_tostring(L, where));
}
