//! A cluster: its members, each at a loopback address of its own, with a data directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use wavegate_agent::host::etcd::{Access, Endpoint};

use super::authority::Authority;
use super::process::Server;
use super::programs::Programs;
use crate::lab::{run, wait_until};

/// How long a server may take to serve on a machine that is busy.
const SOON: Duration = Duration::from_secs(60);

/// Loopback addresses that a cluster may use, of the 254 that a process has.
const ADDRESSES: u32 = 12;

static CLUSTERS: AtomicU32 = AtomicU32::new(0);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Layout {
    /// How many members.
    pub members: usize,
    /// The line that they run, e.g. `3.4`.
    pub line: &'static str,
    /// Flags that every member has besides.
    pub flags: Vec<String>,
    /// Whether clients are served by TLS, and only those with a certificate.
    pub tls: bool,
}

impl Layout {
    /// So many members of a line.
    #[must_use]
    pub fn new(members: usize, line: &'static str) -> Self {
        Self { members, line, flags: Vec::new(), tls: false }
    }

    /// The same, with a flag for every member.
    #[must_use]
    pub fn with(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// The same, by TLS.
    #[must_use]
    pub fn by_tls(mut self) -> Self {
        self.tls = true;
        self
    }
}

#[derive(Debug)]
struct Member {
    line: &'static str,
    server: Option<Server>,
}

/// A cluster of `m1`, `m2`, ...; ended when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // First, so that servers end before their files go.
    members: Vec<Member>,
    others: Vec<Server>,
    programs: Programs,
    layout: Layout,
    addresses: u32,
    access: Access,
    dir: TempDir,
}

impl Cluster {
    /// Starts one and waits until every member serves.
    ///
    /// # Errors
    ///
    /// When one does not, with the end of its log.
    pub fn start(programs: &Programs, layout: Layout) -> Result<Self> {
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let mut cluster = Self {
            members: (0..layout.members).map(|_| Member { line: layout.line, server: None }).collect(),
            others: Vec::new(),
            programs: programs.clone(),
            addresses: 1 + number * ADDRESSES % (254 / ADDRESSES * ADDRESSES),
            layout,
            access: Access::default(),
            dir: tempfile::tempdir()?,
        };
        if cluster.layout.tls {
            cluster.make_certificates()?;
        }
        for at in 0..cluster.members.len() {
            cluster.spawn(at)?;
        }
        for at in 0..cluster.members.len() {
            cluster.wait_serving(at)?;
        }
        Ok(cluster)
    }

    fn make_certificates(&mut self) -> Result<()> {
        let authority = self.authority("etcd")?;
        let addresses: Vec<String> = (0..self.members.len()).map(|at| self.address(at)).collect();
        authority.sign("server", &addresses)?;
        let certificate = authority.sign("client", &[])?;
        self.access =
            Access { ca: Some(authority.certificate()), certificate: Some(certificate), user: None };
        Ok(())
    }

    /// An authority whose files are in the cluster's directory. The cluster's own is called `etcd`.
    ///
    /// # Errors
    ///
    /// When its files can't be written.
    pub fn authority(&self, name: &str) -> Result<Authority> {
        Authority::new(self.dir.path(), name)
    }

    /// The cluster's directory: `m1` is the data of the first member, `m1.log` its log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The name of a member, counted from 0.
    #[must_use]
    pub fn name(&self, at: usize) -> String {
        format!("m{}", at + 1)
    }

    /// An address of its own for a member, or for whatever else belongs to the cluster.
    #[must_use]
    pub fn address(&self, at: usize) -> String {
        // Processes at the same time are told apart by their ids.
        let process = std::process::id();
        format!("127.{}.{}.{}", 1 + process / 250 % 250, 1 + process % 250, self.addresses as usize + at)
    }

    /// Where clients reach a member.
    #[must_use]
    pub fn url(&self, at: usize) -> String {
        format!("{}://{}:2379", if self.layout.tls { "https" } else { "http" }, self.address(at))
    }

    /// A member, as it is asked by somebody who may.
    #[must_use]
    pub fn endpoint(&self, at: usize) -> Endpoint {
        Endpoint { url: self.url(at), access: self.access.clone(), timeout: Duration::from_secs(5) }
    }

