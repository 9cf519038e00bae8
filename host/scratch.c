// SPDX-License-Identifier: MIT
// `require "luapool.scratch"`: a temporary directory with the contents of a zip
// or with links to files and copies of some, removed with all that is in it when it is closed. A
// module of its own, which only `lambdapool local` needs: libarchive, which
// reads the zip, takes long to load.
//
// Names of entries are trusted no further than that they stay in the directory.
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metatable.h"

#define SCRATCH_NAME "luapool.scratch"

enum {
  PIECE = 1 << 20,  // bytes copied at once
  FDS = 16,         // that the removal of a tree may use
  EXTRACT = ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
            ARCHIVE_EXTRACT_SECURE_SYMLINKS,
};

struct scratch {
  char path[PATH_MAX];  // absolute, without links; empty once closed
  pid_t owner;
};

static struct scratch *to_scratch(lua_State *L) {
  struct scratch *s = luaL_checkudata(L, 1, SCRATCH_NAME);
  luaL_argcheck(L, s->path[0] != '\0', 1, "a closed directory");
  return s;
}

static int f_path(lua_State *L) {
  lua_pushstring(L, to_scratch(L)->path);
  return 1;
}

// ---------------------------------------------------------------- entries

// Makes the directories above the last part of `path`, from `from` on.
static int make_parents(char *path, size_t from) {
  for (char *p = path + from; (p = strchr(p, '/')) != NULL; p++) {
    *p = '\0';
    int r = mkdir(path, 0755);
    *p = '/';
    if (r < 0 && errno != EEXIST) return -1;
  }
  return 1;
}

static bool stays_inside(const char *name) {
  if (name[0] == '\0' || name[0] == '/') return false;
  for (const char *p = name; p != NULL; p = strchr(p, '/')) {
    p += *p == '/';
    if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == '\0')) return false;
  }
  return true;
}

// The path of the entry in argument 2, whose directories are made. 1, or -1 with
// errno.
static int entry_path(lua_State *L, char path[PATH_MAX]) {
  const struct scratch *s = to_scratch(L);
  const char *name = luaL_checkstring(L, 2);
  luaL_argcheck(L, stays_inside(name), 2, "not a name in a directory");
  int n = snprintf(path, PATH_MAX, "%s/%s", s->path, name);
  if (n > 0 && n < PATH_MAX) return make_parents(path, strlen(s->path) + 1);
  errno = ENAMETOOLONG;
  return -1;
}

// scratch:link(name, target) -> true | nil, message, errno
static int f_link(lua_State *L) {
  char path[PATH_MAX];
  const char *target = luaL_checkstring(L, 3);
  bool ok = entry_path(L, path) == 1 && symlink(target, path) == 0;
  return luaL_fileresult(L, ok, lua_tostring(L, 2));
}

// scratch:directory(name) -> true | nil, message, errno
static int f_directory(lua_State *L) {
  char path[PATH_MAX];
  bool ok = entry_path(L, path) == 1 && mkdir(path, 0755) == 0;
  return luaL_fileresult(L, ok, lua_tostring(L, 2));
}

static int copy_bytes(int from, int to) {
  ssize_t n;
  do {
    n = sendfile(to, from, NULL, PIECE);
  } while (n > 0 || (n < 0 && errno == EINTR));
  return n < 0 ? -1 : 1;
}

static int copy_program(const char *source, const char *path) {
  int to = -1, from = open(source, O_RDONLY | O_CLOEXEC);
  int r = -1;
  if (from >= 0) to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
  if (to >= 0) r = copy_bytes(from, to);
  int saved = errno;
  if (to >= 0 && close(to) < 0 && r == 1) return -1;
  if (from >= 0) close(from);
  errno = saved;
  return r;
}

// scratch:copy(name, program) -> true | nil, message, errno
// A program that looks for what is beside its file finds it here.
static int f_copy(lua_State *L) {
  char path[PATH_MAX];
  const char *source = luaL_checkstring(L, 3);
  bool ok = entry_path(L, path) == 1 && copy_program(source, path) == 1;
  return luaL_fileresult(L, ok, lua_tostring(L, 2));
}

// ------------------------------------------------------------ from a zip

