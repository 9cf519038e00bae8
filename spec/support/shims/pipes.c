// SPDX-License-Identifier: MIT
// For LD_PRELOAD: pipes that are as unhelpful as they may be. Of pipes alone,
// and of waits for them:
//   LUAPOOL_PIPE_BYTES=n  a read or write moves n bytes at most
//   LUAPOOL_PIPE_EINTR=n  every n-th call or so is interrupted instead
//   LUAPOOL_PIPE_SIZE=n   new pipes hold n bytes
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static size_t most;
static unsigned interrupts;
static int size;

static long setting(const char *name) {
  const char *text = getenv(name);
  return text ? strtol(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void configure(void) {
  most = (size_t)setting("LUAPOOL_PIPE_BYTES");
  interrupts = (unsigned)setting("LUAPOOL_PIPE_EINTR");
  size = (int)setting("LUAPOOL_PIPE_SIZE");
}

static bool is_pipe(int fd) {
  struct stat s;
  int saved = errno;
  bool is = fstat(fd, &s) == 0 && S_ISFIFO(s.st_mode);
  errno = saved;
  return is;
}

// xorshift, with another start in every process.
static bool interrupted(void) {
  static uint32_t state;
  if (interrupts == 0) return false;
  state ^= state == 0 ? (uint32_t)getpid() * 2654435761u | 1 : 0;
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  if (state % interrupts != 0) return false;
  errno = EINTR;
  return true;
}

static size_t share(int fd, size_t n) {
  return most > 0 && n > most && is_pipe(fd) ? most : n;
}

ssize_t read(int fd, void *bytes, size_t n) {
  if (is_pipe(fd) && interrupted()) return -1;
  return syscall(SYS_read, fd, bytes, share(fd, n));
}

ssize_t write(int fd, const void *bytes, size_t n) {
  if (is_pipe(fd) && interrupted()) return -1;
  return syscall(SYS_write, fd, bytes, share(fd, n));
}

ssize_t writev(int fd, const struct iovec *v, int n) {
  if (!is_pipe(fd)) return syscall(SYS_writev, fd, v, n);
  if (interrupted()) return -1;
  if (most == 0) return syscall(SYS_writev, fd, v, n);
  int i = 0;
  while (i < n - 1 && v[i].iov_len == 0) i++;
  return syscall(SYS_write, fd, v[i].iov_base, share(fd, v[i].iov_len));
}

int pipe2(int fds[2], int flags) {
  int r = (int)syscall(SYS_pipe2, fds, flags);
  if (r == 0 && size > 0) fcntl(fds[1], F_SETPIPE_SZ, size);
  return r;
}

int poll(struct pollfd *fds, nfds_t n, int timeout) {
  if (interrupted()) return -1;
  return (int)syscall(SYS_poll, fds, n, timeout);
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout) {
  if (interrupted()) return -1;
  return (int)syscall(SYS_epoll_wait, fd, events, n, timeout);
}
