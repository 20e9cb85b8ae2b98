#!/bin/sh
# dress.sh SYSTEM OUT: what makes a node of a family another system, as an overlay layer that lies over all others:
# files of its own, and marks that hide what the system does not have.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
system=$1 out=$2
mkdir -p "$out"
cp -R "$here/../dress/$system/." "$out/"

hide() { # hide PATH...: what the layers below have there is not there
    for path; do
        mkdir -p "$out/$(dirname "$path")"
        mknod "$out/$path" c 0 0
    done
}

case $system in
    trusty)
        for name in start stop restart reload status runlevel telinit reboot poweroff halt shutdown; do
            ln -s initctl "$out/usr/sbin/$name"
        done
        hide usr/bin/systemctl usr/bin/journalctl usr/bin/systemd-run usr/bin/systemd-notify usr/bin/deb-systemd-invoke
        cat > "$out/usr/lib/os-release" <<'OS'
NAME="Ubuntu"
VERSION="14.04.6 LTS, Trusty Tahr"
ID=ubuntu
ID_LIKE=debian
PRETTY_NAME="Ubuntu 14.04.6 LTS"
VERSION_ID="14.04"
HOME_URL="http://www.ubuntu.com/"
OS
        printf 'DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=14.04\nDISTRIB_CODENAME=trusty\nDISTRIB_DESCRIPTION="Ubuntu 14.04.6 LTS"\n' \
            > "$out/etc/lsb-release"
        echo jessie/sid > "$out/etc/debian_version" ;;
    centos7)
        hide usr/bin/dnf usr/bin/dnf-3
        cat > "$out/usr/lib/os-release" <<'OS'
NAME="CentOS Linux"
VERSION="7 (Core)"
ID="centos"
ID_LIKE="rhel fedora"
VERSION_ID="7"
PRETTY_NAME="CentOS Linux 7 (Core)"
ANSI_COLOR="0;31"
CPE_NAME="cpe:/o:centos:centos:7"
OS
        mkdir -p "$out/etc/dnf/vars" "$out/var/lib/yum"
        echo "CentOS Linux release 7.9.2009 (Core)" > "$out/etc/centos-release"
        ln -s centos-release "$out/etc/redhat-release"
        echo 7 > "$out/etc/dnf/vars/releasever" ;;
    *) echo "no dress $system" >&2; exit 2 ;;
esac
