// SPDX-License-Identifier: MIT
// For LD_PRELOAD in the sandbox: named semaphores and shared memory are not
// there, as in AWS Lambda. Nothing of luapool may notice.
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <sys/mman.h>

sem_t *sem_open(const char *name, int flags, ...) {
  (void)name;
  (void)flags;
  errno = ENOSYS;
  return SEM_FAILED;
}

int shm_open(const char *name, int flags, mode_t mode) {
  (void)name;
  (void)flags;
  (void)mode;
  errno = ENOSYS;
  return -1;
}
