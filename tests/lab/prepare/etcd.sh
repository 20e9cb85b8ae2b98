#!/bin/sh
# etcd.sh OUT: the programs of every etcd that Debian's suites have, unpacked and not installed:
# OUT/{3.3,3.4,3.5}/{etcd,etcdctl} from bullseye, bookworm and trixie; etcdutl too where a suite has it.
set -eu
here=$(dirname "$0")
. "$here/mirror.sh"
out=$1

programs() { # programs SUITE: unpacks what it has into OUT/MAJOR.MINOR
    suite=$1 root=$out/$1
    mkdir -p "$root"
    mirror_sources "$suite" > "$out/$suite.sources"
    # A root without a single package, which says where there are some: this machine's mirror, or mmdebstrap's default.
    set -- --variant=custom --quiet "$suite" "$root"
    [ ! -s "$out/$suite.sources" ] || set -- "$@" "$out/$suite.sources"
    mmdebstrap "$@"
    # The options hold no blanks: the lab refuses a directory whose path has any.
    apt="apt-get -q -o Dir=$root -o Dir::State::Status=$root/var/lib/dpkg/status -o APT::Sandbox::User=root -o Acquire::Languages=none"
    $apt update >/dev/null
    (cd "$root" && $apt download etcd-server etcd-client >/dev/null)
    version=$(dpkg-deb -f "$root"/etcd-server_*.deb Version)
    minor=$(echo "$version" | sed 's/^[0-9]*://; s/^\([0-9]*\.[0-9]*\)\..*/\1/')
    mkdir "$out/$minor"
    for package in "$root"/etcd-*.deb; do
        dpkg-deb -x "$package" "$root/unpacked"
    done
    mv "$root"/unpacked/usr/bin/etcd* "$out/$minor/"
    rm -rf "$root" "$out/$suite.sources"
}

for suite in bullseye bookworm trixie; do programs "$suite"; done
