//! Typical nodes as fake machines: what an etcd member, a compute node and a control node have installed and running
//! before the upgrade, and what their repositories offer. Names and ties follow the packages of Calico 1.3 and 1.4.

use super::{FakeChild, FakeHttp, FakeMachine, FakePackage, FakeService, FakeUnit, archive};
use crate::host::HttpAnswer;
use wavegate_common::platform::{OsFamily, PackageManager, Platform, ServiceManager};

/// Where the fake network has etcd's release archive.
pub const ETCD_ARCHIVE_URL: &str = "https://archives.example/etcd-v3.3.27-linux-amd64.tar.gz";
/// Where the fake network has python-etcd's source archive.
pub const PYTHON_ETCD_ARCHIVE_URL: &str = "https://archives.example/python-etcd-0.4.3.tar.gz";

const PYTHON: &str = "/usr/bin/python3";

/// os-release of Ubuntu 14.04.6.
const TRUSTY: &str = "NAME=\"Ubuntu\"\nVERSION=\"14.04.6 LTS, Trusty Tahr\"\nID=ubuntu\nID_LIKE=debian\n\
    PRETTY_NAME=\"Ubuntu 14.04.6 LTS\"\nVERSION_ID=\"14.04\"\nHOME_URL=\"http://www.ubuntu.com/\"\n\
    SUPPORT_URL=\"http://help.ubuntu.com/\"\nBUG_REPORT_URL=\"http://bugs.launchpad.net/ubuntu/\"\n";

/// Files and programs of every machine.
pub(super) fn lay_out(machine: &mut FakeMachine) {
    let platform = machine.platform.clone();
    let os_release = format!(
        "ID={}\nVERSION_ID=\"{}\"\nPRETTY_NAME=\"{}\"\n",
        platform.id, platform.version_id, platform.pretty_name
    );
    let trusty = platform.id == "ubuntu" && platform.version_id == "14.04";
    machine.put_file("/etc/os-release", if trusty { TRUSTY.to_owned() } else { os_release });
    machine.put_file("/proc/sys/kernel/random/boot_id", "boot-1\n");
    machine.put_file("/proc/self/mountinfo", "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n");
    if platform.service_manager == ServiceManager::Systemd {
        machine.put_file("/run/systemd/system/here", "");
    }
    for program in ["mkdir", "tar", "python3", "readlink", "chmod", "find", "rm", "du"] {
        machine.put_program(format!("/usr/bin/{program}"), &format!("{program} 1.0\n"));
    }
    let service_programs: &[&str] = match platform.service_manager {
        ServiceManager::Systemd => &["systemctl", "journalctl"],
        ServiceManager::Upstart => &["initctl", "start", "stop", "restart", "status", "service"],
    };
    for program in service_programs {
        machine.put_program(format!("/sbin/{program}"), &format!("{program} 1.0\n"));
    }
    let package_programs: &[&str] = match platform.package_manager {
        PackageManager::Apt => &["apt-get", "dpkg", "dpkg-query"],
        PackageManager::Yum => &["yum", "rpm"],
        PackageManager::Dnf => &["dnf", "rpm"],
    };
    for program in package_programs {
        machine.put_program(format!("/usr/bin/{program}"), &format!("{program} 1.0\n"));
    }
    machine.database_is_written();
}

impl FakeMachine {
    /// Ubuntu 16.04 with nothing of Calico or OpenStack on it.
    #[must_use]
    pub fn debian() -> Self {
        Self::new(Platform {
            family: OsFamily::Debian,
            id: "ubuntu".to_owned(),
            version_id: "16.04".to_owned(),
            pretty_name: "Ubuntu 16.04.7 LTS".to_owned(),
            package_manager: PackageManager::Apt,
            service_manager: ServiceManager::Systemd,
        })
    }

