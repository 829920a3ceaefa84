#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# From `xfrmfs mount` to the end of the program, in every way in which it can begin and end.
#
#   lifecycle.sh BUILD_DIR        needs root; exit status 0, 1, or 77 where it cannot run
#
#   namespace xfrmfs-life-PID              the caller's namespace
#     ipsecN  <- the engine's TUN            $work/mnt  <- its files
#
# Every case begins and ends with nothing there: no TUN device, no mount, no socket, no process.
# Variables in single quotes are for eval and for inner shells:
# shellcheck disable=SC2016
set -u

build=$(readlink -f "${1:?usage: lifecycle.sh BUILD_DIR}")
xfrmfs=$build/xfrmfs
[ -x "$xfrmfs" ] || { echo "no program at $xfrmfs"; exit 1; }
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
for device in /dev/net/tun /dev/fuse; do
  [ -c $device ] || { echo "skipped: needs $device"; exit 77; }
done

netns=xfrmfs-life-$$
work=$(mktemp -d /tmp/xfrmfs-life.XXXXXX)
mnt=$work/mnt
mkdir "$mnt"
ip netns add "$netns" || { echo "skipped: cannot make a network namespace"; exit 77; }
failures=0
daemon=
# Where a program built with a sanitizer leaves its reports.
for sanitizer in ASAN UBSAN TSAN; do
  declare -x "${sanitizer}_OPTIONS=log_path=$work/report"
done

clean_up() {
  if [ -n "$daemon" ]; then kill -KILL "$daemon" 2>/dev/null; fi
  while umount -l "$mnt" 2>/dev/null; do :; done
  ip netns del "$netns"
  rm -rf "$work"
}
trap clean_up EXIT

case_name=
begin() { case_name=$1; }
fail() {
  echo "FAILED: $case_name: $*"
  failures=$((failures + 1))
}
# check WHAT COMMAND...: the command must succeed.
check() {
  local what=$1
  shift
  "$@" || fail "$what"
}
# wait_for WHAT COMMAND...: the command must succeed before long.
wait_for() {
  local what=$1 deadline=$((SECONDS + 20))
  shift
  until "$@"; do
    if [ $SECONDS -ge $deadline ]; then
      fail "$what: not within 20 seconds"
      return 1
    fi
    sleep 0.01
  done
}

# A process that has ended but that nobody has waited for yet is not running. While it has more
# threads than the first, it is still closing its descriptors.
running() {
  local state
  state=$(sed -n 's/.*) \(.\).*/\1/p' "/proc/$1/stat" 2>/dev/null)
  case $state in
    "") return 1 ;;
    Z | X) [ "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -gt 1 ] ;;
  esac
}
gone() { ! running "$1"; }
mounted() { awk -v at="$mnt" '$2 == at && $3 == "fuse.xfrmfs" {found = 1} END {exit !found}' /proc/mounts; }
source_of_mount() { awk -v at="$mnt" '$2 == at && $3 == "fuse.xfrmfs" {print $1}' /proc/mounts; }
tun_is_up() { ip -n "$netns" link show dev "${1:-ipsec0}" up 2>/dev/null | grep -q .; }
tun_exists() { ip -n "$netns" link show dev "${1:-ipsec0}" >/dev/null 2>&1; }

# The process that holds the mount, by its control socket: PID.sock.
find_daemon() { daemon=$(basename "$(source_of_mount)" .sock); }

start() {
  "$xfrmfs" mount "$mnt" --netns "$netns" "$@" >"$work/out" 2>"$work/err"
  local status=$?
  [ $status = 0 ] || { fail "mount: status $status: $(cat "$work/err")"; return 1; }
  [ -s "$work/out" ] || [ -s "$work/err" ] && fail "mount is not silent: $(cat "$work/out" "$work/err")"
  find_daemon
}

nothing_left() {
  check "a mount is left" eval '! mounted'
  check "a TUN device is left" eval '! tun_exists'
  [ -z "$daemon" ] || check "a socket is left" test ! -e "/run/xfrmfs/$daemon.sock"
  check "the mount point is not usable" ls "$mnt" >/dev/null
}

# ends_cleanly HOW COMMAND...: after the command the program ends and leaves nothing.
ends_cleanly() {
  begin "ends by $1"
  shift
  start || return
  "$@" || fail "status $?"
  wait_for "the program still runs" gone "$daemon" || kill -KILL "$daemon"
  nothing_left
  daemon=
}

