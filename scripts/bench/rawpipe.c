// SPDX-License-Identifier: MIT
// The limit of a call: two processes, two pipes, nothing else. The parent writes
// a request, polls, and reads the answer; the child reads and answers.
//
// usage: rawpipe REQUEST ANSWER ROUNDS [PARENT_CPU CHILD_CPU]
// (bytes, bytes, number of round trips; the CPUs each of the two may run on)
// Prints the seconds of one round trip.
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
  fprintf(stderr, "rawpipe: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pin(const char *cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(strtoul(cpu, NULL, 10), &set);
  if (sched_setaffinity(0, sizeof set, &set)) die("pinning to a CPU");
}

static void write_all(int fd, const char *bytes, size_t n) {
  while (n > 0) {
    ssize_t done = write(fd, bytes, n);
    if (done < 0) die("write");
    bytes += done;
    n -= (size_t)done;
  }
}

// False at the end of the file.
static bool read_all(int fd, char *bytes, size_t n, bool wait) {
  while (n > 0) {
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (wait && poll(&ready, 1, -1) < 0) die("poll");
    ssize_t done = read(fd, bytes, n);
    if (done < 0) die("read");
    if (done == 0) return false;
    bytes += done;
    n -= (size_t)done;
  }
  return true;
}

static _Noreturn void child(int rfd, int wfd, char *bytes, size_t request,
                            size_t answer) {
  while (read_all(rfd, bytes, request, false)) write_all(wfd, bytes, answer);
  _exit(0);
}

static void round_trips(int wfd, int rfd, char *bytes, size_t request,
                        size_t answer, long rounds) {
  for (long i = 0; i < rounds; i++) {
    write_all(wfd, bytes, request);
    if (!read_all(rfd, bytes, answer, true)) die("the child is gone");
  }
}

int main(int argc, char **argv) {
  if (argc != 4 && argc != 6) {
    fprintf(stderr,
            "usage: rawpipe REQUEST ANSWER ROUNDS "
            "[PARENT_CPU CHILD_CPU]\n");
    return 2;
  }
  size_t request = strtoul(argv[1], NULL, 10);
  size_t answer = strtoul(argv[2], NULL, 10);
  long rounds = strtol(argv[3], NULL, 10);
  if (request < 1 || answer < 1 || rounds < 1) {
    fprintf(stderr, "rawpipe: at least 1 byte each way, and 1 round\n");
    return 2;
  }
  size_t size = request > answer ? request : answer;
  char *bytes = malloc(size);
  int down[2], up[2];
  if (!bytes || pipe(down) || pipe(up)) die("setting up");
  memset(bytes, 'x', size);
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    close(down[1]);
    if (argc == 6) pin(argv[5]);
    child(down[0], up[1], bytes, request, answer);
  }
  if (argc == 6) pin(argv[4]);
  round_trips(down[1], up[0], bytes, request, answer, 1 + rounds / 10);
  double start = now();
  round_trips(down[1], up[0], bytes, request, answer, rounds);
  printf("%.9f\n", (now() - start) / (double)rounds);
  close(down[1]);
  waitpid(pid, NULL, 0);
  return 0;
}
