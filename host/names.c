// SPDX-License-Identifier: MIT
// Names of tables and functions: see names.h.
#include "names.h"

#include <lauxlib.h>
#include <string.h>

static char names_key;

enum {
  NAMES_DEPTH = 2,      // fields of fields
  NAMES_MOST = 1 << 14  // a table of more pairs holds data, no namespace
};

static const char *const names_base_library[] = {
    "assert",   "collectgarbage", "dofile",   "error",        "getmetatable",
    "ipairs",   "load",           "loadfile", "next",         "pairs",
    "pcall",    "print",          "rawequal", "rawget",       "rawlen",
    "rawset",   "require",        "select",   "setmetatable", "tonumber",
    "tostring", "type",           "warn",     "xpcall",       NULL};

static const char *const names_libraries[] = {
    "string",    "table", "math",  "io",      "os",
    "coroutine", "utf8",  "debug", "package", NULL};

const char *names_base(unsigned n) { return names_base_library[n]; }
const char *names_standard(unsigned n) { return names_libraries[n]; }

static bool names_is_standard(const char *module) {
  for (unsigned i = 0; names_libraries[i] != NULL; i++)
    if (strcmp(module, names_libraries[i]) == 0) return true;
  return false;
}

// --- the state's own -------------------------------------------------------

static int names_f_gc(lua_State *L) {
  struct names *n = lua_touserdata(L, 1);
  pointers_free(&n->special);
  buffer_free(&n->code);
  return 0;
}

static void names_new_table(lua_State *L, enum names_value value,
                            const char *mode) {
  lua_createtable(L, 0, 0);
  if (mode != NULL) {
    lua_createtable(L, 0, 1);
    lua_pushstring(L, mode);
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
  }
  lua_setiuservalue(L, -2, (int)value);
}

static struct names *names_new(lua_State *L) {
  struct names *n = lua_newuserdatauv(L, sizeof(*n), NAMES_VALUES);
  memset(n, 0, sizeof(*n));
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, names_f_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  names_new_table(L, NAMES_INDEX, NULL);
  names_new_table(L, NAMES_MODULES, NULL);
  names_new_table(L, NAMES_REGISTERED, NULL);
  names_new_table(L, NAMES_REGISTERED_AS, NULL);
  names_new_table(L, NAMES_ORDER, NULL);
  names_new_table(L, NAMES_METATABLES, "k");
  names_new_table(L, NAMES_FOUND, NULL);
  names_new_table(L, NAMES_DUMPS, "k");
  names_new_table(L, NAMES_CODES, "v");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &names_key);
  return n;
}

struct names *names_push(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
  struct names *n = lua_touserdata(L, -1);
  if (n != NULL) return n;
  lua_settop(L, -2);
  return names_new(L);
}

void names_note(lua_State *L, struct names *n, int idx) {
  struct pointers_entry *entry;
  if (pointers_enter(&n->special, lua_topointer(L, idx), 0, &entry) < 0)
    luaL_error(L, "not enough memory");
}

// --- making the index ------------------------------------------------------

// A walk over the loaded modules: `name` holds the rank byte and the name of
// where it is, up to `len`.
struct names_walk {
  lua_State *L;
  struct names *n;
  int index;  // stack indexes
  int globals;
  int loaded;
  char name[256];
  size_t len;
};

// Appends a part to the name. Names too long are none.
static bool names_part(struct names_walk *w, const char *s, size_t n) {
  if (w->len + n + BYTES_VARINT > sizeof(w->name)) return false;
  uint8_t *p = bytes_put_varint((uint8_t *)w->name + w->len, n);
  memcpy(p, s, n);
  w->len = (size_t)((char *)p + n - w->name);
  w->name[1]++;
  return true;
}

// Enters the value on top of the stack under the name of the walk, unless it
// has a better one.
static void names_enter(struct names_walk *w) {
  lua_State *L = w->L;
  size_t had = 0;
  lua_pushvalue(L, -1);
  lua_rawget(L, w->index);
  const char *old = lua_tolstring(L, -1, &had);
  size_t least = had < w->len ? had : w->len;
  int order = old == NULL ? -1 : memcmp(w->name, old, least);
  lua_settop(L, -2);
  if (order > 0 || (order == 0 && had <= w->len)) return;
  lua_pushvalue(L, -1);
  lua_pushlstring(L, w->name, w->len);
  lua_rawset(L, w->index);
  names_note(L, w->n, -1);
}

