// SPDX-License-Identifier: MIT
// The launcher that a Lambda function's zip holds as `bootstrap`: it starts the
// host beside it through the loader and the C library it was built with, since
// those of Amazon Linux 2023 (glibc 2.34) are older. It becomes
//
//     DIR/ld-linux-x86-64.so.2 --argv0 bootstrap
//       --library-path DIR:$LD_LIBRARY_PATH DIR/luapool ARGUMENTS...
//
// with LUAPOOL_RUNTIME=DIR in the environment; DIR is luapool-runtime beside
// this very file. The libraries' place is an argument and not a variable, so
// that programs which a task starts keep the system's.
//
// A program of its own, without libc: starting glibc, statically linked, would
// take longer than all of this.
#include <asm/unistd.h>
#include <linux/auxvec.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/limits.h>
#include <stddef.h>

enum { MAX_WORDS = 1 << 16, MAX_TEXT = 1 << 18, STATUS = 127 };

// ------------------------------------------------------------ the kernel

#ifdef __x86_64__

#define LOADER "ld-linux-x86-64.so.2"

static long system_call(long number, long a, long b, long c, long d) {
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall"
                   : "+a"(number)
                   : "D"(a), "S"(b), "d"(c), "r"(r10)
                   : "rcx", "r11", "memory");
  return number;
}

__asm__(
    ".globl _start\n"
    "_start:\n"
    "  xor %ebp, %ebp\n"
    "  mov %rsp, %rdi\n"
    "  and $-16, %rsp\n"
    "  call bootstrap\n");

#else  // arm64, the other one that Lambda has

#define LOADER "ld-linux-aarch64.so.1"

static long system_call(long number, long a, long b, long c, long d) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  __asm__ volatile("svc #0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3)
                   : "memory");
  return x0;
}

__asm__(
    ".globl _start\n"
    "_start:\n"
    "  mov x29, #0\n"
    "  mov x0, sp\n"
    "  bl bootstrap\n");

#endif

static long pointer(const void *p) { return (long)p; }

static void leave(void) {
  for (;;) system_call(__NR_exit_group, STATUS, 0, 0, 0);
}

// --------------------------------------------------------------- strings

static char text[MAX_TEXT];  // of all strings made here, one after the other
static size_t used;

static size_t length(const char *s) {
  size_t n = 0;
  while (s[n] != '\0') n++;
  return n;
}

static void say(const char *s) {
  system_call(__NR_write, 2, pointer(s), (long)length(s), 0);
}

static void fail(const char *what, const char *path, const char *why) {
  say("bootstrap: ");
  say(what);
  say(path);
  say(why);
  say("\n");
  leave();
}

// Appends to the string that is being made, which `finish` ends.
static void append(const char *s, size_t n) {
  if (n >= MAX_TEXT - used) fail("the environment is too large", "", "");
  for (size_t i = 0; i < n; i++) text[used++] = s[i];
}

static void add(const char *s) { append(s, length(s)); }

static const char *finish(size_t start) {
  text[used++] = '\0';
  return text + start;
}

static const char *join(const char *a, const char *b) {
  size_t start = used;
  add(a);
  add(b);
  return finish(start);
}

// What follows the prefix in s, NULL where s begins otherwise.
static const char *after(const char *s, const char *prefix) {
  while (*prefix != '\0')
    if (*s++ != *prefix++) return NULL;
  return s;
}

// ------------------------------------------------------------ the launch

static const char *words[MAX_WORDS];  // arguments, NULL, environment, NULL
static size_t count;

static void word(const char *s) {
  if (count == MAX_WORDS) fail("too many arguments and variables", "", "");
  words[count++] = s;
}

// Where this program's file is; by what it was started as if there is no /proc.
static const char *own_path(char **environment) {
  static char path[PATH_MAX];
  long n = system_call(__NR_readlinkat, AT_FDCWD, pointer("/proc/self/exe"),
                       pointer(path), sizeof path - 1);
  if (n > 0) return path;
  while (*environment != NULL) environment++;
  const unsigned long *aux = (const unsigned long *)(const void *)environment;
  for (aux++; aux[0] != AT_NULL; aux += 2)
    if (aux[0] == AT_EXECFN) return (const char *)aux[1];
  return "";
}

static const char *runtime_directory(const char *path) {
  size_t n = length(path), start = used;
  while (n > 0 && path[n - 1] != '/') n--;
  append(path, n);
  add("luapool-runtime");
  return finish(start);
}

static const char *library_path(const char *dir, char **environment) {
  const char *inherited = NULL;
  for (; *environment != NULL && inherited == NULL; environment++)
    inherited = after(*environment, "LD_LIBRARY_PATH=");
  if (inherited == NULL || *inherited == '\0') return dir;  // "" is "."
  size_t start = used;
  add(dir);
  add(":");
  add(inherited);
  return finish(start);
}

static const char *reason(long error) {
  switch (error) {
    case -ENOENT:
      return ": it is not there";
    case -EACCES:
      return ": it may not be executed";
    case -E2BIG:
      return ": arguments and environment are too large";
    default:
      return ": the kernel refuses";
  }
}

static void launch(char **arguments, char **environment) {
  const char *dir = runtime_directory(own_path(environment));
  word("bootstrap");
  word("--argv0");
  word("bootstrap");
  word("--library-path");
  word(library_path(dir, environment));
  word(join(dir, "/luapool"));
  while (*arguments != NULL) word(*arguments++);
  word(NULL);
  size_t variables = count;
  word(join("LUAPOOL_RUNTIME=", dir));
  for (; *environment != NULL; environment++)
    if (!after(*environment, "LUAPOOL_RUNTIME=")) word(*environment);
  word(NULL);
  const char *loader = join(dir, "/" LOADER);
  long error = system_call(__NR_execve, pointer(loader), pointer(words),
                           pointer(words + variables), 0);
  fail("cannot start ", loader, reason(error));
}

// The stack as the kernel makes it: argc, argv, NULL, environment, NULL, ...
void bootstrap(char **stack) __attribute__((used, noreturn));
void bootstrap(char **stack) {
  char **arguments = stack + 1;
  char **environment = arguments + *(long *)(void *)stack + 1;
  launch(*arguments != NULL ? arguments + 1 : arguments, environment);
  for (;;) leave();
}
