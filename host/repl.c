// SPDX-License-Identifier: MIT
// See repl.h. A plain prompt: one chunk is read line by line until it compiles
// or cannot, tried as an expression first, run, and its results printed.
#include "repl.h"

#include <lauxlib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NO_CHUNK = -1 };

// Ctrl-C outside a call: what was typed is dropped, and a new prompt comes.
static volatile sig_atomic_t broken;

static void on_break(int sig) {
  (void)sig;
  broken = 1;
}

// Pushes the prompt: _PROMPT or _PROMPT2 where the user set them.
static const char *push_prompt(lua_State *L, bool first) {
  if (lua_getglobal(L, first ? "_PROMPT" : "_PROMPT2") == LUA_TNIL) {
    lua_pop(L, 1);
    return lua_pushstring(L, first ? "> " : ">> ");
  }
  const char *prompt = luaL_tolstring(L, -1, NULL);
  lua_remove(L, -2);
  return prompt;
}

// Pushes what is left of the current line of stdin, without its newline.
// False, and nothing pushed, at the end of input or at Ctrl-C.
static bool push_rest(lua_State *L) {
  char piece[512];
  bool some = false, whole = false;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  while (!whole && fgets(piece, sizeof piece, stdin) != NULL) {
    size_t n = strlen(piece);
    some = true;
    whole = n > 0 && piece[n - 1] == '\n';
    luaL_addlstring(&b, piece, whole ? n - 1 : n);
  }
  luaL_pushresult(&b);
  if (!some || broken) lua_pop(L, 1);
  return some && !broken;
}

// Prompts and pushes one line; false as push_rest. A line that no terminal has
// echoed is printed here, so that the output reads as the session did.
static bool push_line(lua_State *L, bool first) {
  clearerr(stdout);  // a Ctrl-C may have cut short what a chunk printed
  fputs(push_prompt(L, first), stdout);
  fflush(stdout);
  lua_pop(L, 1);
  if (!push_rest(L)) return false;
  if (!isatty(STDIN_FILENO)) printf("%s\n", lua_tostring(L, -1));
  return true;
}

// Did the chunk fail only for want of more lines?
static bool incomplete(lua_State *L, int status) {
  static const char mark[] = "<eof>";
  if (status != LUA_ERRSYNTAX) return false;
  size_t len, n = sizeof mark - 1;
  const char *message = lua_tolstring(L, -1, &len);
  return len >= n && strcmp(message + len - n, mark) == 0;
}

static int load_text(lua_State *L, int index) {
  size_t len;
  const char *text = lua_tolstring(L, index, &len);
  return luaL_loadbuffer(L, text, len, "=stdin");
}

// The line on top as an expression: its function in place of the line, or the
// line alone again.
static bool load_expression(lua_State *L) {
  const char *line = lua_tostring(L, -1);
  if (line[0] == '=') line++;  // the old way to print a value
  lua_pushfstring(L, "return %s;", line);
  bool loaded = load_text(L, -1) == LUA_OK;
  if (loaded) {
    lua_replace(L, -3);
    lua_pop(L, 1);
  } else {
    lua_pop(L, 2);
  }
  return loaded;
}

// The line on top as the first of a statement: leaves a function or a message
// in its place.
static int load_statement(lua_State *L) {
  int status;
  while (incomplete(L, status = load_text(L, -1)) && push_line(L, false)) {
    lua_remove(L, -2);  // the message
    lua_pushliteral(L, "\n");
    lua_insert(L, -2);
    lua_concat(L, 3);
  }
  lua_remove(L, -2);  // the text
  return status;
}

// Leaves a function or a message, or nothing at the end of input.
static int read_chunk(lua_State *L) {
  do {
    broken = 0;
    lua_settop(L, 0);
    int status = NO_CHUNK;
    if (push_line(L, true))
      status = load_expression(L) ? LUA_OK : load_statement(L);
    if (!broken) return status;
    clearerr(stdin);
    lua_writeline();
  } while (true);
}

// Prints everything on the stack, by the global print.
static void print_results(lua_State *L, const struct repl_host *host) {
  int n = lua_gettop(L);
  if (n == 0) return;
  luaL_checkstack(L, LUA_MINSTACK, "too many results to print");
  lua_getglobal(L, "print");
  lua_insert(L, 1);
  if (host->call(L, n, 0) == LUA_OK) return;
  const char *text = luaL_tolstring(L, -1, NULL);
  const char *end = strstr(text, "\nstack traceback:");
  lua_pushlstring(L, text, end != NULL ? (size_t)(end - text) : strlen(text));
  lua_writestringerror("error calling 'print' (%s)\n", lua_tostring(L, -1));
}

void repl_run(lua_State *L, const struct repl_host *host) {
  struct sigaction old, act = {.sa_handler = on_break};
  int status;
  sigaction(SIGINT, &act, &old);
  while ((status = read_chunk(L)) != NO_CHUNK) {
    if (status == LUA_OK) status = host->call(L, 0, LUA_MULTRET);
    if (status == LUA_OK)
      print_results(L, host);
    else
      host->report(L, status);
  }
  sigaction(SIGINT, &old, NULL);
  lua_settop(L, 0);
  lua_writeline();
}
