// SPDX-License-Identifier: MIT
// `require "luapool.archive"`: writes a zip whose bytes depend on nothing but
// the entries. A module of its own, which the host does not hold: only
// lambdapool makes archives, and libarchive takes long to load.
//
// The caller gives the entries in order. Every time is left out, which a zip
// reads as 1980-01-01 (one that is given would be written as local time);
// owners are 0; names are UTF-8 whatever the locale. The file is written under
// another name, and takes its place when it is complete.
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <locale.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metatable.h"

#define CLASS "luapool.zip"
#define OPTIONS "zip:compression=deflate,zip:compression-level=6"

enum { PIECE = 64 * 1024 };  // bytes of a file in memory

struct zip {
  struct archive *archive;  // NULL where it is closed
  locale_t utf8;            // for libarchive, which asks for the charset
  int fd;
  int error;               // errno of the write that failed, 0: none has
  char *name, *temporary;  // temporary: NULL where there is no such file
};

int luaopen_luapool_archive(lua_State *L);

// ------------------------------------------------------ life of an archive

// libarchive's output. It leaks where a write fails in the middle of an entry,
// so that none ever fails for it: the error is kept, what follows dropped.
static la_ssize_t write_all(struct archive *a, void *data, const void *bytes,
                            size_t n) {
  (void)a;
  struct zip *z = data;
  const char *p = bytes;
  for (size_t left = n; z->error == 0 && left > 0;) {
    ssize_t written = write(z->fd, p, left);
    if (written < 0 && errno != EINTR) z->error = errno;
    if (written < 0) continue;
    p += written;
    left -= (size_t)written;
  }
  return (la_ssize_t)n;
}

// What was written so far is removed. Keeps errno.
static void discard(struct zip *z) {
  int e = errno;
  z->error = ECANCELED;  // what libarchive still holds is dropped
  if (z->archive != NULL) archive_write_free(z->archive);
  if (z->fd >= 0) close(z->fd);
  if (z->temporary != NULL) unlink(z->temporary);
  if (z->utf8 != (locale_t)0) freelocale(z->utf8);
  free(z->temporary);
  free(z->name);
  *z = (struct zip){.fd = -1};
  errno = e;
}

// nil, message, errno; libarchive's own words where there is no errno.
static int push_failure(lua_State *L, struct zip *z) {
  int e = z->error != 0 ? z->error : archive_errno(z->archive);
  const char *text = archive_error_string(z->archive);
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", z->name,
                  e > 0          ? strerror(e)
                  : text != NULL ? text
                                 : "cannot be written");
  lua_pushinteger(L, e);
  return 3;
}

// The mode that a file made by open would have got, and not mkostemps's own.
static int give_mode(int fd) {
  mode_t mask = umask(0);
  umask(mask);
  return fchmod(fd, 0666 & ~mask);
}

// 1, or -1 with errno. A `~` ends the name, so that it counts as rubbish.
static int open_temporary(struct zip *z, const char *name) {
  char *temporary;
  z->name = strdup(name);
  if (z->name == NULL) return -1;
  if (asprintf(&temporary, "%s.XXXXXX~", name) < 0) return -1;
  z->fd = mkostemps(temporary, 1, O_CLOEXEC);
  if (z->fd < 0) {
    free(temporary);
    return -1;
  }
  z->temporary = temporary;
  return give_mode(z->fd) < 0 ? -1 : 1;
}

static bool open_archive(struct zip *z) {
  struct archive *a = z->archive;
  return archive_write_set_format_zip(a) == ARCHIVE_OK &&
         archive_write_set_options(a, OPTIONS) == ARCHIVE_OK &&
         archive_write_set_bytes_per_block(a, PIECE) == ARCHIVE_OK &&
         archive_write_set_bytes_in_last_block(a, 1) == ARCHIVE_OK &&
         archive_write_open(a, z, NULL, write_all, NULL) == ARCHIVE_OK;
}

// ---------------------------------------------------------------- entries

static struct zip *check(lua_State *L) {
  struct zip *z = luaL_checkudata(L, 1, CLASS);
  luaL_argcheck(L, z->archive != NULL, 1, "the archive is closed");
  return z;
}

// Begins an entry. 1, or -1 with libarchive's error.
static int begin(struct zip *z, const char *name, unsigned type, mode_t mode,
                 la_int64_t size) {
  struct archive_entry *entry = archive_entry_new2(z->archive);
  if (entry == NULL) {
    archive_set_error(z->archive, ENOMEM, "No memory");
    return -1;
  }
  locale_t old = uselocale(z->utf8);
  archive_entry_set_pathname(entry, name);
  archive_entry_set_filetype(entry, type);
  archive_entry_set_perm(entry, mode);
  archive_entry_set_size(entry, size);
  archive_entry_set_uid(entry, 0);
  archive_entry_set_gid(entry, 0);
  int status = archive_write_header(z->archive, entry);
  uselocale(old);
  archive_entry_free(entry);
  return status == ARCHIVE_OK && z->error == 0 ? 1 : -1;
}