    /// Every member.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        (0..self.members.len()).map(|at| self.endpoint(at)).collect()
    }

    /// The data directory of a member.
    #[must_use]
    pub fn data(&self, at: usize) -> PathBuf {
        self.dir.path().join(self.name(at))
    }

    fn peer_url(&self, at: usize) -> String {
        format!("http://{}:2380", self.address(at))
    }

    fn initial(&self) -> String {
        let member = |at| format!("{}={}", self.name(at), self.peer_url(at));
        (0..self.members.len()).map(member).collect::<Vec<_>>().join(",")
    }

    fn spawn(&mut self, at: usize) -> Result<()> {
        let (line, name, url) = (self.members[at].line, self.name(at), self.url(at));
        let mut flags = vec![
            format!("--name={name}"),
            format!("--data-dir={}", self.data(at).display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={}", self.peer_url(at)),
            format!("--initial-advertise-peer-urls={}", self.peer_url(at)),
            format!("--initial-cluster={}", self.initial()),
        ];
        if self.layout.tls {
            let file = |name: &str| self.dir.path().join(format!("etcd-{name}")).display().to_string();
            flags.extend([
                format!("--cert-file={}", file("server.pem")),
                format!("--key-file={}", file("server.key")),
                format!("--trusted-ca-file={}", file("ca.pem")),
                "--client-cert-auth".to_owned(),
            ]);
        }
        // A later one wins.
        flags.extend(self.layout.flags.clone());
        let log = self.dir.path().join(format!("{name}.log"));
        let server = Server::start(&self.programs.program(line, "etcd")?, &flags, &log)?;
        self.members[at].server = Some(server);
        Ok(())
    }

    fn wait_serving(&mut self, at: usize) -> Result<()> {
        let name = self.name(at);
        let serving = wait_until(&format!("{name} to serve"), SOON, || {
            let server = self.members[at].server.as_mut().context("it was stopped")?;
            if !server.runs() {
                return Ok(Some(false));
            }
            // Asked by etcd's own program: what is tested is not what tests.
            self.ctl(at, &["get", "wavegate/ready"]).map(|_| Some(true))
        });
        let log = || std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
        let end = || {
            log().lines().rev().take(15).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        match serving {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{name} ended:\n{}", end()),
            Err(error) => bail!("{error:#}\n{}", end()),
        }
    }

    /// Runs the member's own `etcdctl` of version 3 against it.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn ctl(&self, at: usize, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.programs.program(self.members[at].line, "etcdctl")?);
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.url(at)));
        if let (Some(ca), Some((certificate, key))) = (&self.access.ca, &self.access.certificate) {
            command.arg("--cacert").arg(ca).arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        run(command.args(arguments))
    }

    /// The server of a member that runs.
    ///
    /// # Errors
    ///
    /// When it was stopped.
    pub fn server(&self, at: usize) -> Result<&Server> {
        self.members[at].server.as_ref().with_context(|| format!("{} was stopped", self.name(at)))
    }

    /// Stops a member as a service manager would.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn stop(&mut self, at: usize) -> Result<()> {
        self.members[at].server.take().map_or(Ok(()), Server::stop)
    }

    /// Starts a member again, with a line's programs, and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it does not, with the end of its log.
    pub fn start_member(&mut self, at: usize, line: &'static str) -> Result<()> {
        self.members[at].line = line;
        self.spawn(at)?;
        self.wait_serving(at)
    }

    /// Starts `etcd --proxy on` for the cluster, at an address of its own, and returns where it listens.
    ///
    /// # Errors
    ///
    /// When it can't be started.
    pub fn proxy(&mut self) -> Result<String> {
        let url = format!("http://{}:2379", self.address(self.members.len() + self.others.len()));
        let data = self.dir.path().join(format!("proxy{}", self.others.len()));
        let flags = [
            "--proxy=on".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={url}"),
            format!("--initial-cluster={}", self.initial()),
        ];
        self.another(&flags, &url)
    }

    /// Starts `etcd gateway` for the cluster, at an address of its own, and returns where it listens.
    ///
    /// # Errors
    ///
    /// When it can't be started.
    pub fn gateway(&mut self) -> Result<String> {
        let listen = format!("{}:2379", self.address(self.members.len() + self.others.len()));
        let targets: Vec<String> =
            (0..self.members.len()).map(|at| format!("{}:2379", self.address(at))).collect();
        let flags = [
            "gateway".to_owned(),
            "start".to_owned(),
            format!("--endpoints={}", targets.join(",")),
            format!("--listen-addr={listen}"),
            // A member that did not answer is left out for so long; a minute unless it is told.
            "--retry-delay=1s".to_owned(),
        ];
        self.another(&flags, &format!("http://{listen}"))
    }

    fn another(&mut self, flags: &[String], url: &str) -> Result<String> {
        let log = self.dir.path().join(format!("other{}.log", self.others.len()));
        let server = Server::start(&self.programs.program(self.layout.line, "etcd")?, flags, &log)?;
        self.others.push(server);
        let (_, address) = url.split_once("://").context("a URL")?;
        wait_until(&format!("{url} to listen"), SOON, || Ok(std::net::TcpStream::connect(address).ok()))?;
        Ok(url.to_owned())
    }
}
