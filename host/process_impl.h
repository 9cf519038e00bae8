// SPDX-License-Identifier: MIT
// What the files that make up process.h need of each other, and tests of them.
// Nobody else includes this.
#ifndef LUAPOOL_PROCESS_IMPL_H
#define LUAPOOL_PROCESS_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// Child: closes the descriptors of the table but the kept ones, which stay in
// it: they are not for the children of this child.
void process_close_all_but(const int *keep, size_t n_keep);

// Child, with all signals blocked: default actions, then ours.
void process_child_signals(void);

// Child, once it leads its group: the group dies when `parent` (the pid of it
// before the fork) does. false with errno.
bool process_die_with(pid_t parent);

// Child: stdout becomes a stream that writes whole lines. false with errno.
bool process_stdout_by_lines(void);

// CPUs that control groups grant, INT_MAX where they do not limit it; reads the
// files below `root` ("" but in tests).
int process_cpu_quota(const char *root);

#endif
