//! The commands of Calico's page "Upgrade Procedure (OpenStack)" and what `docs/procedure.md` corrects of them, as a careful
//! operator would type them on a host: nothing is asked, the edited configuration stays, archives are compared with their
//! digest, DHCP agents and their dnsmasqs are changed over in the order that leaves none of the old one's behind, etcd's
//! data are copied first. At the end it makes the looks that wavegate makes too: the cluster speaks the new version, dnsmasqs are
//! there, the API answers, every service has stayed up for a while.

use crate::lab::{Family, Manifest, Role};

const BEGIN: &str = "#!/bin/sh\nset -eu\nexport LC_ALL=C DEBIAN_FRONTEND=noninteractive\n";

/// Where a script leaves how many hundredths of a second it only watched services.
pub const WATCHED: &str = "/root/by-hand/watched";

/// `stays UNIT...`: each has been up for three seconds, which is how long wavegate watches one that was just started, as one
/// process.
const STAYS: &str = r#"
stays() {
    watched=0
    for unit; do
        pid=$(systemctl show --property=MainPID --value "$unit")
        left=$((300 - $(cut -d ' ' -f 1 /proc/uptime | tr -d .) + $(cut -d ' ' -f 22 "/proc/$pid/stat")))
        if [ "$left" -gt 0 ]; then
            watched=$((watched + left))
            sleep "$((left / 100)).$(printf %02d $((left % 100)))"
        fi
        systemctl is-active "$unit"
        [ "$(systemctl show --property=MainPID --value "$unit")" = "$pid" ]
    done
    echo "$watched" > /root/by-hand/watched
}
"#;

/// `apt-get install`, keeping what operators edited.
const APT: &str = "apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install";

const COMPUTE_DEBS: &str = "calico-compute calico-felix calico-common python-etcd networking-calico";
const CONTROL_DEBS: &str = "calico-control calico-common python-etcd networking-calico";
const ETCD_DEBS: &str = "etcd-server etcd-client";
const COMPUTE_RPMS: &str = "calico-common calico-compute calico-felix dnsmasq networking-calico openstack-neutron \
                            openstack-nova-api openstack-nova-compute";
const CONTROL_RPMS: &str = "calico-common calico-control networking-calico openstack-neutron";

/// Copies of etcd's data by both APIs, of those that hold keys.
const BACK_UP: &str = r#"copy=/var/lib/etcd-by-hand/$(date +%s)
mkdir -p "$copy"
if [ -n "$(ETCDCTL_API=3 etcdctl get '' --prefix --keys-only --limit 1)" ]; then
    ETCDCTL_API=3 etcdctl snapshot save "$copy/snapshot.db"
fi
ETCDCTL_API=2 etcdctl backup --data-dir /var/lib/etcd/default --backup-dir "$copy/data"
curl -sSf 'http://127.0.0.1:2379/v2/keys/?recursive=true&quorum=true' -o "$copy/keys.json"
"#;

/// The next member is not touched before every one is well.
const HEALTHY: &str = "until ETCDCTL_API=3 etcdctl endpoint health --cluster; do sleep 0.2; done\n";

/// After the last member the cluster must speak the new version, which its leader sees to every few seconds.
const FOLLOWED: &str = r#"until curl -sS http://127.0.0.1:2379/version | grep -Eq '"etcdserver":"([0-9]+\.[0-9]+)\..*"etcdcluster":"\1\.'; do
    sleep 0.2
done
"#;

/// Every network's dnsmasq of the new agent is there.
const DNSMASQS: &str = r#"for network in /var/lib/neutron/dhcp/*/; do
    until [ -e "${network}pid" ] && [ "/proc/$(cat "${network}pid")/exe" -ef /usr/sbin/dnsmasq ]; do sleep 0.2; done
done
! systemctl is-active neutron-dhcp-agent
stays calico-felix calico-dhcp-agent
"#;

const NEUTRON_ANSWERS: &str =
    "until curl -sS -o /dev/null http://127.0.0.1:9696/; do sleep 0.2; done\nstays neutron-server\n";

