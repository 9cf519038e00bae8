#!/bin/bash
# SPDX-License-Identifier: MIT
# sandbox.sh COMMAND ARG...: runs it in the checkout as AWS Lambda would: no
# /dev/shm, read-only but for /tmp, 1024 files and processes, no network. Where
# build/nosem.so is there, sem_open and shm_open answer ENOSYS as they do there.
set -eu
dir=$(cd "$(dirname "$0")/../.." && pwd)
dev=()
for name in null zero full random urandom; do
  dev+=(--dev-bind "/dev/$name" "/dev/$name")
done
env=(--setenv PATH /usr/local/bin:/usr/bin:/bin --setenv LANG C.UTF-8
  --setenv HOME /tmp --setenv LUAPOOL_SANDBOX 1)
if [[ -e $dir/build/nosem.so ]]; then
  env+=(--setenv LD_PRELOAD /var/task/build/nosem.so)
fi
exec prlimit --nofile=1024:1024 --nproc=1024:1024 --core=0:0 \
  bwrap --unshare-user --uid 993 --gid 990 \
  --unshare-ipc --unshare-pid --unshare-net --unshare-uts \
  --die-with-parent --new-session --cap-drop ALL \
  --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib \
  --symlink usr/lib64 /lib64 --ro-bind /etc /etc \
  --proc /proc --tmpfs /dev "${dev[@]}" \
  --symlink /proc/self/fd/0 /dev/stdin \
  --symlink /proc/self/fd/1 /dev/stdout \
  --symlink /proc/self/fd/2 /dev/stderr --remount-ro /dev \
  --size 536870912 --tmpfs /tmp \
  --ro-bind "$dir" /var/task --chdir /var/task --remount-ro / \
  --clearenv "${env[@]}" -- "$@"
