#!/bin/sh
# build.sh PACKAGE old|new OUT [FAULT]: builds one fixture .deb into directory OUT.
# FAULT: postinst-fails, preinst-fails or postinst-sleeps-N. LAB_SUFFIX is appended to the package version.
set -eu
packages=$(cd "$(dirname "$0")/.." && pwd)
package=$1 age=$2 out=$3 fault=${4:-}
. "$packages/../versions.env"
case $age in
    old) calico=$CALICO_OLD nc=$NC_OLD neutron=$NEUTRON_OLD etcd=$PYTHON_ETCD_OLD ;;
    new) calico=$CALICO_NEW nc=$NC_NEW neutron=$NEUTRON_NEW etcd=$PYTHON_ETCD_NEW ;;
    *) echo "neither old nor new: $age" >&2; exit 2 ;;
esac
suffix=${LAB_SUFFIX:-}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/DEBIAN"
depends= epoch=

daemon() { # daemon SOURCE NAME VERSION
    mkdir -p "$tree/usr/bin"
    sed "s/@VERSION@/$3/" "$packages/daemons/$1" > "$tree/usr/bin/$2"
    chmod 755 "$tree/usr/bin/$2"
}

conffile() { # conffile FILE INTO: the new version of a package has a newer file too
    mkdir -p "$tree$2"
    cp "$packages/conf/$1" "$tree$2/"
    [ "$age" = old ] || cat "$packages/conf/$1.added" >> "$tree$2/$1"
    echo "$2/$1" >> "$tree/DEBIAN/conffiles"
}

service() { # service UNIT ON_UPGRADE: a unit and a job, and what debhelper's snippets do for either
    mkdir -p "$tree/lib/systemd/system" "$tree/etc/init"
    cp "$packages/units/$1.service" "$tree/lib/systemd/system/"
    cp "$packages/upstart/$1.conf" "$tree/etc/init/"
    echo "/etc/init/$1.conf" >> "$tree/DEBIAN/conffiles"
    cat >> "$tree/DEBIAN/postinst" <<SCRIPT
if [ "\$1" = configure ]; then
    deb-systemd-helper unmask $1.service >/dev/null || true
    if deb-systemd-helper --quiet was-enabled $1.service; then
        deb-systemd-helper enable $1.service >/dev/null || true
    else
        deb-systemd-helper update-state $1.service >/dev/null || true
    fi
    if [ -n "\$2" ]; then _action=$2; else _action=start; fi
    if [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload >/dev/null || true
        deb-systemd-invoke \$_action $1.service >/dev/null || true
    elif [ -x /sbin/initctl ]; then
        invoke-rc.d $1 \$_action || exit \$?
    fi
fi
SCRIPT
    # stopped before the unpack and started after it, or left running and restarted after it
    stop_when='[ "$1" = remove ]'
    [ "$2" = restart ] || stop_when=true
    cat >> "$tree/DEBIAN/prerm" <<SCRIPT
if $stop_when; then
    if [ -d /run/systemd/system ]; then
        deb-systemd-invoke stop $1.service >/dev/null || true
    elif [ -x /sbin/initctl ]; then
        invoke-rc.d $1 stop || exit \$?
    fi
fi
SCRIPT
    cat >> "$tree/DEBIAN/postrm" <<SCRIPT
if [ "\$1" = purge ]; then
    deb-systemd-helper purge $1.service >/dev/null || true
    deb-systemd-helper unmask $1.service >/dev/null || true
fi
[ ! -d /run/systemd/system ] || systemctl --system daemon-reload >/dev/null || true
SCRIPT
}

python_package() { # python_package MODULE PROJECT VERSION
    site=$tree/usr/lib/python3/dist-packages
    info=$site/$(echo "$2" | tr - _)-$3.egg-info
    mkdir -p "$site/$1" "$info"
    printf '"""Lab fixture standing in for %s."""\n\n__version__ = "%s"\n' "$2" "$3" > "$site/$1/__init__.py"
    printf 'Metadata-Version: 1.0\nName: %s\nVersion: %s\n' "$2" "$3" > "$info/PKG-INFO"
    printf '%s\n' "$1" > "$info/top_level.txt"
    # Python takes a compiled file for one of this source if size and second of change are the same.
    [ "$age" = old ] && changed=2015-06-01 || changed=2017-06-01
    touch -d "$changed" "$site/$1/__init__.py"
}

case $package in
    calico-common)
        version=$calico
        mkdir -p "$tree/usr/bin"
        printf '#!/bin/sh\necho "lab fixture: no diagnostics"\n' > "$tree/usr/bin/calico-diags"
        chmod 755 "$tree/usr/bin/calico-diags"
        ;;
    calico-felix)
        # debhelper compat 8: down for the whole unpack
        version=$calico depends="calico-common (= $version), iproute2"
        daemon calico-felix calico-felix "$version"
        mkdir -p "$tree/var/log/calico"
        conffile felix.cfg.example /etc/calico
        service calico-felix start
        ;;
    networking-calico)
        # Python alone: restarts nothing
        version=$nc epoch=1: depends="python3, python-etcd"
        [ "$age" = old ] || depends="python3, python-etcd (>= $etcd)"
        python_package networking_calico networking-calico "$version"
        ;;
    calico-compute)
        version=$nc epoch=1: depends="neutron-dhcp-agent, calico-felix, networking-calico"
        [ "$age" = old ] || depends="$depends (= 1:$version), dnsmasq-base (>= $DNSMASQ_NEW)"
        # on every configure, as domain knowledge has it: the sysctl lines are appended again and again
        cat >> "$tree/DEBIAN/postinst" <<'SCRIPT'