// What may have a name of the standard libraries: nothing that a script added
// to them, since a fresh state lacks it.
static bool names_wanted(struct names_walk *w) {
  lua_State *L = w->L;
  if (lua_isfunction(L, -1))
    return w->name[0] >= NAMES_MODULE || lua_iscfunction(L, -1);
  return lua_istable(L, -1) && !lua_rawequal(L, -1, w->globals) &&
         !lua_rawequal(L, -1, w->loaded);
}

static void names_fields(struct names_walk *w, int depth);

// The value on top of the stack, which has the name of the walk.
static void names_visit(struct names_walk *w, int depth) {
  if (!names_wanted(w)) return;
  names_enter(w);
  if (depth < NAMES_DEPTH && lua_istable(w->L, -1)) names_fields(w, depth + 1);
}

// The fields of the table on top of the stack. Recursion ends at NAMES_DEPTH.
static void names_fields(struct names_walk *w, int depth) {
  lua_State *L = w->L;
  const struct names_walk here = *w;
  int left = NAMES_MOST, t = lua_gettop(L);
  w->name[0]++;
  for (lua_pushnil(L); left > 0 && lua_next(L, t); left--) {
    size_t n;
    const char *key =
        lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &n) : NULL;
    if (key != NULL && names_part(w, key, n)) names_visit(w, depth);
    w->len = here.len;
    w->name[1] = here.name[1];
    lua_settop(L, -2);
  }
  w->name[0] = here.name[0];
  lua_settop(L, t);
}

// The module on top of the stack, whose name is below it.
static void names_module(struct names_walk *w, int modules) {
  lua_State *L = w->L;
  size_t n;
  if (lua_type(L, -2) != LUA_TSTRING) return;
  const char *name = lua_tolstring(L, -2, &n);
  if (strcmp(name, "_G") == 0) return;
  lua_pushvalue(L, -2);
  lua_pushboolean(L, 1);
  lua_rawset(L, modules);
  w->len = 2;
  w->name[0] = names_is_standard(name) ? NAMES_STANDARD : NAMES_MODULE;
  w->name[1] = 0;
  if (names_part(w, name, n)) names_visit(w, 0);
}

static void names_base_fields(struct names_walk *w) {
  lua_State *L = w->L;
  for (const char *const *s = names_base_library; *s != NULL; s++) {
    lua_pushstring(L, *s);
    lua_rawget(L, w->globals);
    w->len = 2;
    w->name[0] = NAMES_STANDARD + 1;
    w->name[1] = 0;
    if (lua_iscfunction(L, -1) && names_part(w, "_G", 2) &&
        names_part(w, *s, strlen(*s)))
      names_enter(w);
    lua_settop(L, -2);
  }
}

static uint64_t names_mix(uint64_t h, const void *p) {
  return (h ^ (uint64_t)(uintptr_t)p) * UINT64_C(0x9e3779b97f4a7c15);
}

// A sum over the pairs of package.loaded, on top of the stack, in any order.
static uint64_t names_signature(lua_State *L) {
  uint64_t sum = 1;
  for (lua_pushnil(L); lua_next(L, -2); lua_settop(L, -2)) {
    uint64_t h =
        names_mix(names_mix(7, lua_topointer(L, -2)), lua_topointer(L, -1));
    sum += h ^ h >> 32;
  }
  return sum;
}

bool names_make(lua_State *L, struct names *n, int at) {
  struct names_walk w = {.L = L, .n = n};
  int top = lua_gettop(L);
  luaL_checkstack(L, 24, "cannot index the modules");
  n->made = false;
  lua_createtable(L, 0, 256);
  w.index = top + 1;
  lua_createtable(L, 0, 16);
  int modules = top + 2;
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  w.globals = top + 3;
  names_note(L, n, w.globals);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  w.loaded = top + 4;
  n->loaded = names_signature(L);
  for (lua_pushnil(L); lua_next(L, w.loaded); lua_settop(L, -2))
    names_module(&w, modules);
  names_base_fields(&w);
  lua_settop(L, modules);
  lua_setiuservalue(L, at, NAMES_MODULES);
  lua_setiuservalue(L, at, NAMES_INDEX);
  n->made = true;
  return true;
}

bool names_refresh(lua_State *L, struct names *n, int at) {
  if (n->made) {
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    uint64_t now = names_signature(L);
    lua_settop(L, -2);
    if (now == n->loaded) return false;
  }
  return names_make(L, n, at);
}

