#!/bin/sh
# debian.sh SUITE BASE OUT: Debian's own packages the lab works with, downloaded into OUT/{old,new,next}, and OUT/debian.env
# saying which versions they are. Old etcd is the suite before SUITE, new etcd is SUITE's own, next that of the suite after:
# each one minor version apart. The suite after has packages that need no newer C library than SUITE's, or it is left out.
set -eu
here=$(dirname "$0")
. "$here/mirror.sh"
suite=$1 base=$2 out=$3
case $suite in
    bookworm) before=bullseye after=trixie ;;
    trixie) before=bookworm after= ;;
    *) echo "the lab knows no suite before '$suite'" >&2; exit 1 ;;
esac

fetch() { # fetch SUITE DIRECTORY PACKAGE...
    wanted=$1 into=$2
    shift 2
    private=$out/apt-$wanted
    mkdir -p "$private/etc/apt.conf.d" "$private/etc/preferences.d" "$private/etc/sources.list.d" "$private/state/lists/partial" \
        "$private/cache/archives/partial" "$into"
    : > "$private/state/status"
    # The mirror the base root came from serves the other suite too.
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$(cat "$base/usr/lib/wavegate-lab/mirror-uri")" "$wanted" "$(debian_keyring)" > "$private/etc/sources.list.d/mirror.sources"
    set -- -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$private/etc/sources.list.d" \
        -o Dir::Etc::PreferencesParts="$private/etc/preferences.d" -o Dir::State="$private/state" \
        -o Dir::State::Status="$private/state/status" -o Dir::Cache="$private/cache" -o APT::Sandbox::User=root \
        -o APT::Default-Release= -o Acquire::Languages=none -- "$@"
    options="" ; while [ "$1" != -- ]; do options="$options $1"; shift; done; shift
    # The options hold no blanks: the lab refuses a directory whose path has any.
    apt-get $options update >/dev/null
    (cd "$into" && apt-get $options download "$@" >/dev/null)
    rm -rf "$private"
}

# What rpm's own generator says that the base's C library provides: the rpms of hosts have to be told.
mkdir -p "$out"
for library in ld-linux-x86-64.so.2 libc.so.6 libdl.so.2 libgcc_s.so.1 libm.so.6 libpthread.so.0 libresolv.so.2 librt.so.1 libutil.so.1; do
    echo "$base/usr/lib/x86_64-linux-gnu/$library"
done | /usr/lib/rpm/elfdeps --provides | sort -u > "$out/libraries"

version() { dpkg-deb -f "$1" Version; }

fetch "$before" "$out/old" etcd-server etcd-client
fetch "$suite" "$out/new" etcd-server etcd-client dnsmasq-base
mv "$out"/new/dnsmasq-base_*.deb "$out/old/"
[ -z "$after" ] || fetch "$after" "$out/next" etcd-server etcd-client

# The newer dnsmasq is the same package with a higher version and another binary file: a note appended to the ELF
# file, which its loader does not look at.
tree=$out/dnsmasq-tree
dpkg-deb -R "$out"/old/dnsmasq-base_*.deb "$tree"
dnsmasq_old=$(version "$out"/old/dnsmasq-base_*.deb)
dnsmasq_new=$dnsmasq_old+wavegate1
sed -i "s/^Version: .*/Version: $dnsmasq_new/" "$tree/DEBIAN/control"
printf 'wavegate lab: newer dnsmasq\n' >> "$tree/usr/sbin/dnsmasq"
(cd "$tree" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zgzip -b "$tree" "$out/new/dnsmasq-base_new_amd64.deb" >/dev/null
rm -rf "$tree"

{
    echo "ETCD_OLD=$(version "$out"/old/etcd-server_*.deb)"
    echo "ETCD_NEW=$(version "$out"/new/etcd-server_*.deb)"
    [ -z "$after" ] || echo "ETCD_NEXT=$(version "$out"/next/etcd-server_*.deb)"
    echo "DNSMASQ_OLD=$dnsmasq_old"
    echo "DNSMASQ_NEW=$dnsmasq_new"
} > "$out/debian.env"
