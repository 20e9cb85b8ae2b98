//! The coordinator as a process of its own: set up and its nodes enrolled before it starts, killed and started again.

use super::operator::Operator;
use super::process::{FIRST, Usage, open_files};
use super::wait;
use crate::deploy::binary;
use anyhow::{Context, Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wavegate_agent::credentials::Enrolled;
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::init::{InitOptions, init};
use wavegate_coordinator::pki::{Authority, NodeRequest};
use wavegate_coordinator::store::{NodeRecord, Store};
use wavegate_proto::tls::Credentials;

const PROGRAM: &str = "wavegate-coordinator";
/// The fleet's name.
const FLEET: &str = "swarm";
/// Agents say so often that they are there.
pub const HEARTBEAT_S: u32 = 10;
/// How long a start may take, whatever it has to read.
const START_WITHIN: Duration = Duration::from_secs(120);
/// So many lines of its log are shown when something goes wrong.
const LOG_LINES: usize = 20;
/// How often it is asked whether it answers, while it starts.
const LOOK: Duration = Duration::from_millis(5);
/// Where its port is looked for: below the ports that the kernel gives to those who dial (ip_local_port_range), so that
/// none of ten thousand agents has it when the coordinator comes back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A coordinator: its directory, and its process while it runs.
pub struct Coordinator {
    directory: tempfile::TempDir,
    program: PathBuf,
    listen: SocketAddr,
    process: Process,
}

/// The process while it runs, shared with whoever looks whether it still does.
type Process = Arc<Mutex<Option<Child>>>;

impl Coordinator {
    /// Sets one up, as `wavegate init` does; it does not run yet. Its program is in the directory `binaries`, or else where
    /// the running program is.
    ///
    /// # Errors
    /// When it can't be set up.
    pub fn set_up(binaries: Option<&Path>) -> Result<Self> {
        let directory = tempfile::tempdir().context("making the coordinator's directory")?;
        let listen = free_port()?;
        let program = match binaries {
            Some(binaries) => binaries.join(PROGRAM),
            None => binary(PROGRAM)?,
        };
        let this = Self { directory, program, listen, process: Process::default() };
        init(&InitOptions {
            config_path: this.config(),
            state_directory: Some(this.state()),
            fleet: FLEET.to_owned(),
            listen: Some(listen),
            operator: "op".to_owned(),
        })?;
        let drop_ins = this.config().with_extension("d");
        std::fs::create_dir(&drop_ins).context("making the directory of the drop-ins")?;
        let own = format!(
            "socket = \"{}\"\nheartbeat_interval_s = {HEARTBEAT_S}\nlog = \"warn\"\n",
            this.socket().display()
        );
        std::fs::write(drop_ins.join("swarm.toml"), own).context("writing the coordinator's drop-in")?;
        Ok(this)
    }

    /// Enrols nodes through the coordinator's own code, while it does not run: who they are, and how they prove it.
    ///
    /// # Errors
    /// When a certificate can't be made or the store not written.
    pub fn enrol(&self, nodes: &[NodeId]) -> Result<BTreeMap<NodeId, Enrolled>> {
        ensure!(self.pid().is_err(), "the store is the coordinator's while it runs");
        let authority = Authority::load(&self.state().join("pki"))?;
        let now = Clock::system().now();
        let mut enrolled = BTreeMap::new();
        let mut records = Vec::new();
        for node in nodes {
            let (record, credentials) = certified(&authority, node, now)?;
            records.push(record);
            let fleet = authority.fleet().clone();
            enrolled.insert(node.clone(), Enrolled { fleet, node: node.clone(), credentials });
        }
        let store = Store::open(&self.store_file(), authority.fleet())?;
        store.put_nodes(&records)?;
        store.shut();
        Ok(enrolled)
    }

    /// Starts the process; returns how long it took from there until it answered a call on its socket. It dies with the thread
    /// that calls this, so that a benchmark that is killed leaves nothing behind.
    ///
    /// # Errors
    /// When it ends, or does not answer in time.
    pub async fn start(&mut self) -> Result<Duration> {
        let log = File::options().create(true).append(true).open(self.log_file());
        let log = log.context("opening the coordinator's log")?;
        // Both programs become the next one: the process is the coordinator's. Where no priority may be had, `nice` goes on
        // without.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nice", "-n", &FIRST.to_string()]);
        command.arg(&self.program).arg("run").arg("--config").arg(self.config());
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let began = Instant::now();
        // Kept from the start: whoever gives up waiting drops it, and that ends it.
        *lock(&self.process) = Some(command.spawn().context("starting the coordinator")?);
        let answers = wait("the coordinator to answer", START_WITHIN, LOOK, async || {
            self.operator().await?.knock().await?;
            Ok(Some(began.elapsed()))
        });
        tokio::select! {
            answered = answers => answered,
            fallen = self.fallen(LOOK) => Err(fallen),
        }
    }

    /// Is done when the process has ended and nobody here has killed it: how, and what it had logged. It is looked at every so
    /// often.
    pub fn fallen(&self, every: Duration) -> impl Future<Output = anyhow::Error> + use<> {
        let (process, log) = (self.process.clone(), self.log_file());
        async move {
            loop {
                let looked = lock(&process).as_mut().map(Child::try_wait);
                match looked {
                    Some(Ok(Some(status))) => {
                        return anyhow!(
                            "the coordinator ended: {status}; its log ends with:\n{}",
                            log_end(&log)
                        );
                    }
                    Some(Err(error)) => return anyhow!(error).context("looking at the coordinator"),
                    Some(Ok(None)) | None => tokio::time::sleep(every).await,
                }
            }
        }
    }

    /// Ends the process at once, as a crash does.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = lock(&self.process).take().context("the coordinator does not run")?;
        process.kill().context("killing the coordinator")?;
        process.wait().context("waiting for the coordinator's end")?;
        Ok(())
    }

    /// Where it listens for agents.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The operators' socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("operator.sock")
    }

    /// The store's file.
    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.state().join("store.redb")
    }

    /// A directory that lives as long as this coordinator's state.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A connection of an operator's.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn operator(&self) -> Result<Operator> {
        Operator::connect(&self.socket()).await
    }

    /// What the process has used.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid()?)
    }

    /// The process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        lock(&self.process).as_ref().map(Child::id).context("the coordinator does not run")
    }

    /// Descriptors that it has open.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) fn open_files(&self) -> Result<usize> {
        open_files(self.pid()?)
    }

    /// The last lines of what it has logged.
    #[must_use]
    pub fn log_end(&self) -> String {
        log_end(&self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("coordinator.log")
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("coordinator.toml")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if self.pid().is_ok()
            && let Err(error) = self.kill()
        {
            eprintln!("{error:#}");
        }
    }
}

