// SPDX-License-Identifier: MIT
// Changes of this process's environment. The strings are ours and not setenv's,
// which keeps each value it ever had: one variable changed at every invocation
// of a process that lives for days would be a leak.
//
// Who may call it: lua/luapool/environment.lua.

#include "environment.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A variable that was set here: its "name=value" stands in environ.
struct variable {
  struct variable *next;
  char *text;
  size_t length;  // of the name
};

static struct variable *variables;

static struct variable **find(const char *name, size_t n) {
  struct variable **at = &variables;
  while (*at && ((*at)->length != n || memcmp((*at)->text, name, n) != 0))
    at = &(*at)->next;
  return at;
}

// Forgets one of ours that environ holds no more.
static void drop(struct variable **at) {
  struct variable *v = *at;
  if (v == NULL) return;
  *at = v->next;
  free(v->text);
  free(v);
}

static struct variable *variable_new(const char *name, const char *value) {
  struct variable *v = malloc(sizeof *v);
  if (v == NULL) return NULL;
  *v = (struct variable){.length = strlen(name)};
  if (asprintf(&v->text, "%s=%s", name, value) >= 0) return v;
  free(v);
  errno = ENOMEM;
  return NULL;
}

// 1, or -1 with errno and the environment as before.
static int set(const char *name, const char *value) {
  struct variable *v = variable_new(name, value);
  if (v == NULL) return -1;
  if (putenv(v->text) != 0) {
    drop(&v);
    errno = ENOMEM;
    return -1;
  }
  drop(find(name, v->length));
  v->next = variables;
  variables = v;
  return 1;
}

static int clear(const char *name) {
  if (unsetenv(name) != 0) return -1;
  drop(find(name, strlen(name)));
  return 1;
}

static bool is_plain(const char *s, size_t n) { return strlen(s) == n; }

int environment_f_set(lua_State *L) {
  size_t n_name, n_value;
  const char *name = luaL_checklstring(L, 1, &n_name);
  const char *value = luaL_optlstring(L, 2, NULL, &n_value);
  luaL_argcheck(L, n_name > 0 && is_plain(name, n_name) && !strchr(name, '='),
                1, "not the name of a variable");
  luaL_argcheck(L, value == NULL || is_plain(value, n_value), 2,
                "a zero byte cannot stand in the environment");
  if ((value ? set(name, value) : clear(name)) < 0)
    return luaL_error(L, "could not set %s: %s", name, strerror(errno));
  return 0;
}
