// SPDX-License-Identifier: MIT
// Tells a process from the one it was forked from, whoever forked it, without a
// system call: objects keep the epoch they were made in, and one of an earlier
// epoch is the parent's and must not be touched.
#ifndef LUAPOOL_EPOCH_H
#define LUAPOOL_EPOCH_H

unsigned epoch_now(void);

// Once, before the first object is made.
void epoch_start(void);

#endif