fn lock(process: &Process) -> MutexGuard<'_, Option<Child>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log_end(file: &Path) -> String {
    let log = std::fs::read_to_string(file).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
    last.into_iter().rev().flat_map(|line| [line, "\n"]).collect()
}

/// A node's certificate, signed for a key of its own as at an enrolment.
fn certified(authority: &Authority, node: &NodeId, now: Timestamp) -> Result<(NodeRecord, Credentials)> {
    let key = rcgen::KeyPair::generate().context("making a node's key")?;
    let request =
        rcgen::CertificateParams::default().serialize_request(&key).context("asking for a certificate")?;
    let request = NodeRequest::read(&request.pem().context("writing a request for a certificate")?)?;
    let public_key = request.public_key.clone();
    let certificate = authority.sign_node(request, node, now)?;
    let credentials = Credentials {
        certificate_pem: certificate.pem.clone(),
        key_pem: key.serialize_pem(),
        ca_pem: authority.pem().to_owned(),
    };
    let record = NodeRecord {
        node: node.clone(),
        enrolled_at: now,
        certificate_pem: certificate.pem,
        fingerprint: certificate.fingerprint,
        public_key,
        facts: None,
    };
    Ok((record, credentials))
}

fn free_port() -> Result<SocketAddr> {
    // Two that are started at once do not look in the same order.
    let offset = u16::try_from(std::process::id() % u32::from(PORTS.len() as u16)).unwrap_or_default();
    let ports = PORTS.map(|port| PORTS.start + (port - PORTS.start + offset) % (PORTS.end - PORTS.start));
    let mut addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    addresses
        .find(|address| TcpListener::bind(address).is_ok())
        .context("no port is free for the coordinator")
}
