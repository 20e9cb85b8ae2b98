#!/bin/sh
# layer.sh FAMILY ROLE PACKAGES OUT LOWER...: provisions what a node of ROLE starts with, as an overlay layer OUT over
# the LOWER directories (topmost first). PACKAGES is what packages.sh made. Runs in a container without a network.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
node=$here/../node
family=$1 role=$2 packages=$3 out=$4
shift 4
lower=$(IFS=:; echo "$*")
work=$out.work merged=$out.merged
mkdir -p "$out" "$work" "$merged"
mount -t overlay lab-layer -o "lowerdir=$lower,upperdir=$out,workdir=$work" "$merged"
trap 'umount "$merged"; rm -rf "$work" "$merged" "$out.script"' EXIT

[ ! -d "$node/$role" ] || cp -R "$node/$role/." "$merged/"
script=$out.script
echo 'set -eu; export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin' > "$script"

install_debs() {
    cat >> "$script" <<SCRIPT
echo 'deb [trusted=yes] file:/lab/old/apt ./' > /etc/apt/sources.list.d/lab.list
apt-get -q update
apt-get -q -y --no-install-recommends install $*
SCRIPT
}
install_rpms() {
    cat >> "$script" <<SCRIPT
dnf -q -y --disablerepo='*' --repofrompath=old,file:///lab/old/rpm --nogpgcheck install wavegate-lab-base $*
SCRIPT
}

pip="pip3 -q install --root-user-action=ignore --no-index --no-deps --no-build-isolation --ignore-installed"
case $family-$role in
    apt-bare | rpm-bare) [ "$family" = apt ] || install_rpms ;;
    apt-deploy) echo 'systemctl -q enable lab-repository.service' >> "$script" ;;
    apt-etcd) install_debs etcd-server etcd-client
        echo 'rm -rf /var/lib/etcd/default; systemctl -q enable etcd.service' >> "$script" ;;
    apt-compute) install_debs calico-compute calico-felix calico-common python-etcd networking-calico neutron-dhcp-agent ;;
    apt-control) install_debs calico-control calico-common python-etcd networking-calico neutron-server ;;
    rpm-etcd) install_rpms
        cat >> "$script" <<'SCRIPT'
tar -C /usr/local/bin --strip-components=1 --no-same-owner -xzf /lab/pip/etcd-v*.tar.gz
useradd -r -d /var/lib/etcd -s /usr/sbin/nologin etcd
install -d -o etcd -g etcd -m 700 /var/lib/etcd
systemctl -q enable etcd.service
SCRIPT
        mkdir -p "$merged/usr/lib/systemd/system"
        cp "$here/../packages/units/etcd-release.service" "$merged/usr/lib/systemd/system/etcd.service" ;;
    rpm-compute) install_rpms calico-common calico-compute calico-felix dnsmasq networking-calico openstack-neutron \
        openstack-nova-api openstack-nova-compute
        echo 'systemctl -q enable neutron-dhcp-agent openstack-nova-compute openstack-nova-metadata-api' >> "$script" ;;
    rpm-control) install_rpms calico-common calico-control networking-calico openstack-neutron
        echo 'systemctl -q enable neutron-server' >> "$script" ;;
    # networking-calico by pip, on top of a compute layer: 1.0.0 in /usr/local, owned by no package
    apt-pip) echo "$pip --break-system-packages /lab/pip/networking-calico-1.0.0.tar.gz" >> "$script" ;;
    rpm-pip) echo "$pip /lab/pip/networking-calico-1.0.0.tar.gz" >> "$script" ;;
    # etcd as a proxy or gateway, on top of a compute layer; which of them, the fleet's files say
    apt-front) install_debs etcd-server etcd-client
        echo 'rm -rf /var/lib/etcd/default; systemctl -q enable etcd.service' >> "$script" ;;
    *) echo "no layer $family-$role" >&2; exit 2 ;;
esac
case $family-$role in
    *-compute) echo 'systemctl -q enable lab-libvirt-dnsmasq.service lab-vm.service' >> "$script" ;;
esac
case $family-$role in
    rpm-compute | rpm-control) cat >> "$script" <<'SCRIPT'
mkdir /tmp/python-etcd
tar -C /tmp/python-etcd --strip-components=1 --no-same-owner -xzf /lab/pip/python-etcd-*.tar.gz
(cd /tmp/python-etcd && python setup.py -q install 2>&1)
rm -rf /tmp/python-etcd
SCRIPT
    ;;
esac
case $family in
    apt) cat >> "$script" <<'SCRIPT'
echo 'deb [trusted=yes] http://deploy-1/apt ./' > /etc/apt/sources.list.d/lab.list
rm -rf /var/lib/apt/lists/*
SCRIPT
    ;;
    rpm) cat >> "$script" <<'SCRIPT'
cat > /etc/yum.repos.d/lab.repo <<'REPO'
[lab]
name=The lab's packages
baseurl=http://deploy-1/rpm
enabled=1
gpgcheck=0
metadata_expire=0
REPO
rm -rf /var/cache/dnf
SCRIPT
    ;;
esac
systemd-nspawn -q --register=no --keep-unit --private-network --resolv-conf=off --timezone=off -D "$merged" \
    --bind-ro="$packages:/lab" --bind-ro="$script:/lab.sh" /bin/sh /lab.sh </dev/null >"$out.log" 2>&1 || {
    cat "$out.log" >&2
    exit 1
}
rm -f "$out.log" "$out/lab.sh"
rmdir "$out/lab" 2>/dev/null || true
: > "$merged/etc/machine-id"
