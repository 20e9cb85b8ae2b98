#!/bin/sh
# packages.sh DEBIAN OUT: builds every fixture package, twice, and the repositories of them.
# DEBIAN is what debian.sh made. OUT/old holds the repositories nodes are provisioned from; OUT/repo is what deploy-1
# serves: old and new packages of both families, and archives; OUT/next has Debian packages that it does not serve until a
# test offers them; OUT/manifest.env says what a test needs to know.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
fixtures=$here/../packages
debian=$1 out=$2
. "$debian/debian.env"
. "$here/../versions.env"
mkdir -p "$out/old/apt" "$out/old/rpm" "$out/repo/apt" "$out/repo/rpm" "$out/repo/archives" "$out/pip"

dpkg-deb -x "$debian"/old/dnsmasq-base_*.deb "$out/dnsmasq"
export DNSMASQ_NEW DNSMASQ_OLD DNSMASQ_BINARY="$out/dnsmasq/usr/sbin/dnsmasq"

cp "$debian"/old/*.deb "$out/old/apt/"
while read -r package; do
    sh "$fixtures/deb/build.sh" "$package" old "$out/old/apt"
    sh "$fixtures/deb/build.sh" "$package" new "$out/repo/apt"
done < "$fixtures/deb/list"
cp "$debian"/new/*.deb "$out"/old/apt/*.deb "$out/repo/apt/"
mkdir "$out/next"
[ -z "${ETCD_NEXT-}" ] || cp "$debian"/next/*.deb "$out/next/"

LIBRARIES=$debian/libraries sh "$fixtures/rpm/build.sh" wavegate-lab-base old "$out/old/rpm"
while read -r package; do
    sh "$fixtures/rpm/build.sh" "$package" old "$out/old/rpm"
    sh "$fixtures/rpm/build.sh" "$package" new "$out/repo/rpm"
done < "$fixtures/rpm/list"
cp "$out"/old/rpm/*.rpm "$out/repo/rpm/"

for repository in "$out/old" "$out/repo"; do sh "$here/index.sh" "$repository"; done

pack() { tar -C "$1" --sort=name --mtime=@1500000000 --owner=0 --group=0 --numeric-owner -cf - "$2" | gzip -n > "$3"; }

source_archive() { # source_archive PROJECT MODULE VERSION INTO
    tree=$(mktemp -d)
    mkdir -p "$tree/$1-$3/$2"
    sed "s/@NAME@/$1/g; s/@VERSION@/$3/; s/@MODULE@/$2/" "$fixtures/python/setup.py" > "$tree/$1-$3/setup.py"
    printf '__version__ = "%s"\n' "$3" > "$tree/$1-$3/$2/__init__.py"
    pack "$tree" "$1-$3" "$4/$1-$3.tar.gz"
    rm -rf "$tree"
}
source_archive python-etcd etcd "$PYTHON_ETCD_OLD" "$out/pip"
source_archive python-etcd etcd "$PYTHON_ETCD_NEW" "$out/repo/archives"
source_archive networking-calico networking_calico 1.0.0 "$out/pip"

# etcd as its project releases it: a directory with the two binaries, taken from Debian's packages.
etcd_archive() { # etcd_archive OLD_OR_NEW VERSION INTO
    tree=$(mktemp -d)
    release=etcd-v$2-linux-amd64
    for part in server client; do dpkg-deb -x "$debian/$1"/etcd-"$part"_*.deb "$tree/x"; done
    mkdir "$tree/$release"
    cp "$tree/x/usr/bin/etcd" "$tree/x/usr/bin/etcdctl" "$tree/$release/"
    pack "$tree" "$release" "$3/$release.tar.gz"
    rm -rf "$tree"
}
upstream() { echo "$1" | sed 's/[-+].*//'; }
etcd_archive old "$(upstream "$ETCD_OLD")" "$out/pip"
etcd_archive new "$(upstream "$ETCD_NEW")" "$out/repo/archives"

sum() { sha256sum "$1" | cut -d' ' -f1; }
python_etcd=python-etcd-$PYTHON_ETCD_NEW.tar.gz
etcd=etcd-v$(upstream "$ETCD_NEW")-linux-amd64.tar.gz
{
    cat "$debian/debian.env"
    echo "DNSMASQ_RPM_OLD=${DNSMASQ_OLD%%-*}-1"
    echo "DNSMASQ_RPM_NEW=${DNSMASQ_OLD%%-*}-2"
    echo "PYTHON_ETCD_ARCHIVE=$python_etcd"
    echo "PYTHON_ETCD_SHA256=$(sum "$out/repo/archives/$python_etcd")"
    echo "ETCD_ARCHIVE=$etcd"
    echo "ETCD_SHA256=$(sum "$out/repo/archives/$etcd")"
} > "$out/manifest.env"