# refused NAME PATTERN ARGUMENTS...: one line that matches, a status other than 0, nothing left.
refused() {
  begin "refuses $1"
  local pattern=$2
  shift 2
  "$@" >"$work/out" 2>"$work/err"
  local status=$?
  case $status in
    0 | 12[5-9] | 1[3-9]?) fail "status $status" ;;
  esac
  [ "$(wc -l <"$work/err")" = 1 ] || fail "not one line: $(cat "$work/err")"
  grep -q "^xfrmfs: .*$pattern" "$work/err" || fail "message: $(cat "$work/err")"
}

# --- It begins.

begin "mount returns when everything works"
if start; then
  check "the TUN device is not up" tun_is_up
  check "net/xfrm_stat has no 32 lines" test "$(wc -l <"$mnt/net/xfrm_stat")" = 32
  check "the source is not the socket" test -S "$(source_of_mount)"
  check "the socket is open to others" test "$(stat -c %a "$(source_of_mount)")" = 600
  check "the device has an IPv6 address" test -z "$(ip -n "$netns" -6 addr show dev ipsec0)"
  check "keys could reach a core dump" grep -q 'Max core file size *0 *0' "/proc/$daemon/limits"
  case_name="a second mount in the same place"
  refused "$case_name" "already mounted" "$xfrmfs" mount "$mnt" --netns "$netns" --tun ipsec9
  check "a TUN device is left" eval '! tun_exists ipsec9'
  case_name="a second engine with the same TUN device"
  mkdir -p "$work/other"
  refused "$case_name" 'TUN device name "ipsec0" is taken' \
    "$xfrmfs" mount "$work/other" --netns "$netns"
  check "the first engine suffered" test "$(wc -l <"$mnt/net/xfrm_stat")" = 32
  begin "umount command"
  check "status $?" "$xfrmfs" umount "$mnt"
  check "the program still runs" gone "$daemon"
  nothing_left
  daemon=
fi

begin "mount with options"
if start --tun ipsec7 --mtu 1300 --workers 3 --socket "$work/control.sock" -o noexec; then
  check "the TUN device is not up" tun_is_up ipsec7
  check "the MTU is another" eval 'ip -n "$netns" link show ipsec7 | grep -q "mtu 1300"'
  check "the option is lost" grep -q "^$work/control.sock $mnt fuse.xfrmfs .*noexec" /proc/mounts
  check "status $?" "$xfrmfs" umount "$mnt"
  nothing_left
  check "the socket is left" test ! -e "$work/control.sock"
  check "the TUN device is left" eval '! tun_exists ipsec7'
  daemon=
fi

begin "foreground"
"$xfrmfs" mount -f "$mnt" --netns "$netns" 2>"$work/err" &
daemon=$!
if wait_for "the mount does not come" mounted; then
  wait_for "the TUN device is not up" tun_is_up
  check "the program is another" test "$(source_of_mount)" = "/run/xfrmfs/$daemon.sock"
  kill -TERM "$daemon"
  wait "$daemon" || fail "status $?"
  nothing_left
fi
daemon=

# --- It does not begin.

refused "a mount point that is missing" "$work/none.*No such file" \
  "$xfrmfs" mount "$work/none" --netns "$netns"
touch "$work/file"
refused "a mount point that is a file" "$work/file.*Not a directory" \
  "$xfrmfs" mount "$work/file" --netns "$netns"
refused "a namespace that is missing" 'network namespace "xfrmfs-none"' \
  "$xfrmfs" mount "$mnt" --netns xfrmfs-none
refused "an underlay that is missing" 'underlay "none0"' \
  "$xfrmfs" mount "$mnt" --netns "$netns" --underlay none0
refused "an unknown mount option" "bogus" "$xfrmfs" mount "$mnt" --netns "$netns" -o bogus
refused "a socket directory that is missing" "$work/none/none/control.sock" \
  "$xfrmfs" mount "$mnt" --netns "$netns" --socket "$work/none/none/control.sock"
ip -n "$netns" link add ipsec0 type veth peer name ipsec9
refused "a TUN name that is taken" 'TUN device name "ipsec0" is taken' \
  "$xfrmfs" mount "$mnt" --netns "$netns"