    /// Ubuntu 14.04, where upstart runs the services, with nothing of Calico or OpenStack on it.
    #[must_use]
    pub fn trusty() -> Self {
        Self::new(Platform {
            family: OsFamily::Debian,
            id: "ubuntu".to_owned(),
            version_id: "14.04".to_owned(),
            pretty_name: "Ubuntu 14.04.6 LTS".to_owned(),
            package_manager: PackageManager::Apt,
            service_manager: ServiceManager::Upstart,
        })
    }

    /// CentOS 7 with nothing of Calico or OpenStack on it.
    #[must_use]
    pub fn redhat() -> Self {
        Self::new(Platform {
            family: OsFamily::RedHat,
            id: "centos".to_owned(),
            version_id: "7".to_owned(),
            pretty_name: "CentOS Linux 7 (Core)".to_owned(),
            package_manager: PackageManager::Yum,
            service_manager: ServiceManager::Systemd,
        })
    }

    /// An etcd member whose etcd is a package.
    #[must_use]
    pub fn debian_etcd() -> Self {
        Self::debian_etcd_of("3.2.17", "3.3.27")
    }

    /// The same with this version, and a newer one in its repositories.
    #[must_use]
    pub fn debian_etcd_of(from: &str, to: &str) -> Self {
        Self::debian().with_packaged_etcd(from, to)
    }

    /// The same on Ubuntu 14.04.
    #[must_use]
    pub fn trusty_etcd() -> Self {
        Self::trusty().with_packaged_etcd("3.2.17", "3.3.27")
    }

    /// An etcd member of the Red Hat family whose etcd is a package.
    #[must_use]
    pub fn redhat_packaged_etcd() -> Self {
        Self::redhat().with_packaged_etcd("3.2.17", "3.3.27")
    }

    fn with_packaged_etcd(self, from: &str, to: &str) -> Self {
        let mut machine = self;
        let etcd = |version: &str| {
            let mut package = package(&format!("{version}+dfsg-1"), &[]);
            package.programs = vec![
                ("/usr/bin/etcd".into(), format!("etcd Version: {version}\nGit SHA: Not provided\n")),
                ("/usr/bin/etcdctl".into(), format!("etcdctl version: {version}\nAPI version: 2\n")),
            ];
            let service = FakeService { argv: words("/usr/bin/etcd"), ..FakeService::default() };
            package.units = vec![FakeUnit { name: "etcd".to_owned(), service, starts: true, restarts: true }];
            package
        };
        machine.put_file("/etc/default/etcd", "ETCD_DATA_DIR=/var/lib/etcd\n");
        machine.provision(&[("etcd", etcd(from))], &[("etcd", etcd(to))]);
        machine.take_a_seat();
        machine.serve_etcd();
        machine
    }

    /// An etcd member whose etcd came from a release archive.
    #[must_use]
    pub fn redhat_etcd() -> Self {
        let mut machine = Self::redhat();
        for program in ["etcd", "etcdctl"] {
            machine.put_program(
                format!("/usr/local/bin/{program}"),
                &format!("{program} Version: 3.2.17\nGit SHA: Not provided\n"),
            );
        }
        machine.put_file("/etc/sysconfig/etcd", "ETCD_DATA_DIR=/var/lib/etcd\n");
        let argv = words("/usr/local/bin/etcd");
        let service = FakeService { enabled: true, argv, ..FakeService::default() };
        super::services::bring(&mut machine, "etcd", service);
        super::services::start(&mut machine, "etcd");
        machine.take_a_seat();
        machine.serve_etcd();
        machine.offer_archives();
        machine
    }

    /// A compute node: Felix, Neutron's DHCP agent with two dnsmasqs, and libvirt's dnsmasq, which is nobody's business.
    #[must_use]
    pub fn debian_compute() -> Self {
        Self::debian().with_compute_packages()
    }

    /// The same on Ubuntu 14.04.
    #[must_use]
    pub fn trusty_compute() -> Self {
        Self::trusty().with_compute_packages()
    }

