#!/usr/bin/env bash
# host.sh [build|packages|lint]: makes this machine able to build wavegate, to make its packages too, to check them, or by default
# to boot the lab's hosts as well: installs what is missing, or names it.
set -euo pipefail
wanted=${1:-all}

declare -A package_of=(
  [cc]=gcc
)
[[ $wanted == build ]] || package_of+=(
  [rpmbuild]=rpm
  [dpkg-deb]=dpkg
  [strip]=binutils
  [python3]=python3
)
[[ $wanted != lint ]] || package_of+=(
  [lintian]=lintian
  [rpmlint]=rpmlint
  [shellcheck]=shellcheck
  [mandoc]=mandoc
)
[[ $wanted != all ]] || package_of+=(
  [mmdebstrap]=mmdebstrap
  [systemd-nspawn]=systemd-container
  [ip]=iproute2
  [createrepo_c]=createrepo-c
  [dpkg-scanpackages]=dpkg-dev
  [nsenter]=util-linux
  [curl]=curl
)

missing=()
for program in "${!package_of[@]}"; do
  command -v "$program" >/dev/null || missing+=("${package_of[$program]}")
done
# Python's own environments, for the tools that the packages' programs are built with.
[[ $wanted == build ]] || python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
# Debian's archive key checks the packages that the hosts are made of, on Ubuntu too.
[[ $wanted != all || -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || missing+=(debian-archive-keyring)

# etcd's client is made from etcd's .proto files, by protoc, which needs the well-known ones beside it.
protoc_works() {
  local scratch works=0
  scratch=$(mktemp -d)
  echo 'syntax = "proto3"; import "google/protobuf/descriptor.proto";' > "$scratch/probe.proto"
  "${PROTOC:-protoc}" -I "$scratch" ${PROTOC_INCLUDE:+-I "$PROTOC_INCLUDE"} -o /dev/null "$scratch/probe.proto" 2>/dev/null || works=1
  rm -r "$scratch"
  return "$works"
}
protoc_works || missing+=(protobuf-compiler libprotobuf-dev)

command -v cargo >/dev/null || {
  echo "host.sh: cargo is missing: install Rust 1.95 or later with rustup, then run this again" >&2
  exit 1
}
((${#missing[@]})) || exit 0

if [[ $(id -u) -ne 0 ]]; then
  echo "host.sh: these packages are missing: ${missing[*]}" >&2
  echo "host.sh: install them (as root: apt-get install ${missing[*]}), or run this as root" >&2
  exit 1
fi
if ! command -v apt-get >/dev/null; then
  echo "host.sh: this machine has no apt-get. Needed, by what Debian calls it: ${missing[*]}; the lab runs on Debian and Ubuntu alone" >&2
  exit 1
fi
echo "host.sh: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
