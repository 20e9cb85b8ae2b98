//! A machine in memory: files, packages, services and processes that behave like a node's, for tests of actions and
//! for fleets of real agents in one process. What `apt-get`, `systemctl` and others do to it lives in the files beside.

mod effects;
mod etcd;
mod faults;
mod nodes;
mod pace;
mod package_programs;
mod packages;
mod programs;
pub(crate) mod services;
mod upstart;

pub use effects::has_effect;
pub use etcd::{FakeCluster, FakeMember, Happening, Place, Seat, Stopped, WhenEmpty, join};
pub use faults::{AgentKilled, Fault, Faults, When};
pub use nodes::{ETCD_ARCHIVE_URL, PYTHON_ETCD_ARCHIVE_URL};
pub use pace::Pace;
pub use packages::{FakeInstalled, FakePackage, FakeUnit, PackageState};
pub use programs::{FakeDistribution, archive, sha256};

use super::etcd::{Endpoint, Etcd};
use super::{Command, Digested, Exit, Fetched, Host, HostError, HttpAnswer, OnLine, Process, SystemInfo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wavegate_common::id::Timestamp;
use wavegate_common::platform::{Platform, ServiceManager};

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeFile {
    /// Its content.
    pub content: Vec<u8>,
    /// When it was last written.
    pub modified_at: Timestamp,
    /// Grows with every replacement, so that a process can tell whether it runs the file on disk.
    pub inode: u64,
    /// What the file, run with `--version`, prints; `None` for a file that is no program.
    pub prints: Option<String>,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeService {
    /// Whether it runs.
    pub active: bool,
    /// Whether it comes up at boot; on upstart, by what it has read of the job's files.
    pub enabled: bool,
    /// Whether it is masked: neither boot nor a package nor a person can start it.
    pub masked: bool,
    /// The same until the next boot (`systemctl mask --runtime`).
    pub masked_for_now: bool,
    /// Whether starting it fails.
    pub broken: bool,
    /// Whether its process dies soon after every start, upon which systemd starts another (`Restart=`).
    pub flaps: bool,
    /// How often systemd has started it again since it was last started by somebody.
    pub restarts: u32,
    /// Its main process, while it is active.
    pub main_pid: Option<u32>,
    /// What it runs, the program first. For a script the interpreter comes first, as in `/proc/PID/cmdline`.
    pub argv: Vec<String>,
    /// Processes that it starts where their pid file names no live one, and that outlive it (`KillMode=process`).
    pub children: Vec<FakeChild>,
}

/// A process that a service keeps running.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeChild {
    /// Its arguments, the program first.
    pub argv: Vec<String>,
    /// The file that holds its process id.
    pub pid_file: PathBuf,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeProcess {
    /// Its id.
    pub pid: u32,
    /// Start time in clock ticks.
    pub start_ticks: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// Its arguments, the program first.
    pub cmdline: Vec<String>,
    /// The file it runs.
    pub exe: PathBuf,
    /// The inode of that file when it started.
    pub inode: u64,
    /// Whether it goes on when it is asked to end (SIGTERM).
    pub stubborn: bool,
    /// When it ends by itself, if it does.
    pub ends_at: Option<Timestamp>,
}

/// An answer of a server on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeHttp {
    /// The answer.
    pub answer: HttpAnswer,
    /// The service that must be active to give it; `None` if it always comes.
    pub service: Option<String>,
}

/// A transaction that was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeTransaction {
    /// How it ended; `None` if it was interrupted.
    pub exit: Option<Exit>,
}

