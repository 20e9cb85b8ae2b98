#!/usr/bin/env bash
# lint.sh [DIR]: what the families' own checkers say of the packages in DIR, by default those of `make packages`. Every remaining
# finding is named with its reason in lint/; anything else fails.
set -euo pipefail
packaging=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
packages=${1:-${CARGO_TARGET_DIR:-$packaging/../target}/packages}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

lintian --display-info --pedantic --fail-on error,warning,info,pedantic --tag-display-limit 0 "$packages"/*.deb || failed=1
rpmlint --strict --config "$packaging/lint/rpmlint.toml" "$packages"/*.rpm || failed=1

for deb in "$packages"/*.deb; do
  tree=$scratch/$(basename "$deb")
  dpkg-deb --raw-extract "$deb" "$tree"
  shellcheck --shell=sh "$tree"/DEBIAN/{postinst,prerm,postrm} || failed=1
  # A page has no date: it is of a version, which it names.
  find "$tree/usr/share/man" -name '*.gz' -exec gunzip {} +
  find "$tree/usr/share/man" -type f -exec mandoc -T lint -W warning {} + |
    grep -Ev 'cannot parse date|skipping paragraph macro: br (after|before) sp' >&2 && failed=1
done
for rpm in "$packages"/*.rpm; do
  for scriptlet in PREIN POSTIN PREUN POSTUN POSTTRANS; do
    { echo '#!/bin/sh'; rpm -qp --queryformat "%{$scriptlet}" "$rpm"; } > "$scratch/$scriptlet"
    grep -q '^(none)$' "$scratch/$scriptlet" || shellcheck --shell=sh "$scratch/$scriptlet" || failed=1
  done
done
exit "$failed"