    fn with_compute_packages(self) -> Self {
        let mut machine = self;
        machine.put_file("/etc/neutron/neutron.conf", NEUTRON_CONF);
        machine.provision(&debian_packages(OLD, true, false), &debian_packages(NEW, true, true));
        machine.run_libvirt();
        machine
    }

    /// A compute node of the Red Hat family.
    #[must_use]
    pub fn redhat_compute() -> Self {
        let mut machine = Self::redhat();
        machine.put_file("/etc/neutron/neutron.conf", NEUTRON_CONF);
        machine.provision(&redhat_packages(OLD, true, false), &redhat_packages(NEW, true, true));
        machine.offer_archives();
        machine.run_libvirt();
        machine
    }

    /// A control node: neutron-server.
    #[must_use]
    pub fn debian_control() -> Self {
        Self::debian().with_control_packages()
    }

    /// The same on Ubuntu 14.04.
    #[must_use]
    pub fn trusty_control() -> Self {
        Self::trusty().with_control_packages()
    }

    fn with_control_packages(self) -> Self {
        let mut machine = self;
        machine.put_file("/etc/neutron/neutron.conf", NEUTRON_CONF);
        machine.provision(&debian_packages(OLD, false, false), &debian_packages(NEW, false, false));
        machine.serve_neutron();
        machine
    }

    /// A control node of the Red Hat family.
    #[must_use]
    pub fn redhat_control() -> Self {
        let mut machine = Self::redhat();
        machine.put_file("/etc/neutron/neutron.conf", NEUTRON_CONF);
        machine.provision(&redhat_packages(OLD, false, false), &redhat_packages(NEW, false, false));
        machine.offer_archives();
        machine.serve_neutron();
        machine
    }

    /// Installs packages in the order given, as they were long ago, and offers others.
    pub fn provision(&mut self, installed: &[(&str, FakePackage)], offered: &[(&str, FakePackage)]) {
        for (name, package) in installed {
            // What a package's script says while a test is set up is the test's affair: it looks at the state.
            let _ = self.install(name, package);
        }
        self.available =
            offered.iter().map(|(name, package)| ((*name).to_owned(), package.clone())).collect();
        self.now.0 += 86_400_000;
    }

    fn offer_archives(&mut self) {
        let etcd = |program: &str| format!("{program} Version: 3.3.27\nGit SHA: 973882f69\n");
        let release = archive(&[
            ("etcd-v3.3.27-linux-amd64/README.md", "etcd\n"),
            ("etcd-v3.3.27-linux-amd64/etcd", &etcd("etcd")),
            ("etcd-v3.3.27-linux-amd64/etcdctl", &etcd("etcdctl")),
        ]);
        let python_etcd = archive(&[("python-etcd-0.4.3/setup.py", "python-etcd 0.4.3")]);
        self.fetchable.insert(ETCD_ARCHIVE_URL.to_owned(), release);
        self.fetchable.insert(PYTHON_ETCD_ARCHIVE_URL.to_owned(), python_etcd);
    }

    fn serve_etcd(&mut self) {
        self.serve("http://127.0.0.1:2379/health", "{\"health\":\"true\"}", "etcd");
    }

    fn serve_neutron(&mut self) {
        self.serve("http://127.0.0.1:9696/", "{\"versions\": [{\"id\": \"v2.0\"}]}", "neutron-server");
    }

    /// Lets a server of the machine answer while its service is active.
    pub fn serve(&mut self, url: &str, body: &str, unit: &str) {
        let answer = HttpAnswer { status: 200, body: body.to_owned() };
        self.http.insert(url.to_owned(), FakeHttp { answer, service: Some(unit.to_owned()) });
    }

    fn run_libvirt(&mut self) {
        self.spawn(&words("/usr/sbin/dnsmasq --conf-file=/var/lib/libvirt/dnsmasq/default.conf"));
    }
}