/// A machine's state. Everything is public: tests set it up and look at it.
#[derive(Debug, Clone)]
pub struct FakeMachine {
    /// Its clock. Every program takes a millisecond, every installed package a second.
    pub now: Timestamp,
    /// What it runs on.
    pub platform: Platform,
    /// What the system says of itself.
    pub system: SystemInfo,
    /// Files, by absolute path. A directory is there when a file is below it.
    pub files: BTreeMap<PathBuf, FakeFile>,
    /// Installed packages.
    pub installed: BTreeMap<String, FakeInstalled>,
    /// Packages that the repositories offer, each in one version.
    pub available: BTreeMap<String, FakePackage>,
    /// Services, without `.service`.
    pub services: BTreeMap<String, FakeService>,
    /// Live processes by id.
    pub processes: BTreeMap<u32, FakeProcess>,
    /// Transactions that were started and not forgotten.
    pub transactions: BTreeMap<String, FakeTransaction>,
    /// What the agent noted, by name.
    pub notes: BTreeMap<String, String>,
    /// Locked files, with the process that holds each.
    pub locks: BTreeMap<PathBuf, u32>,
    /// What servers on the machine answer, by URL.
    pub http: BTreeMap<String, FakeHttp>,
    /// What can be fetched, by URL.
    pub fetchable: BTreeMap<String, Vec<u8>>,
    /// Python distributions that no package owns.
    pub distributions: Vec<FakeDistribution>,
    /// What goes wrong, and when.
    pub faults: Faults,
    /// Its part in a cluster of etcd, if it has one.
    pub etcd: Option<Seat>,
    /// Bytes that can still be written on its disk.
    pub free_bytes: u64,
    /// Every program that was run, in order, arguments joined by a space.
    pub history: Vec<String>,
    device: u64,
    next_pid: u32,
    next_inode: u64,
}

/// Where a process stands in the tree has no meaning here, so ids only grow.
const FIRST_PID: u32 = 1000;

impl FakeMachine {
    /// A machine with nothing on it but its operating system.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        let mut machine = Self {
            now: Timestamp(1_795_000_000_000),
            system: SystemInfo {
                hostname: "node".to_owned(),
                kernel: "4.4.0-210-generic".to_owned(),
                memory: 8 << 30,
            },
            files: BTreeMap::new(),
            installed: BTreeMap::new(),
            available: BTreeMap::new(),
            services: BTreeMap::new(),
            processes: BTreeMap::new(),
            transactions: BTreeMap::new(),
            notes: BTreeMap::new(),
            locks: BTreeMap::new(),
            http: BTreeMap::new(),
            fetchable: BTreeMap::new(),
            distributions: Vec::new(),
            faults: Faults::default(),
            etcd: None,
            free_bytes: 100 << 30,
            history: Vec::new(),
            device: 1,
            next_pid: FIRST_PID,
            next_inode: 1,
            platform,
        };
        nodes::lay_out(&mut machine);
        machine
    }

    /// Writes a file; its inode is a new one, as after a package's or an atomic replacement.
    pub fn put_file(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
        let inode = self.next_inode;
        self.next_inode += 1;
        let file = FakeFile { content: content.into(), modified_at: self.now, inode, prints: None };
        self.files.insert(path.into(), file);
    }

    /// Writes a program that prints `version_output` when run with `--version`.
    pub fn put_program(&mut self, path: impl Into<PathBuf>, version_output: &str) {
        let path = path.into();
        self.put_file(path.clone(), version_output);
        if let Some(file) = self.files.get_mut(&path) {
            file.prints = Some(version_output.to_owned());
        }
    }

    /// Starts a process from the file at its program's path as it now stands, and returns its id.
    pub fn spawn(&mut self, argv: &[String]) -> u32 {
        let pid = self.next_pid;
        self.next_pid += 1;
        let exe = self.which(argv.first().map_or("", String::as_str)).unwrap_or_default();
        let process = FakeProcess {
            pid,
            start_ticks: self.now.0 / 10,
            started_at: self.now,
            cmdline: argv.to_vec(),
            inode: self.files.get(&exe).map_or(0, |file| file.inode),
            exe,
            stubborn: false,
            ends_at: None,
        };
        self.processes.insert(pid, process);
        pid
    }

    /// The machine has no power any more, until it is booted.
    pub fn lose_power(&mut self) {
        etcd::powerless(self);
        self.processes.clear();
        for service in self.services.values_mut() {
            (service.active, service.main_pid, service.masked_for_now) = (false, None, false);
        }
    }

    /// The machine after a power cut and a boot: no process survives, and what is enabled runs.
    pub fn reboot(&mut self) {
        self.lose_power();
        // The kernel numbers its devices as it finds them.
        self.device += 1;
        self.now.0 += 30_000;
        self.put_file("/proc/sys/kernel/random/boot_id", format!("boot-{}\n", self.now.0));
        if self.platform.service_manager == ServiceManager::Upstart {
            upstart::read_files(self);
        }
        let enabled: Vec<String> = self.services.keys().cloned().collect();
        for unit in enabled {
            if self.services.get(&unit).is_some_and(|service| service.enabled && !service.masked) {
                services::start(self, &unit);
            }
        }
    }

    fn which(&self, program: &str) -> Option<PathBuf> {
        let runs = |path: &Path| self.files.get(path).is_some_and(|file| file.prints.is_some());
        if program.contains('/') {
            return Some(PathBuf::from(program)).filter(|path| runs(path));
        }
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .map(|directory| Path::new(directory).join(program))
            .find(|path| runs(path))
    }

    fn seen(&self, process: &FakeProcess) -> Process {
        let current = self.files.get(&process.exe).is_some_and(|file| file.inode == process.inode);
        Process {
            pid: process.pid,
            start_ticks: process.start_ticks,
            started_at: process.started_at,
            cmdline: process.cmdline.clone(),
            exe: if current { process.exe.clone() } else { packages::replaced_name(self, &process.exe) },
            exe_is_file_on_disk: current,
        }
    }

    fn run(&mut self, command: &Command) -> Result<Exit, HostError> {
        let line = command.argv.join(" ");
        self.history.push(line.clone());
        self.now.0 += 1;
        let program = command.argv.first().cloned().unwrap_or_default();
        match self.faults.take(&line, When::Instead) {
            Some(Fault::Exit(exit)) => return Ok(exit),
            Some(Fault::Hang) => {
                self.now.0 += u64::try_from(command.timeout.as_millis()).unwrap_or(u64::MAX);
                return Err(HostError::Timeout { program, seconds: command.timeout.as_secs() });
            }
            Some(Fault::AgentKilled | Fault::PowerCut | Fault::Interrupted) | None => {}
        }
        package_programs::run(self, command)
            .or_else(|| services::run(self, command))
            .or_else(|| etcd::run(self, command))
            .or_else(|| programs::run(self, command))
            .ok_or_else(|| HostError::Run { program, source: std::io::ErrorKind::NotFound.into() })
    }
}

