#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What does the library demand of a program that loads it, and what does it show?  As little as
# netio/preload/README.md says; else it loads with one C library and not with the other.
#
# usage: library_test.sh LIBRARY
set -eu
library=$1
status=0

complain() {
  echo "$library: $1" >&2
  status=1
}

if readelf -d "$library" | grep -q NEEDED; then complain "needs other libraries"; fi
if readelf -d "$library" | grep -q TEXTREL; then complain "needs relocations in its code"; fi

demanded=$(nm -D --undefined-only "$library" | awk '{print $NF}' | sort | tr '\n' ' ')
for symbol in $demanded; do
  case $symbol in
    __errno_location | dlsym | getenv | memcpy | memset | memmove) ;;
    *) complain "demands $symbol" ;;
  esac
done

shown=$(nm -D --defined-only "$library" | awk '{print $NF}' | LC_ALL=C sort | tr '\n' ' ')
expected="__recv_chk __recvfrom_chk bind connect getpeername getsockname getsockopt recv recvfrom \
recvmmsg recvmsg setsockopt socket syscall "
[ "$shown" = "$expected" ] || complain "shows $shown, not $expected"

exit $status