bool names_class_like(lua_State *L, int at, int idx) {
  int top = lua_gettop(L), left = NAMES_MOST;
  bool found;
  idx = lua_absindex(L, idx);
  lua_getiuservalue(L, at, NAMES_METATABLES);
  lua_pushvalue(L, idx);
  found = lua_rawget(L, -2) != LUA_TNIL;
  if (!found)
    for (lua_pushnil(L); left-- > 0 && lua_next(L, idx); lua_settop(L, -2))
      if (lua_type(L, -2) == LUA_TSTRING &&
          strncmp(lua_tostring(L, -2), "__", 2) == 0) {
        found = true;
        break;
      }
  lua_settop(L, top);
  return found;
}

// A value or name that was registered otherwise before is so no more.
void names_register(lua_State *L, struct names *n, int at, int name,
                    int value) {
  int top = lua_gettop(L);
  lua_getiuservalue(L, at, NAMES_REGISTERED);
  lua_getiuservalue(L, at, NAMES_REGISTERED_AS);
  lua_pushvalue(L, name);
  if (lua_rawget(L, top + 1) != LUA_TNIL) {
    lua_pushnil(L);
    lua_rawset(L, top + 2);
  }
  lua_settop(L, top + 2);
  lua_pushvalue(L, value);
  lua_pushvalue(L, name);
  lua_rawset(L, top + 2);
  lua_pushvalue(L, name);
  lua_pushvalue(L, value);
  lua_rawset(L, top + 1);
  lua_getiuservalue(L, at, NAMES_ORDER);
  lua_pushvalue(L, name);
  lua_pushinteger(L, ++n->registered);
  lua_rawset(L, -3);
  names_note(L, n, value);
  lua_settop(L, top);
}

// --- from names to values --------------------------------------------------

static int names_f_require(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushliteral(L, "_G");
  lua_rawget(L, -2);
  lua_pushliteral(L, "require");
  lua_rawget(L, -2);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

// Replaces the name of a module on top of the stack by the module.
static bool names_load(lua_State *L, bool require) {
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue(L, -2);
  lua_rawget(L, -2);
  lua_remove(L, -2);
  if (!lua_isnil(L, -1) || !require) {
    lua_remove(L, -2);
    return true;
  }
  lua_settop(L, -2);
  lua_pushcfunction(L, names_f_require);
  lua_insert(L, -2);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) return true;
  if (!lua_isstring(L, -1)) lua_pushliteral(L, "a module could not be loaded");
  return false;
}

// The next part of a name, pushed. NULL where there is none.
static const uint8_t *names_next_part(lua_State *L, const uint8_t *p,
                                      const uint8_t *end) {
  uint64_t n;
  p = bytes_get_varint(p, end, &n);
  if (p == NULL || n > (size_t)(end - p)) return NULL;
  lua_pushlstring(L, (const char *)p, (size_t)n);
  return p + n;
}

static bool names_first(lua_State *L, bool require) {
  if (strcmp(lua_tostring(L, -1), "_G") != 0) return names_load(L, require);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  lua_remove(L, -2);
  return true;
}

const uint8_t *names_resolve(lua_State *L, const uint8_t *p, const uint8_t *end,
                             bool require) {
  int top = lua_gettop(L);
  unsigned parts = p == end ? 0 : *p++;
  if (parts < 1 || parts > NAMES_DEPTH + 1) goto malformed;
  if ((p = names_next_part(L, p, end)) == NULL) goto malformed;
  lua_pushvalue(L, -1);  // of messages
  if (!names_first(L, require)) goto fail;
  for (; parts > 1; parts--) {
    if ((p = names_next_part(L, p, end)) == NULL) goto malformed;
    lua_pushfstring(L, "%s.%s", lua_tostring(L, top + 1), lua_tostring(L, -1));
    lua_replace(L, top + 1);
    if (lua_istable(L, -2))
      lua_rawget(L, -2);
    else
      lua_pushnil(L);
    lua_remove(L, -2);
  }
  if (!lua_istable(L, -1) && !lua_isfunction(L, -1)) {
    lua_pushfstring(L, "nothing here is named %s", lua_tostring(L, top + 1));
    goto fail;
  }
  lua_replace(L, top + 1);
  lua_settop(L, top + 1);
  return p;
malformed:
  lua_pushliteral(L, "malformed message: bad name");
fail:
  lua_insert(L, top + 1);
  lua_settop(L, top + 1);
  return NULL;
}