/// A machine in memory as an agent sees it.
#[derive(Debug)]
pub struct FakeHost {
    machine: Mutex<FakeMachine>,
    pace: Pace,
}

impl FakeHost {
    /// A host whose machine is this one.
    #[must_use]
    pub fn new(machine: FakeMachine) -> Self {
        Self::at_pace(machine, Pace::default())
    }

    /// The same, with programs that take as long as `pace` says.
    #[must_use]
    pub const fn at_pace(machine: FakeMachine, pace: Pace) -> Self {
        Self { machine: Mutex::new(machine), pace }
    }

    /// The machine itself, for tests that set it up, look at it or break it. Agents wait meanwhile.
    pub fn machine(&self) -> MutexGuard<'_, FakeMachine> {
        // An agent that was killed at a fault leaves the machine as it stood, which is what a test wants to see.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn die_if(&self, line: &str, when: When) {
        let fault = self.machine().faults.take(line, when);
        if matches!(fault, Some(Fault::AgentKilled | Fault::PowerCut)) {
            // Unwinds without the panic hook: nothing is wrong with the code that was interrupted.
            std::panic::resume_unwind(Box::new(AgentKilled));
        }
    }
}

impl Host for FakeHost {
    fn now(&self) -> Timestamp {
        self.machine().now
    }

    fn system(&self) -> SystemInfo {
        self.machine().system.clone()
    }

    fn sleep(&self, time: Duration) {
        let mut machine = self.machine();
        machine.now.0 += u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = machine.now;
        machine.processes.retain(|_, process| process.ends_at.is_none_or(|end| end > now));
        services::tick(&mut machine);
    }

