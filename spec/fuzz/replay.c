// SPDX-License-Identifier: MIT
// Runs a fuzz target over inputs, as an ordinary test: without arguments over
// its own list, else over the files named.
//
// A list is text, so that it can be read: a line is a name and the bytes in hex,
// or a comment (#). "-u DIR" writes its inputs as files, for libFuzzer.
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { NAME = 80 };

struct input {
  char name[NAME];
  uint8_t *bytes;
  size_t n;
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

static void *allocate(size_t n) {
  void *p = malloc(n > 0 ? n : 1);
  if (p == NULL) give_up("malloc");
  return p;
}

static int digit(char c) {
  if (!isxdigit((unsigned char)c)) return -1;
  return isdigit((unsigned char)c) ? c - '0'
                                   : tolower((unsigned char)c) - 'a' + 10;
}

// The line's input; false where it has none.
static bool parse(const char *line, struct input *in) {
  int at = 0;
  if (line[0] == '#' || sscanf(line, "%79s %n", in->name, &at) != 1)
    return false;
  const char *p = line + at;
  in->bytes = allocate(strlen(p));
  in->n = 0;
  for (; digit(p[0]) >= 0 && digit(p[1]) >= 0; p += 2, p += strspn(p, " "))
    in->bytes[in->n++] = (uint8_t)(digit(p[0]) << 4 | digit(p[1]));
  if (*p == '\n' || *p == '\0') return true;
  fprintf(stderr, "no hex: %s", line);
  exit(1);
}

static void run(const struct input *in) {
  if (getenv("REPLAY_NAMES") != NULL) fprintf(stderr, "%s\n", in->name);
  // In memory of just that size, so that a sanitizer sees a read behind it.
  uint8_t *copy = allocate(in->n);
  if (in->n > 0) memcpy(copy, in->bytes, in->n);
  LLVMFuzzerTestOneInput(copy, in->n);
  free(copy);
}

static void unpack(const struct input *in, const char *dir) {
  char name[4096];
  snprintf(name, sizeof name, "%s/%s", dir, in->name);
  FILE *f = open_file(name, "wb");
  if (fwrite(in->bytes, 1, in->n, f) != in->n || fclose(f) != 0) give_up(name);
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
    free(in.bytes);
    n++;
  }
  free(line);
  fclose(f);
  return n;
}

static void replay_file(const char *name) {
  struct input in = {.n = 0};
  FILE *f = open_file(name, "rb");
  snprintf(in.name, sizeof in.name, "%s", name);
  if (fseek(f, 0, SEEK_END) < 0) give_up(name);
  size_t size = (size_t)ftell(f);
  rewind(f);
  in.bytes = allocate(size);
  in.n = fread(in.bytes, 1, size, f);
  fclose(f);
  run(&in);
  free(in.bytes);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "-u") == 0)
    return replay_list(FUZZ_LIST, argv[2]) == 0;
  for (int i = 1; i < argc; i++) replay_file(argv[i]);
  int n = argc > 1 ? argc - 1 : replay_list(FUZZ_LIST, NULL);
  printf("%d inputs replayed\n", n);
  return n == 0;
}
