# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the scripts here share: packages, builds, messages. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Installs what is missing of the packages for the purposes named, e.g. `need_packages build run`.
need_packages() {
  local wanted=" $* " missing=() purpose packages package
  while read -r purpose packages; do
    [[ $wanted == *" $purpose "* ]] || continue
    for package in $packages; do
      dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
        missing+=("$package")
    done
  done <"$root/script/packages"
  [[ ${#missing[@]} -gt 0 ]] || return 0
  [[ $EUID -eq 0 ]] || die "missing packages, and only root can install them: ${missing[*]}"
  echo "installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { apt-get -q update &&
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}"
  } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "cannot install ${missing[*]}"
  fi
  rm -f "$log"
}

# build PRESET [TARGET...]: configures and builds; the log is shown only if that fails.
build() {
  local preset=$1 target targets=() log=$root/build/$1.log
  shift
  for target; do targets+=(--target "$target"); done
  mkdir -p "$root/build"
  if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
  if ! (cd "$root" && cmake --preset "$preset" &&
    without_aslr cmake --build --preset "$preset" -j "$(nproc)" "${targets[@]}") >"$log" 2>&1; then
    cat "$log" >&2
    return 1
  fi
}

# Address space randomisation as wide as newer kernels have it stops the ThreadSanitizer of g++ 12;
# where the switch is not permitted, there is hope that it is not needed.
without_aslr() {
  if setarch "$(uname -m)" -R true 2>/dev/null; then
    setarch "$(uname -m)" -R "$@"
  else
    "$@"
  fi
}

need_root_and_devices() {
  [[ $EUID -eq 0 ]] || die "needs root: it makes network namespaces, TUN devices and mounts"
  local device
  for device in /dev/net/tun /dev/fuse; do
    [[ -c $device ]] || die "needs $device; in a container, pass it in (--device $device)"
  done
}