    fn run(&self, command: &Command) -> Result<Exit, HostError> {
        let line = command.argv.join(" ");
        self.pace.wait();
        self.die_if(&line, When::Before);
        let result = self.machine().run(command);
        self.die_if(&line, When::After);
        result
    }

    fn transact(&self, name: &str, command: &Command, on_line: OnLine<'_>) -> Result<Exit, HostError> {
        let line = command.argv.join(" ");
        let program = command.argv.first().cloned().unwrap_or_default();
        if !self.transaction_known(name) {
            self.pace.wait();
            self.die_if(&line, When::Before);
            faults::transact(&mut self.machine(), name, command)?;
            self.die_if(&line, When::Midway);
            self.die_if(&line, When::After);
        }
        let exit = self.machine().transactions.get(name).and_then(|transaction| transaction.exit.clone());
        let exit = exit.ok_or(HostError::Interrupted { program })?;
        exit.stdout.lines().chain(exit.stderr.lines()).for_each(on_line);
        Ok(exit)
    }

    fn transaction_known(&self, name: &str) -> bool {
        self.machine().transactions.contains_key(name)
    }

    fn forget_transaction(&self, name: &str) -> Result<(), HostError> {
        self.machine().transactions.remove(name);
        Ok(())
    }

    fn forget_other_transactions(&self, keep: &[String]) -> Result<(), HostError> {
        self.machine().transactions.retain(|name, _| keep.contains(name));
        Ok(())
    }

    fn note(&self, name: &str) -> Result<Option<String>, HostError> {
        Ok(self.machine().notes.get(name).cloned())
    }

    fn set_note(&self, name: &str, text: Option<&str>) -> Result<(), HostError> {
        let line = format!("note {name}");
        self.die_if(&line, When::Before);
        match text {
            Some(text) => self.machine().notes.insert(name.to_owned(), text.to_owned()),
            None => self.machine().notes.remove(name),
        };
        self.die_if(&line, When::After);
        Ok(())
    }

