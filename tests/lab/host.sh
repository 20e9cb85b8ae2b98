#!/usr/bin/env bash
# Makes this machine able to build wavegate and to boot the lab's hosts: installs the missing packages, or names them.
set -euo pipefail

declare -A package_of=(
  [cc]=gcc
  [mmdebstrap]=mmdebstrap
  [systemd-nspawn]=systemd-container
  [ip]=iproute2
  [rpmbuild]=rpm
  [createrepo_c]=createrepo-c
  [dpkg-deb]=dpkg
  [dpkg-scanpackages]=dpkg-dev
  [nsenter]=util-linux
  [python3]=python3
  [curl]=curl
)

missing=()
for program in "${!package_of[@]}"; do
  command -v "$program" >/dev/null || missing+=("${package_of[$program]}")
done
# Debian's archive key checks the packages that the hosts are made of, on Ubuntu too.
[[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || missing+=(debian-archive-keyring)

command -v cargo >/dev/null || {
  echo "lab: cargo is missing: install Rust 1.95 or later with rustup, then run this again" >&2
  exit 1
}
((${#missing[@]})) || exit 0

if [[ $(id -u) -ne 0 ]]; then
  echo "lab: these packages are missing: ${missing[*]}" >&2
  echo "lab: install them (as root: apt-get install ${missing[*]}), or run this as root" >&2
  exit 1
fi
if ! command -v apt-get >/dev/null; then
  echo "lab: this machine has no apt-get; the lab runs on Debian and Ubuntu. Needed: ${missing[*]}" >&2
  exit 1
fi
echo "lab: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