const uint8_t *names_skip(const uint8_t *p, const uint8_t *end) {
  unsigned parts = p == end ? 0 : *p++;
  uint64_t n;
  if (parts < 1 || parts > NAMES_DEPTH + 1) return NULL;
  for (; parts > 0; parts--) {
    p = bytes_get_varint(p, end, &n);
    if (p == NULL || n > (size_t)(end - p)) return NULL;
    p += n;
  }
  return p;
}

void names_push_module(lua_State *L, const char *name) {
  const uint8_t *p = (const uint8_t *)name + 1;
  uint64_t n = 0;
  p = bytes_get_varint(p, p + BYTES_VARINT, &n);
  lua_pushlstring(L, (const char *)p, (size_t)n);
}

// Pushes the parts of a name with dots between, without the base library's "_G".
static void names_push_text(lua_State *L, const char *name) {
  const uint8_t *p = (const uint8_t *)name;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (unsigned parts = *p++, i = 0; i < parts; i++) {
    uint64_t n = 0;
    p = bytes_get_varint(p, p + BYTES_VARINT, &n);
    if (i > 0 || n != 2 || memcmp(p, "_G", 2) != 0) {
      if (luaL_bufflen(&b) > 0) luaL_addchar(&b, '.');
      luaL_addlstring(&b, (const char *)p, (size_t)n);
    }
    p += n;
  }
  luaL_pushresult(&b);
}

int names_f_name(lua_State *L) {
  lua_settop(L, 1);
  struct names *n = names_push(L);
  names_refresh(L, n, 2);
  lua_getiuservalue(L, 2, NAMES_INDEX);
  lua_pushvalue(L, 1);
  if (lua_rawget(L, -2) != LUA_TSTRING) return 0;
  names_push_text(L, lua_tostring(L, -1) + 1);
  return 1;
}

bool names_holds(lua_State *L, const char *name, size_t n, int idx) {
  const uint8_t *p = (const uint8_t *)name;
  idx = lua_absindex(L, idx);
  names_resolve(L, p, p + n, false);
  bool same = lua_rawequal(L, -1, idx);
  lua_settop(L, -2);
  return same;
}

// Whether package.searchpath finds the module on top of the stack in the path
// that is the field `which` of the table package, just below it.
static bool names_on_path(lua_State *L, const char *which) {
  int package = lua_gettop(L) - 1;
  lua_pushliteral(L, "searchpath");
  lua_rawget(L, package);
  lua_pushvalue(L, package + 1);
  lua_pushstring(L, which);
  lua_rawget(L, package);
  bool found = lua_iscfunction(L, -3) && lua_isstring(L, -1) &&
               lua_pcall(L, 2, 1, 0) == LUA_OK && lua_isstring(L, -1);
  lua_settop(L, package + 1);
  return found;
}

// Built into the host: package.preload has a C function for it.
static bool names_built_in(lua_State *L) {
  int package = lua_gettop(L) - 1;
  lua_pushliteral(L, "preload");
  lua_rawget(L, package);
  bool found = false;
  if (lua_istable(L, -1)) {
    lua_pushvalue(L, package + 1);
    lua_rawget(L, -2);
    found = lua_iscfunction(L, -1);
  }
  lua_settop(L, package + 1);
  return found;
}

// Pops the name of a module and says whether a fresh state finds it.
static bool names_search(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushliteral(L, "package");
  lua_rawget(L, -2);
  lua_pushvalue(L, -3);
  bool found =
      lua_istable(L, -2) && (names_built_in(L) || names_on_path(L, "path") ||
                             names_on_path(L, "cpath"));
  lua_settop(L, -4);
  return found;
}

// What was found once is not looked for again.
bool names_findable(lua_State *L, int at) {
  int module = lua_gettop(L);
  lua_getiuservalue(L, at, NAMES_FOUND);
  lua_pushvalue(L, module);
  bool found = lua_rawget(L, module + 1) != LUA_TNIL;
  if (!found) {
    lua_pushvalue(L, module);
    found = names_search(L);
    if (found) {
      lua_pushvalue(L, module);
      lua_pushboolean(L, 1);
      lua_rawset(L, module + 1);
    }
  }
  lua_settop(L, module - 1);
  return found;
}
