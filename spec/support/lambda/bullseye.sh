#!/bin/bash
# SPDX-License-Identifier: MIT
# bullseye.sh DIRECTORY: makes it a root of Debian 11, whose glibc (2.31) is
# older than Lambda's: libc6 and a shell that is linked to it. Needs apt and a
# network the first time, no rights. Says why on stderr where it cannot.
set -eu
root=$(realpath -m "$1")
[[ ! -e $root/bin/sh ]] || exit 0
work=$root.work
rm -rf "$work"
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,root}
trap 'rm -rf "$work"' EXIT
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] http://deb.debian.org/debian bullseye main" \
  >"$work/sources"
apt() {
  apt-get -qq -o Dir::State="$work/state" -o Dir::Cache="$work/cache" \
    -o Dir::State::status=/dev/null -o Dir::Etc::SourceParts=- \
    -o Dir::Etc::SourceList="$work/sources" -o APT::Sandbox::User= \
    -o Acquire::Retries=2 -o Acquire::Languages=none \
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
    "$@" >/dev/null
}
apt update --error-on=any
(cd "$work" && apt download libc6 dash)
for package in "$work"/*.deb; do
  dpkg-deb -x "$package" "$work/root"
done
# Where the sandbox mounts something.
mkdir -p "$work"/root/{proc,dev,tmp,var/task}
mv "$work/root" "$root"