/// Reads package lists and lets the package manager answer what it would do.
pub fn warm(role: Role, family: Family) -> String {
    let packages = match (role, family) {
        (Role::Compute, Family::Apt) => COMPUTE_DEBS,
        (Role::Control, Family::Apt) => CONTROL_DEBS,
        (Role::Compute, Family::Rpm) => COMPUTE_RPMS,
        (Role::Control, Family::Rpm) => CONTROL_RPMS,
        (Role::Etcd | Role::Deploy | Role::Bare, _) => ETCD_DEBS,
    };
    let commands = match family {
        Family::Apt => format!("apt-get -q update\napt-get -s -q -y install {packages}\n"),
        Family::Rpm => format!("dnf -q makecache\ndnf --assumeno update {packages} || true\n"),
    };
    format!("{BEGIN}{commands}")
}

/// The whole stage of a role on a node of a family, the `last` one of its stage. In the lab all members of etcd and no proxy are
/// Debian's.
pub fn upgrade(role: Role, family: Family, last: bool, manifest: &Manifest) -> String {
    let python_etcd = python_etcd(manifest);
    let commands = match (role, family) {
        (Role::Compute, Family::Apt) => format!(
            "{PIP}apt-get -q update\n{APT} {COMPUTE_DEBS}\nservice calico-felix restart\n{SWITCH_OVER}\
             {APT} calico-dhcp-agent\n{DNSMASQS}",
            PIP = pip("--break-system-packages"),
        ),
        (Role::Compute, Family::Rpm) => format!(
            "{PIP}{python_etcd}dnf -q -y update {COMPUTE_RPMS}\n{LOCK_PATH}systemctl restart calico-felix\n{SWITCH_OVER}\
             dnf -q -y install calico-dhcp-agent\nsystemctl enable --now calico-dhcp-agent\n{DNSMASQS}",
            PIP = pip(""),
        ),
        (Role::Control, Family::Apt) => {
            format!(
                "apt-get -q update\n{APT} {CONTROL_DEBS}\nservice neutron-server restart\n{NEUTRON_ANSWERS}"
            )
        }
        (Role::Control, Family::Rpm) => {
            format!(
                "{python_etcd}dnf -q -y update {CONTROL_RPMS}\nsystemctl restart neutron-server\n{NEUTRON_ANSWERS}"
            )
        }
        (Role::Etcd | Role::Deploy | Role::Bare, _) => {
            let followed = if last { FOLLOWED } else { "" };
            format!("{BACK_UP}apt-get -q update\n{APT} {ETCD_DEBS}\n{HEALTHY}{followed}")
        }
    };
    format!("{BEGIN}{STAYS}{commands}")
}

/// From Neutron's DHCP agent to Calico's, once. Neutron's dnsmasqs are ended by their own pid files: by their name libvirt's would
/// end too.
const SWITCH_OVER: &str = "if systemctl -q is-active neutron-dhcp-agent; then\n    systemctl stop neutron-dhcp-agent\n    \
                           systemctl disable neutron-dhcp-agent\n    systemctl mask neutron-dhcp-agent\n    \
                           cat /var/lib/neutron/dhcp/*/pid | xargs -r kill\nfi\n";

const LOCK_PATH: &str = "sed -i '/^\\[oslo_concurrency\\]/,/^\\[/s|^#* *lock_path *=.*|lock_path = $state_path/lock|' \
                         /etc/neutron/neutron.conf\n";

/// Only if one is there that pip installed.
fn pip(option: &str) -> String {
    format!(
        "if ls -d /usr/local/lib/python3*/*-packages/networking_calico* >/dev/null 2>&1; then\n    \
         pip3 uninstall -q -y {option} networking-calico\nfi\n"
    )
}

fn python_etcd(manifest: &Manifest) -> String {
    let archive = &manifest.python_etcd_archive;
    format!(
        "cd \"$(mktemp -d)\"\ncurl -sSfL {url} -o python-etcd.tar.gz\necho '{sha256}  python-etcd.tar.gz' | sha256sum -c\n\
         tar xf python-etcd.tar.gz --strip-components=1 --no-same-owner\npython setup.py -q install\ncd /\n",
        url = archive.url,
        sha256 = archive.sha256,
    )
}
