//! The files that make a provisioned root this node of this fleet.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::spec::{Family, FleetSpec, Front, NodeSpec, Role};

/// The networks every compute serves: uuid, the interface dnsmasq listens on, and its address there.
const NETWORKS: [(&str, &str, &str); 2] = [
    ("3f2b8c1e-7d54-4a1b-9c0e-5a6b7c8d9e01", "ns-3f2b8c1e-7d", "10.65.0.1/24"),
    ("b81d40a7-02c6-4f3d-8e55-1f0a9b7c6d02", "ns-b81d40a7-02", "10.65.1.1/24"),
];

/// Where neutron-server's settings are, Calico's with them.
const NEUTRON_CONF: &str = "etc/neutron/neutron.conf";

/// How often Felix reports, and how long a report stays valid.
const FELIX_REPORTS: &str = "ReportingIntervalSecs = 3\nReportingTTLSecs = 10\n";

/// A member of the cluster as a job of upstart's.
const ETCD_JOB: &str = "description \"etcd\"\n\nstart on runlevel [2345]\nstop on runlevel [!2345]\n\nrespawn\n\
    setuid etcd\n\nscript\n    set -a\n    . /etc/default/etcd\n    exec /usr/bin/etcd\nend script\n";

/// Writes a node's files into its root.
pub fn node(root: &Path, fleet: &FleetSpec, node: &NodeSpec) -> Result<()> {
    let put = |path: &str, text: &str| write(root, path, text);
    put("etc/hostname", &format!("{}\n", node.name))?;
    put("etc/hosts", &hosts(fleet))?;
    if node.system.has_upstart() {
        put("etc/wavegate-lab/network", &network_script(fleet, node))?;
    } else {
        put("etc/systemd/network/10-host0.network", &network(fleet, node))?;
    }
    match node.role {
        Role::Etcd => {
            let path = match node.system.family() {
                Family::Apt => "etc/default/etcd",
                Family::Rpm => "etc/sysconfig/etcd",
            };
            put(path, &etcd(fleet, node))?;
            if node.system.has_upstart() {
                // The package's own has no member's settings: on these hosts the job file is the operator's.
                put("etc/init/etcd.conf", ETCD_JOB)?;
            }
            Ok(())
        }
        Role::Compute => {
            put("etc/calico/felix.cfg", &felix(fleet, node))?;
            match node.front {
                Some(Front::Proxy) => put("etc/default/etcd", &proxy(fleet))?,
                Some(Front::Gateway) => put("etc/systemd/system/etcd.service", &gateway(fleet))?,
                None => {}
            }
            put("etc/neutron/lab-networks", &networks())?;
            put("etc/wavegate-lab/vm", &vm(fleet, node))
        }
        Role::Control => neutron(root, fleet),
        Role::Deploy | Role::Bare => Ok(()),
    }
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

fn hosts(fleet: &FleetSpec) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for node in &fleet.nodes {
        let _ = writeln!(text, "{} {}", node.address, node.name);
    }
    text
}

/// Its address, and a route to every VM by way of the VM's host, as BIRD would make them.
fn network(fleet: &FleetSpec, node: &NodeSpec) -> String {
    let mut text = format!(
        "[Match]\nName=host0\n\n[Network]\nAddress={}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n\
         EmitLLDP=no\nIgnoreCarrierLoss=yes\n",
        node.address
    );
    for (vm, host) in vms_elsewhere(fleet, node) {
        let _ = write!(text, "\n[Route]\nDestination={vm}/32\nGateway={host}\n");
    }
    text
}

/// The same for a host without networkd.
fn network_script(fleet: &FleetSpec, node: &NodeSpec) -> String {
    let mut text = format!(
        "ip link set lo up\nip address replace {}/24 dev host0\nip link set host0 up\n",
        node.address
    );
    for (vm, host) in vms_elsewhere(fleet, node) {
        let _ = writeln!(text, "ip route replace {vm}/32 via {host}");
    }
    text
}

/// The VMs of other computes, each with the address of its host.
fn vms_elsewhere<'a>(fleet: &'a FleetSpec, node: &'a NodeSpec) -> impl Iterator<Item = (String, &'a str)> {
    let others = fleet.of_role(Role::Compute).filter(move |compute| *compute != node);
    others.map(|compute| (vm_address(fleet, compute), compute.address.as_str()))
}