static bool put(struct zip *z, const char *bytes, size_t n) {
  return archive_write_data(z->archive, bytes, n) == (la_ssize_t)n &&
         z->error == 0;
}

static int push_outcome(lua_State *L, struct zip *z, bool ok) {
  if (!ok) return push_failure(L, z);
  lua_pushboolean(L, 1);
  return 1;
}

static mode_t check_mode(lua_State *L) {
  lua_Integer mode = luaL_checkinteger(L, 3);
  luaL_argcheck(L, mode >= 0 && mode <= 0777, 3, "no permissions");
  return (mode_t)mode;
}

// zip:data(name, mode, bytes) -> true | nil, message, errno
static int f_data(lua_State *L) {
  struct zip *z = check(L);
  size_t size;
  const char *bytes = luaL_checklstring(L, 4, &size);
  bool ok = begin(z, luaL_checkstring(L, 2), AE_IFREG, check_mode(L),
                  (la_int64_t)size) > 0 &&
            put(z, bytes, size);
  return push_outcome(L, z, ok);
}

// zip:directory(name) -> true | nil, message, errno
static int f_directory(lua_State *L) {
  struct zip *z = check(L);
  bool ok = begin(z, luaL_checkstring(L, 2), AE_IFDIR, 0755, 0) > 0;
  return push_outcome(L, z, ok);
}

// How the copy of a file into the archive went.
enum copied { COPIED, NOT_READ, NOT_WRITTEN, CHANGED };

static enum copied copy(struct zip *z, int fd, off_t size) {
  char piece[PIECE];
  for (;;) {
    ssize_t n = read(fd, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return NOT_READ;
    if (n == 0) return size == 0 ? COPIED : CHANGED;
    if (n > size) return CHANGED;
    if (!put(z, piece, (size_t)n)) return NOT_WRITTEN;
    size -= n;
  }
}

// Non-blocking: a pipe that took the file's place must not stop us here.
static int open_file(const char *path, off_t *size) {
  struct stat s;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -1;
  if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode)) {
    *size = s.st_size;
    return fd;
  }
  close(fd);
  errno = EINVAL;
  return -1;
}

static int push_changed(lua_State *L, const char *path) {
  lua_pushnil(L);
  lua_pushfstring(L, "%s: changed while it was read", path);
  lua_pushinteger(L, EBUSY);
  return 3;
}

// zip:file(name, mode, path) -> true | nil, message, errno
static int f_file(lua_State *L) {
  struct zip *z = check(L);
  const char *name = luaL_checkstring(L, 2), *path = luaL_checkstring(L, 4);
  mode_t mode = check_mode(L);
  off_t size;
  int fd = open_file(path, &size);
  if (fd < 0) return luaL_fileresult(L, 0, path);
  enum copied how = begin(z, name, AE_IFREG, mode, size) > 0 ? copy(z, fd, size)
                                                             : NOT_WRITTEN;
  int e = errno;
  close(fd);
  errno = e;
  if (how == NOT_READ) return luaL_fileresult(L, 0, path);
  if (how == CHANGED) return push_changed(L, path);
  return push_outcome(L, z, how == COPIED);
}

// -------------------------------------------------------------- the end

// 1, or -1 with errno. The file is then in its place.
static int put_in_place(struct zip *z, off_t *size) {
  struct stat s;
  int fd = z->fd;
  z->fd = -1;
  int status = fstat(fd, &s);
  if (close(fd) < 0 || status < 0) return -1;
  if (rename(z->temporary, z->name) < 0) return -1;
  free(z->temporary);
  z->temporary = NULL;
  *size = s.st_size;
  return 1;
}

// zip:commit() -> size in bytes | nil, message, errno
static int f_commit(lua_State *L) {
  struct zip *z = check(L);
  off_t size;
  if (archive_write_close(z->archive) != ARCHIVE_OK || z->error != 0)
    return push_failure(L, z);
  if (put_in_place(z, &size) < 0) return luaL_fileresult(L, 0, z->name);
  discard(z);
  lua_pushinteger(L, size);
  return 1;
}

// zip:close(): what was not committed is dropped.
static int f_close(lua_State *L) {
  discard(luaL_checkudata(L, 1, CLASS));
  return 0;
}

static const luaL_Reg methods[] = {
    {"data", f_data},     {"directory", f_directory},
    {"file", f_file},     {"close", f_close},
    {"commit", f_commit}, {"__gc", f_close},
    {"__close", f_close}, {NULL, NULL}};

// create(path) -> zip | nil, message, errno
static int f_create(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  struct zip *z = lua_newuserdatauv(L, sizeof *z, 0);
  *z = (struct zip){.fd = -1};
  metatable_push(L, CLASS, methods);
  lua_setmetatable(L, -2);
  z->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
  if (z->utf8 == (locale_t)0 || open_temporary(z, name) < 0 ||
      (z->archive = archive_write_new()) == NULL) {
    discard(z);
    return luaL_fileresult(L, 0, name);
  }
  if (open_archive(z)) return 1;
  int results = push_failure(L, z);
  discard(z);
  return results;
}

int luaopen_luapool_archive(lua_State *L) {
  static const luaL_Reg functions[] = {{"create", f_create}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
