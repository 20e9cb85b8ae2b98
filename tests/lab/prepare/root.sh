#!/bin/sh
# root.sh FAMILY SUITE OUT: a base root every node of the family is an overlay over.
# apt: a plain Debian. rpm: the same Debian dressed as Rocky Linux 9, with the real rpm and dnf and without dpkg on PATH.
set -eu
here=$(dirname "$0")
. "$here/mirror.sh"
family=$1 suite=$2 out=$3

include=systemd,systemd-sysv,dbus,iproute2,iputils-ping,ca-certificates,procps,kmod,init-system-helpers
include=$include,python3,python3-pip,python3-setuptools,python3-wheel,curl,netcat-openbsd
# Installed for what they depend on, and purged again below: nodes install them offline, in the versions they start with.
include=$include,dnsmasq-base,etcd-server,etcd-client,pipexec
[ "$family" = apt ] || include=$include,rpm,dnf

hook=$out.hook
cat > "$hook" <<'HOOK'
set -eu
root=$1
chroot "$root" dpkg --purge dnsmasq-base etcd-server etcd-client >/dev/null
chroot "$root" sh -c "apt-mark showauto | xargs -r apt-mark manual" >/dev/null
rm -rf "$root"/var/lib/etcd
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/hostname" "$root/etc/resolv.conf"
mkdir -p "$root/usr/lib/wavegate-lab"
sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p; s/^URIs: //p' "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/* \
    2>/dev/null | head -n 1 > "$root/usr/lib/wavegate-lab/mirror-uri"
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
# What is installed later is installed whole, with its manual pages.
rm -f "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants" "$root/var/log/journal"
ln -sf /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/"
# Nobody logs in there, and each getty takes an instance of inotify, of which there are few.
ln -sf /dev/null "$root/etc/systemd/system/console-getty.service"
HOOK
[ "$family" = apt ] || cat >> "$hook" <<'HOOK'
rm -f "$root/etc/os-release" "$root/usr/lib/os-release"
cat > "$root/usr/lib/os-release" <<'OS'
NAME="Rocky Linux"
VERSION="9.5 (Blue Onyx)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.5"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Rocky Linux 9.5 (Blue Onyx)"
OS
ln -s ../usr/lib/os-release "$root/etc/os-release"
echo "Rocky Linux release 9.5 (Blue Onyx)" > "$root/etc/redhat-release"
rm -f "$root/etc/debian_version"
ln -sf dnf "$root/usr/bin/yum"
ln -sf python3 "$root/usr/bin/python"
# Rocky's Python has no PEP 668 marker, Debian's has.
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
rm -f "$root"/etc/systemd/system/timers.target.wants/apt-daily*.timer "$root"/etc/systemd/system/timers.target.wants/dpkg-db-backup.timer
mkdir -p "$root/usr/lib/wavegate-lab/debian-tools"
for tool in "$root"/usr/bin/apt* "$root"/usr/bin/dpkg* "$root"/usr/sbin/dpkg*; do
    [ -e "$tool" ] && mv "$tool" "$root/usr/lib/wavegate-lab/debian-tools/"
done
mkdir -p "$root/etc/dnf/vars" "$root/etc/yum.repos.d" "$root/usr/lib/systemd/system-preset"
# On Red Hat no service is enabled by being installed.
echo 'disable *' > "$root/usr/lib/systemd/system-preset/99-default-disable.preset"
echo 9 > "$root/etc/dnf/vars/releasever"
HOOK

sources=$out.sources
mirror_sources "$suite" > "$sources"
set -- --variant=minbase --include="$include" --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/man/* --dpkgopt=path-exclude=/usr/share/locale/* \
    --customize-hook="sh $hook \"\$1\"" --format=directory --quiet
debian_keyring >/dev/null
if [ -s "$sources" ]; then
    mmdebstrap "$@" "$suite" "$out" "$sources"
else
    mmdebstrap "$@" "$suite" "$out"
fi
rm -f "$hook" "$sources"
