// SPDX-License-Identifier: MIT
// See disk.h. Every failure is luaL_fileresult's nil, message, errno, and the
// message begins with the path.
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Of a symbolic link its target, followed to the end.
static int push_realpath(lua_State *L, const char *path) {
  char resolved[PATH_MAX];
  if (realpath(path, resolved) == NULL) return luaL_fileresult(L, 0, path);
  lua_pushstring(L, resolved);
  return 1;
}

// executable() -> path of the program that runs
static int f_executable(lua_State *L) {
  return push_realpath(L, "/proc/self/exe");
}

// realpath(path) -> path without links
static int f_realpath(lua_State *L) {
  return push_realpath(L, luaL_checkstring(L, 1));
}

static const char *type_of(mode_t mode) {
  if (S_ISREG(mode)) return "file";
  if (S_ISDIR(mode)) return "directory";
  if (S_ISLNK(mode)) return "link";
  return "other";
}

// stat(path) -> type, size, executable: of a link itself where it is one; type
// is file, directory, link or other, executable what its owner may
static int f_stat(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct stat s;
  if (lstat(path, &s) < 0) return luaL_fileresult(L, 0, path);
  lua_pushstring(L, type_of(s.st_mode));
  lua_pushinteger(L, s.st_size);
  lua_pushboolean(L, (s.st_mode & S_IXUSR) != 0);
  return 3;
}

// An open directory, in a userdata, since any push may raise.
struct directory {
  DIR *stream;  // NULL: closed
};

static int f_close_directory(lua_State *L) {
  struct directory *dir = lua_touserdata(L, 1);
  if (dir->stream != NULL) closedir(dir->stream);
  dir->stream = NULL;
  return 0;
}

static struct directory *new_directory(lua_State *L) {
  struct directory *dir = lua_newuserdatauv(L, sizeof *dir, 0);
  dir->stream = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, f_close_directory);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  return dir;
}

// Appends the names to the list on top. 0, or errno.
static int read_names(lua_State *L, DIR *dir) {
  for (lua_Integer n = 0;;) {
    errno = 0;
    const struct dirent *entry = readdir(dir);
    if (entry == NULL) return errno;
    const char *name = entry->d_name;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
    lua_pushstring(L, name);
    lua_rawseti(L, -2, ++n);
  }
}

// names(directory) -> list, in no order, without . and ..
static int f_names(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct directory *dir = new_directory(L);
  dir->stream = opendir(path);
  if (dir->stream == NULL) return luaL_fileresult(L, 0, path);
  lua_newtable(L);
  int e = read_names(L, dir->stream);
  closedir(dir->stream);
  dir->stream = NULL;
  if (e == 0) return 1;
  errno = e;
  return luaL_fileresult(L, 0, path);
}

int luaopen_luapool_disk(lua_State *L) {
  static const luaL_Reg functions[] = {{"executable", f_executable},
                                       {"names", f_names},
                                       {"realpath", f_realpath},
                                       {"stat", f_stat},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
