#!/usr/bin/env bash
# reproducible.sh: makes the packages of the last commit twice, in clones of different names that share nothing, and compares
# them. Where they differ it says which files of a package do.
set -euo pipefail
workspace=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for clone in one another-of-a-longer-name; do
  echo "building in $scratch/$clone" >&2
  git clone --quiet --no-hardlinks "$workspace" "$scratch/$clone"
  # Neither has a compiled file of the other, nor of this workspace.
  env --unset=CARGO_TARGET_DIR ZIG_GLOBAL_CACHE_DIR="$scratch/$clone.zig" CARGO_ZIGBUILD_CACHE_DIR="$scratch/$clone.zigbuild" \
    "$scratch/$clone/packaging/build.sh" --out "$scratch/$clone.packages"
done

# What a package holds, a line for each file, with its digest.
contents() { # contents PACKAGE
  case $1 in
    *.deb)
      rm -rf "$scratch/tree"
      dpkg-deb --raw-extract "$1" "$scratch/tree"
      (cd "$scratch/tree" && find . -type f -exec sha256sum {} + | sort -k2) ;;
    *.rpm) rpm -qp --scripts --dump "$1" ;;
  esac
}

differ=0
for package in "$scratch/one.packages"/*; do
  twin=$scratch/another-of-a-longer-name.packages/$(basename "$package")
  if cmp -s "$package" "$twin"; then
    echo "equal    $(sha256sum < "$package" | cut -c1-64)  $(basename "$package")"
  else
    differ=1
    echo "DIFFERS  $(basename "$package")"
    contents "$package" > "$scratch/first" && contents "$twin" > "$scratch/second"
    diff "$scratch/first" "$scratch/second" || true
    ! command -v diffoscope > /dev/null || diffoscope "$package" "$twin" || true
  fi
done
exit "$differ"
