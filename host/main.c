// SPDX-License-Identifier: MIT
// The host: lua's own command line over a Lua that has luapool built in.
//
// main makes a state and does one protected call, of f_main. Whatever the user
// gave runs through docall, and whatever fails is printed by report.
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "lib.h"
#include "preload.h"
#include "process.h"
#include "repl.h"

static const char *progname = "luapool";  // NULL while at the prompt

static void message(const char *text) {
  if (progname != NULL) lua_writestringerror("%s: ", progname);
  lua_writestringerror("%s\n", text);
}

// --- interrupts -----------------------------------------------------------

static lua_State *running;  // the state whose call SIGINT interrupts

// Runs at the first Lua instruction after the signal. Within the scheduler
// raising would tear its tables; it looks at the flag where it is whole.
static void interrupt_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  if (luapool_busy)
    luapool_interrupt();
  else
    luapool_raise_interrupt(L);
}

static void on_interrupt(int sig) {
  signal(sig, SIG_DFL);  // a second one kills
  if (luapool_busy)
    luapool_interrupt();  // the scheduler may be asleep: no hook runs
  else
    lua_sethook(running, interrupt_hook,
                LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

// --- calls and their errors -----------------------------------------------

// Makes a message of any error object, with a traceback, while the stack that
// raised it is still there.
static int f_traceback(lua_State *L) {
  const char *text = lua_tostring(L, 1);
  if (text == NULL) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
      return 1;
    text =
        lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
  }
  luaL_traceback(L, L, text, 1);
  return 1;
}

static int docall(lua_State *L, int narg, int nres) {
  int base = lua_gettop(L) - narg;
  lua_pushcfunction(L, f_traceback);
  lua_insert(L, base);
  struct sigaction old, act = {.sa_handler = on_interrupt};
  running = L;
  sigaction(SIGINT, &act, &old);
  int status = lua_pcall(L, narg, nres, base);
  sigaction(SIGINT, &old, NULL);
  lua_remove(L, base);
  return status;
}

static int report(lua_State *L, int status) {
  if (status == LUA_OK) return status;
  const char *text = lua_tostring(L, -1);
  message(text != NULL ? text : "(error message not a string)");
  lua_pop(L, 1);
  return status;
}

// Runs what a luaL_load* just pushed, a function or its message.
static int run_loaded(lua_State *L, int status) {
  if (status == LUA_OK) status = docall(L, 0, 0);
  return report(L, status);
}

static int run_string(lua_State *L, const char *s, const char *name) {
  return run_loaded(L, luaL_loadbuffer(L, s, strlen(s), name));
}

// -l mod, or -l global=mod.
static int run_library(lua_State *L, const char *spec) {
  const char *equals = strchr(spec, '=');
  lua_getglobal(L, "require");
  lua_pushstring(L, equals != NULL ? equals + 1 : spec);
  int status = docall(L, 1, 1);
  if (status != LUA_OK) return report(L, status);
  size_t len = equals != NULL ? (size_t)(equals - spec) : strlen(spec);
  lua_pushglobaltable(L);
  lua_pushlstring(L, spec, len);
  lua_rotate(L, -3, -1);
  lua_settable(L, -3);
  lua_pop(L, 1);
  return LUA_OK;
}

// --- the command line -----------------------------------------------------

struct options {
  bool bad, interactive, version, no_env, has_code;
  int script;  // where in argv the script is (argc: none), or the bad option
};

static void usage(const char *option) {
  bool known = option[1] == 'e' || option[1] == 'l';
  lua_writestringerror("%s: ", progname);
  lua_writestringerror(
      known ? "'%s' needs argument\n" : "unrecognized option '%s'\n", option);
  lua_writestringerror(
      "usage: %s [options] [script [args]]\n"
      "Available options are:\n"
      "  -e stat   execute string 'stat'\n"
      "  -i        enter interactive mode after executing 'script'\n"
      "  -l mod    require library 'mod' into global 'mod'\n"
      "  -l g=mod  require library 'mod' into global 'g'\n"
      "  -v        show version information\n"
      "  -E        ignore environment variables\n"
      "  -W        turn warnings on\n"
      "  --        stop handling options\n"
      "  -         stop handling options and execute stdin\n",
      progname);
}

// Notes the option argv[*i], and moves *i to its argument where that stands
// apart. False: no such option, or its argument is missing.
static bool parse_option(struct options *o, char **argv, int *i) {
  const char *rest = argv[*i] + 2;
  switch (argv[*i][1]) {
    case 'e':
    case 'l':
      o->has_code |= argv[*i][1] == 'e';
      if (*rest != '\0') return true;
      ++*i;
      return argv[*i] != NULL && argv[*i][0] != '-';
    case 'i':
      o->interactive = o->version = true;
      break;
    case 'v':
      o->version = true;
      break;
    case 'E':
      o->no_env = true;
      break;
    case 'W':
      break;
    default:
      return false;
  }
  return *rest == '\0';
}

static struct options parse(char **argv) {
  struct options o = {0};
  int i = 1;
  for (; argv[i] != NULL; i++) {
    o.script = i;
    if (argv[i][0] != '-' || argv[i][1] == '\0') return o;
    if (strcmp(argv[i], "--") == 0) {
      o.script++;
      return o;
    }
    if (!parse_option(&o, argv, &i)) {
      o.bad = true;
      return o;
    }
  }
  o.script = i;
  return o;
}

// Does what -e, -l and -W say, in their order. False where one failed.
static bool run_options(lua_State *L, char **argv, int end) {
  for (int i = 1; i < end; i++) {
    char option = argv[i][1];
    if (option == 'W') lua_warning(L, "@on", 0);
    if (option != 'e' && option != 'l') continue;
    const char *value = argv[i] + 2;
    if (*value == '\0') value = argv[++i];
    int status = option == 'e' ? run_string(L, value, "=(command line)")
                               : run_library(L, value);
    if (status != LUA_OK) return false;
  }
  return true;
}

static int run_init(lua_State *L) {
  const char *name = "=LUA_INIT" LUA_VERSUFFIX;
  const char *init = getenv(name + 1);
  if (init == NULL) init = getenv((name = "=LUA_INIT") + 1);
  if (init == NULL) return LUA_OK;
  if (init[0] == '@') return run_loaded(L, luaL_loadfile(L, init + 1));
  return run_string(L, init, name);
}

// The global arg: the script at 0, its arguments after it, all else before.
static void set_arg(lua_State *L, int argc, char **argv, int script) {
  if (script == argc) script = 0;
  lua_createtable(L, argc - script - 1, script + 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
}

// Pushes the elements of arg, which the script's predecessors may have changed.
static int push_args(lua_State *L) {
  if (lua_getglobal(L, "arg") != LUA_TTABLE)
    luaL_error(L, "'arg' is not a table");
  int table = lua_gettop(L);
  int n = (int)luaL_len(L, table);
  luaL_checkstack(L, n + 3, "too many arguments to script");
  for (int i = 1; i <= n; i++) lua_rawgeti(L, table, i);
  lua_remove(L, table);
  return n;
}

static int run_script(lua_State *L, char **argv, int script) {
  const char *name = argv[script];
  if (strcmp(name, "-") == 0 && strcmp(argv[script - 1], "--") != 0)
    name = NULL;  // stdin
  int status = luaL_loadfile(L, name);
  if (status == LUA_OK) status = docall(L, push_args(L), LUA_MULTRET);
  return report(L, status);
}

static void show_version(void) {
  lua_writestring(LUA_COPYRIGHT, strlen(LUA_COPYRIGHT));
  lua_writeline();
}

static void run_prompt(lua_State *L) {
  static const struct repl_host host = {docall, report};
  const char *name = progname;
  progname = NULL;  // a prompt's errors need no name
  repl_run(L, &host);
  progname = name;
}

// Neither a script nor an option that does something was given.
static void run_stdin(lua_State *L) {
  if (isatty(STDIN_FILENO)) {
    show_version();
    run_prompt(L);
  } else {
    run_loaded(L, luaL_loadfile(L, NULL));
  }
}

static void open_state(lua_State *L, int argc, char **argv,
                       const struct options *o) {
  if (o->no_env) {
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");  // read by luaL_openlibs
  }
  luaL_openlibs(L);
  luapool_preload(L);
  set_arg(L, argc, argv, o->script);
  lua_gc(L, LUA_GCGEN, 0, 0);  // as lua's own command does
}

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash != NULL ? slash + 1 : path;
}

// The module whose `main` is the program where the host goes by another name,
// or NULL. It finds the command line in the global arg.
static const char *program_of(const char *name) {
  name = base_name(name);
  if (strcmp(name, "lambdapool") == 0) return "luapool.lambda.command";
  const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
  if (strcmp(name, "bootstrap") == 0 && api != NULL && api[0] != '\0')
    return "luapool.lambda.runtime";
  return NULL;
}

// What ps shows: it would be the loader where that was started, as in a zip.
static void set_process_name(const char *name) {
  prctl(PR_SET_NAME, base_name(name), 0, 0, 0);
}

static int run_program(lua_State *L, const char *module) {
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  int status = docall(L, 1, 1);
  if (status != LUA_OK) return report(L, status);
  lua_getfield(L, -1, "main");
  return report(L, docall(L, 0, 0));
}

// f_main(argc, argv) -> true where all went well.
static int f_main(lua_State *L) {
  int argc = (int)lua_tointeger(L, 1);
  char **argv = lua_touserdata(L, 2);
  luaL_checkversion(L);
  if (argv[0] != NULL && argv[0][0] != '\0') progname = argv[0];
  const char *program = program_of(progname);
  if (program != NULL) {
    set_process_name(progname);
    open_state(L, argc, argv, &(struct options){.script = argc});
    lua_pushboolean(L, run_program(L, program) == LUA_OK);
    return 1;
  }
  struct options o = parse(argv);
  if (o.bad) {
    usage(argv[o.script]);
    return 0;
  }
  if (o.version) show_version();
  open_state(L, argc, argv, &o);
  if (!o.no_env && run_init(L) != LUA_OK) return 0;
  if (!run_options(L, argv, o.script)) return 0;
  if (o.script < argc && run_script(L, argv, o.script) != LUA_OK) return 0;
  if (o.interactive)
    run_prompt(L);
  else if (o.script == argc && !o.has_code && !o.version)
    run_stdin(L);
  lua_pushboolean(L, 1);
  return 1;
}

// --- start and end --------------------------------------------------------

// The last of the exit handlers: the one difference from lua. Output that never
// arrived is a failure, whichever way the script ended.
static void check_stdout(void) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return;
  message("cannot write to standard output");
  fflush(NULL);
  _exit(EXIT_FAILURE);
}

int main(int argc, char **argv) {
  process_start();
  atexit(check_stdout);
  lua_State *L = luaL_newstate();
  if (L == NULL) {
    message("cannot create state: not enough memory");
    return EXIT_FAILURE;
  }
  lua_pushcfunction(L, f_main);
  lua_pushinteger(L, argc);
  lua_pushlightuserdata(L, argv);
  int status = lua_pcall(L, 2, 1, 0);
  bool ok = lua_toboolean(L, -1);
  report(L, status);
  lua_close(L);
  return ok && status == LUA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