const NEUTRON_CONF: &str = "[DEFAULT]\ncore_plugin = calico\n\n[oslo_concurrency]\n# lock_path = <None>\n";

/// Versions of one age of the packages.
#[derive(Clone, Copy)]
struct Age {
    calico: &'static str,
    networking: &'static str,
    neutron: &'static str,
    nova: &'static str,
    python_etcd: &'static str,
    dnsmasq: &'static str,
}

const OLD: Age = Age {
    calico: "1.3.1",
    networking: "1:1.1.2",
    neutron: "8.0.0",
    nova: "13.0.0",
    python_etcd: "0.4.1+calico.1-1",
    dnsmasq: "2.75-1",
};

const NEW: Age = Age {
    calico: "1.4.6",
    networking: "1:1.3.0",
    neutron: "8.4.0",
    nova: "13.1.4",
    python_etcd: "0.4.3+calico.1-1",
    dnsmasq: "2.75-2",
};

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn package(version: &str, depends: &[&str]) -> FakePackage {
    let depends = depends.iter().map(|need| (*need).to_owned()).collect();
    FakePackage { version: version.to_owned(), depends, ..FakePackage::default() }
}

/// A package with a program and the service that runs it.
fn daemon(mut package: FakePackage, program: &str, version: &str, unit: FakeUnit) -> FakePackage {
    package.programs.push((program.into(), format!("{version}\n")));
    package.units.push(unit);
    package
}

fn unit(name: &str, argv: &str, starts: bool) -> FakeUnit {
    let service = FakeService { argv: words(argv), ..FakeService::default() };
    FakeUnit { name: name.to_owned(), service, starts, restarts: true }
}

/// A DHCP agent: Python, with a dnsmasq for each of two networks.
fn dhcp_agent(name: &str, starts: bool) -> FakeUnit {
    let argv = format!("{PYTHON} /usr/bin/{name} --config-file /etc/neutron/neutron.conf");
    let mut agent = unit(name, &argv, starts);
    agent.service.children = ["2b8d2a0c-6c0f-4c1d-9d57-0c5a4a2a1f01", "7f1c6a52-51f4-4a39-8a53-3a7f3d8d9e02"]
        .iter()
        .map(|network| {
            let confs = format!("/var/lib/neutron/dhcp/{network}");
            let argv = format!(
                "/usr/sbin/dnsmasq --no-hosts --no-resolv --strict-order --pid-file={confs}/pid \
                 --dhcp-hostsfile={confs}/host --dhcp-leasefile={confs}/leases --interface=tap{}",
                &network[..8]
            );
            FakeChild { argv: words(&argv), pid_file: format!("{confs}/pid").into() }
        })
        .collect();
    agent
}

fn felix(age: Age, release: &str) -> FakePackage {
    let common = format!("calico-common={}{release}", age.calico);
    let package = package(&format!("{}{release}", age.calico), &[common.as_str()]);
    daemon(package, "/usr/bin/calico-felix", age.calico, unit("calico-felix", "/usr/bin/calico-felix", true))
}