    fn lock_holder(&self, path: &Path) -> Option<u32> {
        let machine = self.machine();
        machine.locks.get(path).copied().filter(|pid| machine.processes.contains_key(pid))
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, HostError> {
        let machine = self.machine();
        let content = machine.files.get(path).map(|file| file.content.clone());
        Ok(content.or_else(|| services::cgroup(&machine, path)))
    }

    fn replace(
        &self,
        path: &Path,
        content: &[u8],
        backup: Option<&Path>,
        executable: bool,
    ) -> Result<(), HostError> {
        let line = format!("replace {}", path.display());
        self.die_if(&line, When::Before);
        {
            let mut machine = self.machine();
            machine.history.push(line.clone());
            if let (Some(backup), Some(old)) = (backup, machine.files.get(path).cloned()) {
                machine.files.insert(backup.to_owned(), old);
            }
            match std::str::from_utf8(content) {
                Ok(text) if executable => machine.put_program(path, text),
                _ => machine.put_file(path, content),
            }
        }
        self.die_if(&line, When::After);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), HostError> {
        let line = format!("rename {} {}", from.display(), to.display());
        self.die_if(&line, When::Before);
        {
            let mut machine = self.machine();
            machine.history.push(line.clone());
            let Some(file) = machine.files.remove(from) else {
                let source = std::io::ErrorKind::NotFound.into();
                return Err(HostError::File { verb: "rename", path: from.to_owned(), source });
            };
            machine.files.insert(to.to_owned(), file);
        }
        self.die_if(&line, When::After);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), HostError> {
        let line = format!("remove {}", path.display());
        self.die_if(&line, When::Before);
        {
            let mut machine = self.machine();
            machine.history.push(line.clone());
            machine.files.remove(path);
        }
        self.die_if(&line, When::After);
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        self.machine().files.keys().any(|file| file.starts_with(path))
    }

    fn modified_at(&self, path: &Path) -> Option<Timestamp> {
        self.machine().files.get(path).map(|file| file.modified_at)
    }

    fn changed_at(&self, path: &Path) -> Option<Timestamp> {
        self.modified_at(path)
    }

    fn digest(&self, path: &Path) -> Result<Option<Digested>, HostError> {
        let digested = |content: Vec<u8>| Digested { bytes: content.len() as u64, sha256: sha256(&content) };
        Ok(self.read(path)?.map(digested))
    }

    fn list(&self, directory: &Path) -> Vec<String> {
        let machine = self.machine();
        let mut names: Vec<String> = machine
            .files
            .range(directory.to_owned()..)
            .map_while(|(path, _)| path.strip_prefix(directory).ok())
            .filter_map(|below| Some(below.iter().next()?.to_str()?.to_owned()))
            .collect();
        names.dedup();
        names
    }

    fn which(&self, program: &str) -> Option<PathBuf> {
        self.machine().which(program)
    }

    fn processes(&self) -> Vec<Process> {
        let machine = self.machine();
        machine.processes.values().map(|process| machine.seen(process)).collect()
    }

    fn process(&self, pid: u32) -> Option<Process> {
        let machine = self.machine();
        machine.processes.get(&pid).map(|process| machine.seen(process))
    }

    fn end_process(&self, process: &Process, kill: bool) -> Result<bool, HostError> {
        let line = format!("kill {} {}", if kill { "-KILL" } else { "-TERM" }, process.pid);
        self.die_if(&line, When::Before);
        let found = {
            let mut machine = self.machine();
            machine.history.push(line.clone());
            let same = |seen: &&FakeProcess| seen.start_ticks == process.start_ticks;
            let found = machine.processes.get(&process.pid).filter(same);
            let (found, ends) = (found.is_some(), found.is_some_and(|seen| kill || !seen.stubborn));
            if ends {
                services::ended(&mut machine, process.pid);
            }
            found
        };
        self.die_if(&line, When::After);
        Ok(found)
    }

    fn http_get(&self, url: &str, timeout: Duration) -> Result<HttpAnswer, HostError> {
        let mut machine = self.machine();
        machine.now.0 += 1;
        let runs = |unit: &String| machine.services.get(unit).is_some_and(|service| service.active);
        let answer = machine.http.get(url).filter(|http| http.service.as_ref().is_none_or(runs));
        answer.map(|http| http.answer.clone()).ok_or_else(|| HostError::Fetch {
            url: url.to_owned(),
            reason: format!("nothing answered within {} s", timeout.as_secs()),
        })
    }

    fn etcd(&self, endpoint: &Endpoint) -> Box<dyn Etcd + '_> {
        Box::new(etcd::FakeServer { host: self, endpoint: endpoint.clone() })
    }

    fn identity(&self, path: &Path) -> Option<(u64, u64)> {
        let machine = self.machine();
        let inode = |path: &Path| machine.files.get(path).map(|file| file.inode);
        // A directory is there with what is below it, and is another one when all of that is.
        let below = || {
            let from = machine.files.range(path.to_owned()..);
            from.take_while(|(file, _)| file.starts_with(path)).map(|(_, file)| file.inode).min()
        };
        inode(path).or_else(below).map(|inode| (machine.device, inode))
    }

    fn free_bytes(&self, _: &Path) -> Option<u64> {
        Some(self.machine().free_bytes)
    }

    fn fetch(&self, url: &str, expected_sha256: &str, _timeout: Duration) -> Result<Fetched, HostError> {
        let mut machine = self.machine();
        let path = Path::new("/var/lib/wavegate/downloads").join(expected_sha256);
        if let Some(file) = machine.files.get(&path) {
            return Ok(Fetched { sha256: sha256(&file.content), path });
        }
        let no_answer = || HostError::Fetch { url: url.to_owned(), reason: "no such file there".to_owned() };
        let content = machine.fetchable.get(url).cloned().ok_or_else(no_answer)?;
        let digest = sha256(&content);
        // What has another digest is not kept under the expected one, just as on a real machine.
        let path = if digest == expected_sha256 { path } else { path.with_extension("other") };
        machine.put_file(path.clone(), content);
        Ok(Fetched { path, sha256: digest })
    }
}
