#!/bin/bash
# SPDX-License-Identifier: MIT
# libcurl.sh DIR: builds Debian's libcurl, HTTP alone, as DIR/lib/libcurl.a with
# DIR/include. Does nothing where that is there, made as this script and its
# neighbours make it, of the newest source that apt knows of and can fetch.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
lists=/var/lib/apt/lists

# One at a time; whoever waited finds it done.
exec 9>"$root/lock"
flock 9

recipe=$(cat "$here"/libcurl.{sh,cmake,patch} | sha256sum | cut -c1-16)

# The newest version that apt's lists name; empty where they are not there.
known_version() {
  apt-cache --no-generate show libcurl4 2>/dev/null |
    sed -n 's/^Version: //p' | sort -V | tail -n 1 || true
}

# True where what is built was made like this.
is_usable() {
  local made
  [[ -f $root/lib/libcurl.a ]] || return 1
  read -r built made <"$root/version" || return 1
  [[ $made == "$recipe" ]]
}

# Lists as old as the last look are not looked at again, since that takes a
# second.
is_newest() {
  [[ $lists -nt $root/version ]] || return 0
  ! dpkg --compare-versions "$(known_version)" gt "$built" || return 1
  touch "$root/version"
}

# This machine's own mirrors of its release, called by its name or stable, as
# sources of source. Security fixes come from them too.
sources() {
  local release
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  apt-get indextargets --no-release-info 'Created-By: Packages' --format \
    "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
\$(REPO_URI) \$(RELEASE) \$(COMPONENT)" |
    sed -E "s/ (old)*stable((-[a-z]+)? main)$/ $release\2/" |
    grep -E " $release(-updates|-security)? main$" | sort -u
}

# Fetches and unpacks the newest source into $work/curl-*.
fetch() {
  local options=(-qq -o Dir::Etc::SourceList="$work/curl.list"
    -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$work/lists"
    -o Dir::Cache="$work/cache" -o APT::Get::Only-Source=true)
  [[ $(id -u) != 0 ]] || options+=(-o APT::Sandbox::User=root)
  mkdir -p "$work"/{lists,cache}
  sources >"$work/curl.list"
  [[ -s $work/curl.list ]] || { echo "apt knows no mirror" && return 1; }
  apt-get "${options[@]}" update &&
    (cd "$work" && apt-get "${options[@]}" source curl)
}

# Compiles it into $work/done. The flags are the host's own, see CMakeLists.txt.
compile() {
  local flags="-O2 -g -D_FORTIFY_SOURCE=2 \
-fstack-protector-strong -fstack-clash-protection"
  [[ $(uname -m) != x86_64 ]] || flags+=" -fcf-protection"
  (cd "$work"/curl-*/ && patch -p1 <"$here/libcurl.patch")
  cmake -C "$here/libcurl.cmake" -S "$work"/curl-*/ -B "$work/build" \
    -DCMAKE_BUILD_TYPE=None -DCMAKE_C_COMPILER=gcc -DCMAKE_C_FLAGS="$flags"
  cmake --build "$work/build" -j "$(nproc)" -t libcurl
  mkdir -p "$work/done/lib"
  cp "$work/build/lib/libcurl.a" "$work/done/lib"
  cp -r "$work"/curl-*/include "$work/done"
}

# Puts it in place, all at once but for an instant; the version comes last.
place() {
  local version
  version=$(sed -n 's/^Version: //p' "$work"/curl_*.dsc | head -n 1)
  rm -rf "$root"/{version,lib,include}
  mv "$work/done"/* "$root"
  echo "$version $recipe" >"$root/version"
}

# However it ends: what the log says, where it ends badly.
finish() {
  local status=$?
  rm -rf "$work"
  ((status)) || return 0
  tail -n 40 "$root/build.log"
  echo "$failure"
} >&3

! is_usable || ! is_newest || exit 0
echo "building libcurl"
unset MAKEFLAGS MAKELEVEL CFLAGS LDFLAGS
work=$root/work
exec 3>&1 >"$root/build.log" 2>&1
trap finish EXIT
rm -rf "$work"
mkdir "$work"
failure="libcurl's source could not be fetched from Debian's mirrors: is there \
a network?"
if ! fetch; then
  is_usable || exit 1
  echo "a newer libcurl could not be fetched: $built stays" >&3
  touch "$root/version"  # until there are new lists
  exit 0
fi
failure="libcurl could not be built"
compile
place