// Reads one entry into the directory. 1; 0: there are no more; -1 with the error
// in `from`.
static int unpack_entry(struct archive *from, struct archive *to,
                        const struct scratch *s) {
  struct archive_entry *entry;
  int r = archive_read_next_header(from, &entry);
  if (r == ARCHIVE_EOF) return 0;
  if (r != ARCHIVE_OK) return -1;
  const char *name = archive_entry_pathname(entry);
  char path[PATH_MAX];
  int n = name == NULL || !stays_inside(name)
              ? -1
              : snprintf(path, sizeof path, "%s/%s", s->path, name);
  if (n < 0 || (size_t)n >= sizeof path || archive_entry_hardlink(entry)) {
    archive_set_error(from, EINVAL, "an entry leaves the archive");
    return -1;
  }
  archive_entry_set_pathname(entry, path);
  if (archive_read_extract2(from, entry, to) == ARCHIVE_OK) return 1;
  return -1;
}

static int unpack_all(struct archive *from, struct archive *to,
                      const struct scratch *s) {
  int r;
  archive_write_disk_set_options(to, EXTRACT);
  do {
    r = unpack_entry(from, to, s);
  } while (r == 1);
  return r;
}

static int unpack_failed(lua_State *L, const char *zip, struct archive *from) {
  const char *text = from != NULL ? archive_error_string(from) : NULL;
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", zip, text != NULL ? text : "not enough memory");
  return 2;
}

// scratch:unpack(zip) -> true | nil, message
static int f_unpack(lua_State *L) {
  const struct scratch *s = to_scratch(L);
  const char *zip = luaL_checkstring(L, 2);
  struct archive *from = archive_read_new();
  struct archive *to = archive_write_disk_new();
  int r = from != NULL && to != NULL ? 0 : -1;
  if (r == 0 && (archive_read_support_format_zip(from) != ARCHIVE_OK ||
                 archive_read_open_filename(from, zip, 65536) != ARCHIVE_OK))
    r = -1;
  if (r == 0) r = unpack_all(from, to, s);
  lua_pushboolean(L, 1);
  int results = r == 0 ? 1 : unpack_failed(L, zip, from);
  if (to != NULL) archive_write_free(to);
  if (from != NULL) archive_read_free(from);
  return results;
}

// --------------------------------------------------------- begin and end

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *ftw) {
  (void)st;
  (void)type;
  (void)ftw;
  remove(path);  // what cannot be removed stays: others still can
  return 0;
}

// scratch:close(): removes it
static int f_close(lua_State *L) {
  struct scratch *s = luaL_checkudata(L, 1, SCRATCH_NAME);
  if (s->path[0] != '\0' && s->owner == getpid())
    nftw(s->path, remove_one, FDS, FTW_DEPTH | FTW_PHYS);
  s->path[0] = '\0';
  return 0;
}

static int make_directory(struct scratch *s) {
  const char *parent = getenv("TMPDIR");
  char template[PATH_MAX];
  if (parent == NULL || parent[0] == '\0') parent = "/tmp";
  int n = snprintf(template, sizeof template, "%s/lambdapool-XXXXXX", parent);
  if (n < 0 || (size_t)n >= sizeof template) {
    errno = ENAMETOOLONG;
    return -1;
  }
  if (mkdtemp(template) == NULL) return -1;
  if (realpath(template, s->path) != NULL) return 1;
  int saved = errno;
  rmdir(template);
  errno = saved;
  return -1;
}

static const luaL_Reg methods[] = {
    {"path", f_path},  {"link", f_link},     {"directory", f_directory},
    {"copy", f_copy},  {"unpack", f_unpack}, {"close", f_close},
    {"__gc", f_close}, {"__close", f_close}, {NULL, NULL},
};

// new() -> scratch | nil, message, errno
static int f_new(lua_State *L) {
  struct scratch *s = lua_newuserdatauv(L, sizeof *s, 0);
  s->path[0] = '\0';
  s->owner = getpid();
  metatable_push(L, SCRATCH_NAME, methods);
  lua_setmetatable(L, -2);
  if (make_directory(s) == 1) return 1;
  s->path[0] = '\0';
  return luaL_fileresult(L, 0, "could not make a temporary directory");
}

int luaopen_luapool_scratch(lua_State *L);

int luaopen_luapool_scratch(lua_State *L) {
  static const luaL_Reg functions[] = {{"new", f_new}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
