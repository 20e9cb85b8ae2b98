#!/bin/sh
# build.sh PACKAGE old|new OUT [FAULT]: builds one fixture .rpm into directory OUT.
# FAULT: pre-fails (calico-felix) or post-sleeps-N (calico-felix, openstack-nova-api). LAB_SUFFIX is appended to the package release.
# LIBRARIES is the file of what wavegate-lab-base provides of the C library, one a line.
# DNSMASQ_BINARY is the file the dnsmasq package carries, DNSMASQ_OLD the Debian version it has.
set -eu
packages=$(cd "$(dirname "$0")/.." && pwd)
package=$1 age=$2 out=$3 fault=${4:-}
. "$packages/../versions.env"
case $age in
    old) calico=$CALICO_OLD nc=$NC_OLD neutron=$NEUTRON_OLD nova=$NOVA_OLD release=1 ;;
    new) calico=$CALICO_NEW nc=$NC_NEW neutron=$NEUTRON_NEW nova=$NOVA_NEW release=2 ;;
    *) echo "neither old nor new: $age" >&2; exit 2 ;;
esac
case $fault in
    '') set -- ;;
    pre-fails) set -- --define 'lab_pre echo "the lab broke this package" >&2; exit 1' ;;
    post-sleeps-*) set -- --define "lab_post sleep ${fault#post-sleeps-} || :" ;;
    *) echo "no such fault: $fault" >&2; exit 2 ;;
esac
[ "$age" = old ] || set -- "$@" --define 'lab_new 1'
[ -z "${LAB_SUFFIX:-}" ] || set -- "$@" --define "lab_suffix $LAB_SUFFIX"
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
mkdir -p "$out"
dnsmasq=${DNSMASQ_OLD%%-*}
rpmbuild -bb --quiet --load "$packages/rpm/macros" --define "_topdir $top" --define "_rpmdir $out" \
    --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' --define "labdir $packages" \
    --define "calico $calico" --define "nc $nc" --define "neutron $neutron" --define "nova $nova" \
    --define "dnsmasq $dnsmasq" --define "dnsmasq_release $release" --define "dnsmasq_binary ${DNSMASQ_BINARY:-/nonexistent}" \
    --define "libraries ${LIBRARIES:-/nonexistent}" "$@" "$packages/rpm/$package.spec" > "$top/log" 2>&1 || { cat "$top/log" >&2; exit 1; }