fn debian_packages(age: Age, compute: bool, with_agent: bool) -> Vec<(&'static str, FakePackage)> {
    let neutron = format!("2:{}-0ubuntu1", age.neutron);
    let neutron_common = format!("neutron-common={neutron}");
    let networking = format!("networking-calico={}", age.networking);
    let python_etcd = format!("python-etcd={}", age.python_etcd);
    let mut packages = vec![
        ("calico-common", package(age.calico, &[])),
        ("python-etcd", package(age.python_etcd, &[])),
        ("networking-calico", package(age.networking, &[python_etcd.as_str()])),
        ("neutron-common", package(&neutron, &[])),
    ];
    if !compute {
        let argv = format!("{PYTHON} /usr/bin/neutron-server --config-file /etc/neutron/neutron.conf");
        let server = package(&neutron, &[neutron_common.as_str()]);
        let unit = unit("neutron-server", &argv, true);
        packages.push(("neutron-server", daemon(server, "/usr/bin/neutron-server", age.neutron, unit)));
        packages.push(("calico-control", package(age.networking, &[networking.as_str(), "neutron-server"])));
        return packages;
    }
    let mut dnsmasq = package(age.dnsmasq, &[]);
    dnsmasq.programs = vec![("/usr/sbin/dnsmasq".into(), format!("Dnsmasq version {}\n", age.dnsmasq))];
    let agent = package(&neutron, &[neutron_common.as_str(), "dnsmasq-base"]);
    let dnsmasq_base = format!("dnsmasq-base={}", age.dnsmasq);
    let needs = ["neutron-dhcp-agent", "calico-felix", networking.as_str(), dnsmasq_base.as_str()];
    let unit = dhcp_agent("neutron-dhcp-agent", true);
    packages.extend([
        ("dnsmasq-base", dnsmasq),
        ("neutron-dhcp-agent", daemon(agent, "/usr/bin/neutron-dhcp-agent", age.neutron, unit)),
        ("calico-felix", felix(age, "")),
        ("calico-compute", package(age.networking, &needs)),
    ]);
    if with_agent {
        packages.push(("calico-dhcp-agent", calico_dhcp_agent(age.networking, &networking, "dnsmasq-base")));
    }
    packages
}

fn calico_dhcp_agent(version: &str, networking: &str, dnsmasq: &str) -> FakePackage {
    let unit = dhcp_agent("calico-dhcp-agent", true);
    daemon(package(version, &[networking, dnsmasq]), "/usr/bin/calico-dhcp-agent", version, unit)
}

fn redhat_packages(age: Age, compute: bool, with_agent: bool) -> Vec<(&'static str, FakePackage)> {
    let version = |version: &str| format!("{version}-1.el7");
    let networking_version = version(age.networking);
    let networking = format!("networking-calico={networking_version}");
    let mut neutron = package(&format!("1:{}", version(age.neutron)), &["dnsmasq"]);
    let server = format!("{PYTHON} /usr/bin/neutron-server --config-file /etc/neutron/neutron.conf");
    neutron = daemon(
        neutron,
        "/usr/bin/neutron-dhcp-agent",
        age.neutron,
        dhcp_agent("neutron-dhcp-agent", compute),
    );
    neutron =
        daemon(neutron, "/usr/bin/neutron-server", age.neutron, unit("neutron-server", &server, !compute));
    let mut dnsmasq = package(&format!("{}.el7", age.dnsmasq), &[]);
    dnsmasq.programs = vec![("/usr/sbin/dnsmasq".into(), format!("Dnsmasq version {}\n", age.dnsmasq))];
    let mut packages = vec![
        ("calico-common", package(&version(age.calico), &[])),
        ("networking-calico", package(&networking_version, &[])),
        ("dnsmasq", dnsmasq),
        ("openstack-neutron", neutron),
    ];
    if !compute {
        packages.push(("calico-control", package(&networking_version, &[networking.as_str()])));
        return packages;
    }
    let api = unit("openstack-nova-metadata-api", &format!("{PYTHON} /usr/bin/nova-api-metadata"), true);
    let nova = unit("openstack-nova-compute", &format!("{PYTHON} /usr/bin/nova-compute"), true);
    let nova_package = || package(&format!("1:{}", version(age.nova)), &[]);
    packages.extend([
        ("calico-felix", felix(age, "-1.el7")),
        ("calico-compute", package(&networking_version, &["calico-felix", networking.as_str()])),
        ("openstack-nova-api", daemon(nova_package(), "/usr/bin/nova-api-metadata", age.nova, api)),
        ("openstack-nova-compute", daemon(nova_package(), "/usr/bin/nova-compute", age.nova, nova)),
    ]);
    if with_agent {
        let agent = calico_dhcp_agent(&networking_version, &networking, "dnsmasq");
        packages.push(("calico-dhcp-agent", agent));
    }
    packages
}