ip -n "$netns" link del ipsec0
ip -n "$netns" tuntap add ipsec0 mode tun
refused "a TUN device that is somebody else's" 'TUN device name "ipsec0" is taken' \
  "$xfrmfs" mount "$mnt" --netns "$netns"
ip -n "$netns" tuntap del ipsec0 mode tun
refused "to run without CAP_NET_ADMIN" "CAP_NET_ADMIN" \
  setpriv --bounding-set=-net_admin --inh-caps=-net_admin "$xfrmfs" mount "$mnt"
refused "to run without CAP_NET_RAW" "CAP_NET_RAW" \
  setpriv --bounding-set=-net_raw --inh-caps=-net_raw "$xfrmfs" mount "$mnt" --netns "$netns"
refused "to run without CAP_SYS_ADMIN" "CAP_SYS_ADMIN" \
  setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$xfrmfs" mount "$mnt"
refused "to run without /dev/net/tun" "/dev/net/tun" \
  unshare --mount sh -c 'mount --bind "$3" /dev/net && exec "$1" mount "$2" --netns "$4"' \
  sh "$xfrmfs" "$mnt" "$work/other" "$netns"
refused "to unmount what is not mounted" "$mnt" "$xfrmfs" umount "$mnt"
begin "refusals leave nothing"
nothing_left

# --- It ends.

for signal in TERM INT; do
  ends_cleanly "SIG$signal" eval "kill -$signal \$daemon"
done
ends_cleanly "xfrmfs umount" "$xfrmfs" umount "$mnt"
ends_cleanly "umount" umount "$mnt"
ends_cleanly "fusermount3 -u" fusermount3 -u "$mnt"

begin "SIGTERM while a file is open"
if start; then
  exec 3<"$mnt/net/xfrm_stat"
  kill -TERM "$daemon"
  wait_for "the program still runs" gone "$daemon"
  exec 3<&-
  nothing_left
  daemon=
fi

begin "SIGHUP is ignored"
if start; then
  kill -HUP "$daemon"
  check "the files are gone" test "$(wc -l <"$mnt/net/xfrm_stat")" = 32
  check "status $?" "$xfrmfs" umount "$mnt"
  daemon=
fi

begin "umount after SIGKILL"
if start; then
  kill -KILL "$daemon"
  wait_for "the program still runs" gone "$daemon"
  check "status $?" "$xfrmfs" umount "$mnt"
  nothing_left
  daemon=
fi

begin "mount after SIGKILL"
if start; then
  dead=$daemon
  kill -KILL "$dead"
  wait_for "the program still runs" gone "$dead"
  start
  check "it is the dead one" test "$dead" != "$daemon"
  check "the dead one's socket is left" test ! -e "/run/xfrmfs/$dead.sock"
  check "the files cannot be read" test "$(wc -l <"$mnt/net/xfrm_stat")" = 32
  check "status $?" "$xfrmfs" umount "$mnt"
  nothing_left
  daemon=
fi

# --- Namespaces.

begin "a path as namespace"
if "$xfrmfs" mount "$mnt" --netns "/run/netns/$netns"; then
  find_daemon
  check "the TUN device is not there" tun_is_up
  check "status $?" "$xfrmfs" umount "$mnt"
  nothing_left
  daemon=
else
  fail "status $?"
fi

begin "ip netns exec"
ip netns exec "$netns" sh -c '"$1" mount "$2" 2>"$3" && cat "$2/net/xfrm_stat" >"$3.stat" &&
  "$1" umount "$2"' sh "$xfrmfs" "$mnt" "$work/err" || fail "status $?"
check "no warning that names --netns" grep -q "^xfrmfs: warning: .*--netns $netns" "$work/err"
check "more than one line" test "$(wc -l <"$work/err")" = 1
check "the files could not be read inside" test "$(wc -l <"$work/err.stat")" = 32
nothing_left

begin "start and stop, many times"
for _ in $(seq 20); do
  start || break
  check "the files cannot be read" test "$(wc -l <"$mnt/net/xfrm_stat")" = 32
  "$xfrmfs" umount "$mnt" || { fail "status $?"; break; }
done
daemon=
nothing_left

for report in "$work"/report.*; do
  [ -e "$report" ] || continue
  case_name=sanitizer
  fail "report: $(grep -m 1 ERROR "$report" || head -3 "$report")"
done
if [ "$failures" -ne 0 ]; then
  echo "lifecycle: $failures failed"
  exit 1
fi
echo "lifecycle: passed"
