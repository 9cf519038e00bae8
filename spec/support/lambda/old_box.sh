#!/bin/bash
# SPDX-License-Identifier: MIT
# old_box.sh ROOT TASK COMMAND ARG...: runs it in the sandbox that sandbox.sh
# makes, but with ROOT for a system (bullseye.sh), TASK as /var/task, the
# environment as it is, and this machine's network: the Runtime API is outside.
set -eu
dev=()
for name in null zero full random urandom; do
  dev+=(--dev-bind "/dev/$name" "/dev/$name")
done
exec prlimit --nofile=1024:1024 --nproc=1024:1024 --core=0:0 \
  bwrap --unshare-user --uid 993 --gid 990 \
  --unshare-ipc --unshare-pid --unshare-uts \
  --die-with-parent --new-session --cap-drop ALL \
  --ro-bind "$1" / --proc /proc --tmpfs /dev "${dev[@]}" \
  --symlink /proc/self/fd/0 /dev/stdin \
  --symlink /proc/self/fd/1 /dev/stdout \
  --symlink /proc/self/fd/2 /dev/stderr --remount-ro /dev \
  --size 536870912 --tmpfs /tmp \
  --ro-bind "$2" /var/task --chdir /var/task \
  --setenv LAMBDA_TASK_ROOT /var/task --setenv HOME /tmp \
  --unsetenv LUA_PATH_5_4 --unsetenv LUA_CPATH_5_4 -- "${@:3}"
