# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Makes the guest that the tests here talk to: a Debian kernel with ESP, and an initrd with
# busybox, this machine's own `ip`, the IPsec modules and guest_init.
#
#   bash build_guest.sh        prints the directory with "vmlinuz" and "initrd"
#
# Packages are downloaded with apt-get download (nothing is installed) and kept, with the result,
# under ${XDG_CACHE_HOME:-~/.cache}/xfrmfs-guest. Needs kmod, cpio, gzip, iproute2 and netbase.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/xfrmfs-guest

# The IPsec parts, what they ask the crypto layer for, and the two virtio devices of guest.py.
modules=(virtio_pci virtio_console virtio_net
  xfrm_user esp4 esp6 ah4 ah6 ipcomp ipcomp6 tunnel4 tunnel6
  authenc authencesn echainiv seqiv gcm ccm ctr cbc ecb cmac xcbc hmac md5 crypto_null
  ghash-generic sha1_generic sha256_generic sha512_generic aes_generic aesni-intel
  drbg jitterentropy_rng chacha20poly1305 chacha_generic poly1305_generic deflate des_generic
  camellia_generic)

main() {
  local package
  package=$(kernel_package)
  if [[ -z $package ]]; then
    apt-get -qq update >&2
    package=$(kernel_package)
  fi
  [[ -n $package ]] || fail "apt knows no linux-image-cloud-amd64"

  local guest stamp
  guest=$cache/$package
  stamp=$(cat "${BASH_SOURCE[0]}" "$here/guest_init" "$(readlink -f "$(command -v ip)")" |
    sha256sum | cut -c1-16)
  if [[ $(cat "$guest/stamp" 2>/dev/null) != "$stamp" ]]; then
    build "$package" "$guest" >&2
    echo "$stamp" >"$guest/stamp"
  fi
  echo "$guest"
}

kernel_package() {
  apt-cache depends --important linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1
}

build() {
  local package=$1 guest=$2
  mkdir -p "$guest/debs"
  # Old package lists name versions that the mirror has no more.
  download "$guest/debs" "$package" || { apt-get -qq update && download "$guest/debs" "$package"; }

  work=$(mktemp -d "$guest/work.XXXXXX") # global: the trap reads it after the function
  trap 'rm -rf "$work"' EXIT
  local deb
  for deb in "$guest"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" |
      tar -x -C "$work" --no-same-owner --wildcards ./boot './lib/modules/*' ./bin 2>/dev/null || true
  done

  local version=${package#linux-image-}
  cp "$work/boot/vmlinuz-$version" "$guest/vmlinuz"
  depmod -b "$work" "$version"

  local root=$work/root
  mkdir -p "$root"/{bin,sbin,proc,sys,dev,tmp,run,etc,modules}
  cp "$work/bin/busybox" "$root/bin/"
  install -m 755 "$here/guest_init" "$root/init"
  copy_modules "$work" "$version" "$root/modules"
  install -m 644 /etc/protocols "$root/etc/" # names in `ip xfrm … proto udp`
  copy_program "$(readlink -f "$(command -v ip)")" "$root/bin/iproute2" "$root"
  (cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | gzip -1) >"$guest/initrd"
}

download() (
  cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$2" busybox-static
)

# Files in the order in which they can be inserted; "order" lists them.
copy_modules() {
  local tree=$1 version=$2 target=$3 module word file
  for module in "${modules[@]}"; do
    while read -r word file _; do
      [[ $word == insmod && ! -e $target/${file##*/} ]] || continue
      cp "$file" "$target/"
      echo "${file##*/}" >>"$target/order"
    done < <(modprobe -d "$tree" -S "$version" --show-depends "$module" 2>&1 ||
      echo "note $module is not a module of $version" >&2)
  done
}

copy_program() {
  local program=$1 target=$2 root=$3 library
  cp "$program" "$target"
  for library in $(ldd "$program" | grep -o '/[^ ]*'); do
    install -D "$library" "$root$library"
  done
}

fail() {
  echo "build_guest.sh: $*" >&2
  exit 1
}

main
