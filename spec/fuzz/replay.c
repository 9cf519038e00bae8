// SPDX-License-Identifier: MIT
// Runs a fuzz target over inputs, as an ordinary test: without arguments over
// its own list, else over the files named.
//
// A list is text, so that it can be read: a line is a name and the bytes in hex,
// (e1 00)500 for 500 times these, or a comment (#). "-u DIR" writes its inputs
// as files, for libFuzzer.
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "fuzz.h"

enum { NAME = 80 };

struct input {
  char name[NAME];
  struct buffer bytes;
};

static _Noreturn void give_up(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static FILE *open_file(const char *name, const char *mode) {
  FILE *f = fopen(name, mode);
  if (f == NULL) give_up(name);
  return f;
}

static int digit(char c) {
  if (!isxdigit((unsigned char)c)) return -1;
  return isdigit((unsigned char)c) ? c - '0'
                                   : tolower((unsigned char)c) - 'a' + 10;
}

static void append(struct buffer *b, const void *p, size_t n) {
  if (buffer_put(b, p, n) < 0) give_up("input");
}

// Repeats what stands from `from` on, as often as the number at p says. Returns
// the place behind that.
static const char *repeat(struct buffer *b, size_t from, const char *p) {
  char *end;
  size_t n = b->len - from;
  unsigned long times = strtoul(p, &end, 10);
  if (buffer_reserve(b, n * times) < 0) give_up("input");
  for (; times > 1; times--) append(b, b->data + from, n);
  return end;
}

static void parse_hex(struct buffer *b, const char *p) {
  size_t group = 0;
  for (; *p != '\0' && *p != '\n'; p += strspn(p, " ")) {
    if (*p == '(') {
      group = b->len;
      p++;
    } else if (*p == ')') {
      p = repeat(b, group, p + 1);
    } else if (digit(p[0]) >= 0 && digit(p[1]) >= 0) {
      uint8_t byte = (uint8_t)(digit(p[0]) << 4 | digit(p[1]));
      append(b, &byte, 1);
      p += 2;
    } else {
      fprintf(stderr, "no hex: %s", p);
      exit(1);
    }
  }
}

// The line's input; false where it has none.
static bool parse(const char *line, struct input *in) {
  int at = 0;
  *in = (struct input){.bytes = {0}};
  if (line[0] == '#' || sscanf(line, "%79s %n", in->name, &at) != 1)
    return false;
  parse_hex(&in->bytes, line + at);
  return true;
}

static void run(const struct input *in) {
  if (getenv("REPLAY_NAMES") != NULL) fprintf(stderr, "%s\n", in->name);
  // In memory of just that size, so that a sanitizer sees a read behind it.
  size_t n = in->bytes.len;
  uint8_t *copy = malloc(n > 0 ? n : 1);
  if (copy == NULL) give_up("input");
  if (n > 0) memcpy(copy, in->bytes.data, n);
  LLVMFuzzerTestOneInput(copy, n);
  free(copy);
}

static void unpack(const struct input *in, const char *dir) {
  char name[4096];
  snprintf(name, sizeof name, "%s/%s", dir, in->name);
  FILE *f = open_file(name, "wb");
  size_t n = in->bytes.len;
  if (n > 0 && fwrite(in->bytes.data, 1, n, f) != n) give_up(name);
  if (fclose(f) != 0) give_up(name);
}

static int replay_list(const char *list, const char *dir) {
  FILE *f = open_file(list, "r");
  char *line = NULL;
  size_t room = 0;
  int n = 0;
  while (getline(&line, &room, f) > 0) {
    struct input in;
    if (!parse(line, &in)) continue;
    if (dir != NULL)
      unpack(&in, dir);
    else
      run(&in);
    buffer_free(&in.bytes);
    n++;
  }
  free(line);
  fclose(f);
  return n;
}

static void replay_file(const char *name) {
  struct input in = {.bytes = {0}};
  FILE *f = open_file(name, "rb");
  snprintf(in.name, sizeof in.name, "%s", name);
  char piece[4096];
  for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;)
    append(&in.bytes, piece, n);
  fclose(f);
  run(&in);
  buffer_free(&in.bytes);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "-u") == 0)
    return replay_list(FUZZ_LIST, argv[2]) == 0;
  for (int i = 1; i < argc; i++) replay_file(argv[i]);
  int n = argc > 1 ? argc - 1 : replay_list(FUZZ_LIST, NULL);
  printf("%d inputs replayed\n", n);
  return n == 0;
}