fn etcd(fleet: &FleetSpec, node: &NodeSpec) -> String {
    let NodeSpec { name, address, .. } = node;
    let cluster: Vec<String> = fleet
        .of_role(Role::Etcd)
        .map(|member| format!("{}=http://{}:2380", member.name, member.address))
        .collect();
    format!(
        "ETCD_NAME=\"{name}\"\nETCD_DATA_DIR=\"/var/lib/etcd/default\"\nETCD_ENABLE_V2=\"true\"\n\
         ETCD_LISTEN_CLIENT_URLS=\"http://0.0.0.0:2379\"\nETCD_ADVERTISE_CLIENT_URLS=\"http://{address}:2379\"\n\
         ETCD_LISTEN_PEER_URLS=\"http://0.0.0.0:2380\"\nETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://{address}:2380\"\n\
         ETCD_INITIAL_CLUSTER=\"{}\"\nETCD_INITIAL_CLUSTER_STATE=\"new\"\nETCD_INITIAL_CLUSTER_TOKEN=\"lab\"\n",
        cluster.join(",")
    )
}

/// As Calico's installation pages have it.
fn proxy(fleet: &FleetSpec) -> String {
    let cluster: Vec<String> =
        fleet.of_role(Role::Etcd).map(|member| format!("{0}=http://{0}:2380", member.name)).collect();
    format!("ETCD_PROXY=on\nETCD_DATA_DIR=/var/lib/etcd\nETCD_INITIAL_CLUSTER={}\n", cluster.join(","))
}

/// A site's own unit, in place of the package's.
fn gateway(fleet: &FleetSpec) -> String {
    let members: Vec<String> =
        fleet.of_role(Role::Etcd).map(|member| format!("{}:2379", member.address)).collect();
    format!(
        "[Unit]\nDescription=etcd gateway\nAfter=network.target\n\n[Service]\nUser=etcd\n\
         ExecStart=/usr/bin/etcd gateway start --endpoints={} --listen-addr=127.0.0.1:2379\n\
         Restart=always\n\n[Install]\nWantedBy=multi-user.target\n",
        members.join(",")
    )
}

fn felix(fleet: &FleetSpec, node: &NodeSpec) -> String {
    if node.front.is_some() {
        return format!("[global]\nEtcdAddr = localhost:2379\n{FELIX_REPORTS}");
    }
    let members: Vec<&str> = fleet.of_role(Role::Etcd).map(|member| member.name.as_str()).collect();
    let mut text = "[global]\n".to_owned();
    // Of a fleet without etcd, Felix names none.
    if let Some(first) = members.first() {
        let all: Vec<String> = members.iter().map(|member| format!("http://{member}:2379")).collect();
        let _ = writeln!(text, "EtcdAddr = {first}:2379\nEtcdEndpoints = {}", all.join(","));
    }
    text.push_str(FELIX_REPORTS);
    text
}

/// Names the first member in the neutron.conf that the package brought.
fn neutron(root: &Path, fleet: &FleetSpec) -> Result<()> {
    let Some(first) = fleet.of_role(Role::Etcd).next() else { return Ok(()) };
    let path = root.join(NEUTRON_CONF);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let edited = text
        .replace("# etcd_host = localhost\n", &format!("etcd_host = {}\n", first.name))
        .replace("# etcd_port = 4001\n", "etcd_port = 2379\n");
    write(root, NEUTRON_CONF, &edited)
}

fn networks() -> String {
    NETWORKS.iter().fold(String::new(), |mut text, (uuid, interface, address)| {
        let _ = writeln!(text, "{uuid} {interface} {address}");
        text
    })
}

fn vm(fleet: &FleetSpec, node: &NodeSpec) -> String {
    format!("tap{:08x}-vm {}\n", vm_number(fleet, node), vm_address(fleet, node))
}

fn vm_number(fleet: &FleetSpec, node: &NodeSpec) -> usize {
    fleet.of_role(Role::Compute).position(|compute| compute == node).unwrap_or_default() + 1
}

/// The address of the VM on a compute.
pub fn vm_address(fleet: &FleetSpec, node: &NodeSpec) -> String {
    format!("10.66.0.{}", vm_number(fleet, node))
}
