#!/bin/sh
# index.sh DIR: (re)makes the indexes of DIR/apt and DIR/rpm. Each Packages file is a second newer than the one it
# replaces, because HTTP compares times in seconds and an index that looks unchanged is not fetched again.
set -eu
started=$(date +%s)
cd "$1/apt"
before=$(stat -c %Y Packages 2>/dev/null || echo 0)
dpkg-scanpackages -m . 2>/dev/null > Packages.new
now=$(date +%s)
[ "$now" -gt "$before" ] || now=$((before + 1))
touch -d "@$now" Packages.new
mv Packages.new Packages
cd ../rpm
createrepo_c -q --general-compress-type=gz . >/dev/null
# dnf too counts in whole seconds: what it fetched in this one is not old enough to be fetched again.
while [ "$(date +%s)" -le "$started" ]; do sleep 0.1; done