if [ "$1" = configure ]; then
    echo net.ipv4.ip_forward=1 >> /etc/sysctl.conf
    [ ! -d /run/systemd/system ] && [ ! -x /sbin/initctl ] || sysctl -q -p
fi
SCRIPT
        ;;
    calico-control) version=$nc epoch=1: depends="networking-calico, neutron-server" ;;
    calico-dhcp-agent)
        version=$nc epoch=1: depends="networking-calico (= 1:$version), dnsmasq-base"
        daemon dhcp-agent calico-dhcp-agent "$version"
        service calico-dhcp-agent start
        ;;
    python-etcd)
        version=$etcd+calico.1-1 depends=python3
        python_package etcd python-etcd "$etcd"
        ;;
    neutron-common)
        version=$neutron depends=python3
        mkdir -p "$tree/var/lib/neutron" "$tree/var/log/neutron"
        conffile neutron.conf /etc/neutron
        ;;
    neutron-dhcp-agent)
        version=$neutron depends="neutron-common (= $version), dnsmasq-base, iproute2"
        daemon dhcp-agent neutron-dhcp-agent "$version"
        service neutron-dhcp-agent restart
        ;;
    neutron-server)
        version=$neutron depends="neutron-common (= $version)"
        daemon neutron-server neutron-server "$version"
        service neutron-server restart
        ;;
    *) echo "no fixture package '$package'" >&2; exit 2 ;;
esac

case $fault in
    '') ;;
    postinst-fails) printf 'echo "%s: the lab broke this package" >&2\nexit 1\n' "$package" >> "$tree/DEBIAN/postinst" ;;
    preinst-fails) printf 'echo "%s: the lab broke this package" >&2\nexit 1\n' "$package" > "$tree/DEBIAN/preinst" ;;
    # Who ends the sleep ends the wait, and the package is a good one.
    postinst-sleeps-*) printf 'sleep %s || true\n' "${fault#postinst-sleeps-}" >> "$tree/DEBIAN/postinst" ;;
    *) echo "no such fault: $fault" >&2; exit 2 ;;
esac
for script in preinst postinst prerm postrm; do
    [ -f "$tree/DEBIAN/$script" ] || continue
    { printf '#!/bin/sh\nset -e\n'; cat "$tree/DEBIAN/$script"; } > "$tree/DEBIAN/$script.new"
    mv "$tree/DEBIAN/$script.new" "$tree/DEBIAN/$script"
    chmod 755 "$tree/DEBIAN/$script"
done
{
    printf 'Package: %s\nVersion: %s%s%s\nArchitecture: all\nMaintainer: wavegate lab <lab@localhost>\n' \
        "$package" "$epoch" "$version" "$suffix"
    [ -z "$depends" ] || printf 'Depends: %s\n' "$depends"
    printf 'Section: net\nPriority: optional\nDescription: lab fixture standing in for %s\n' "$package"
} > "$tree/DEBIAN/control"
mkdir -p "$out"
chmod 755 "$tree"
dpkg-deb --root-owner-group -Zgzip -z1 -b "$tree" "$out/${package}_$version${suffix}_all.deb" >/dev/null
