// SPDX-License-Identifier: MIT
// See epoch.h. The counter is raised by libc's own fork, in the child.

#include "epoch.h"

#include <pthread.h>
#include <stdbool.h>

static unsigned epoch = 1;

static void raise_epoch(void) { epoch++; }

unsigned epoch_now(void) { return epoch; }

void epoch_start(void) {
  static bool started;
  if (started) return;
  started = pthread_atfork(NULL, NULL, raise_epoch) == 0;
}
