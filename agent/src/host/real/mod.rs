//! The machine itself, behind the trait `Host`: the only place that starts programs, sends signals and writes files
//! outside the agent's own state.

mod etcd;
mod files;
mod http;
mod notes;
mod output;
mod proc;
mod run;
mod transaction;

pub use transaction::run_transaction;

use super::etcd::{Endpoint, Etcd};
use super::{Command, Digested, Exit, Fetched, Host, HostError, HttpAnswer, OnLine, Process, SystemInfo};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wavegate_common::id::Timestamp;

/// Where programs are looked for if the agent was started without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The machine that the agent runs on.
#[derive(Debug, Clone)]
pub struct RealHost {
    state: PathBuf,
    runner: PathBuf,
}

impl RealHost {
    /// The machine, with what the agent keeps about it (transactions, downloads) below `state`.
    #[must_use]
    pub fn new(state: PathBuf) -> Self {
        // Not `current_exe`: after the agent's own package was upgraded, that names a file that is gone, while this
        // link still leads to the program that runs.
        Self::with_runner(state, PathBuf::from("/proc/self/exe"))
    }

    /// The same, with another program that runs transactions when called as `PROGRAM transaction DIRECTORY`.
    #[must_use]
    pub const fn with_runner(state: PathBuf, runner: PathBuf) -> Self {
        Self { state, runner }
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The agent's `PATH`, or a sane one.
fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into())
}

fn file_error<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> HostError + use<'a> {
    move |source| HostError::File { verb, path: path.to_owned(), source }
}

impl Host for RealHost {
    fn now(&self) -> Timestamp {
        timestamp(SystemTime::now())
    }

    fn system(&self) -> SystemInfo {
        let memory = sysinfo::MemoryRefreshKind::nothing().with_ram();
        let system = sysinfo::System::new_with_specifics(sysinfo::RefreshKind::nothing().with_memory(memory));
        SystemInfo {
            hostname: sysinfo::System::host_name().unwrap_or_default(),
            kernel: sysinfo::System::kernel_version().unwrap_or_default(),
            memory: system.map_or(0, |system| system.total_memory()),
        }
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn run(&self, command: &Command) -> Result<Exit, HostError> {
        let _run = tracing::debug_span!("run", program = command.argv.join(" ")).entered();
        run::run(command)
    }

    fn transact(&self, name: &str, command: &Command, on_line: OnLine<'_>) -> Result<Exit, HostError> {
        let _transact = tracing::debug_span!("transact", program = command.argv.join(" ")).entered();
        transaction::transact(&self.runner, &transaction::directory(&self.state, name), command, on_line)
    }

    fn transaction_known(&self, name: &str) -> bool {
        transaction::directory(&self.state, name).exists()
    }

    fn forget_transaction(&self, name: &str) -> Result<(), HostError> {
        transaction::forget(&transaction::directory(&self.state, name))
    }

    fn forget_other_transactions(&self, keep: &[String]) -> Result<(), HostError> {
        transaction::forget_others(&self.state, keep)
    }

    fn note(&self, name: &str) -> Result<Option<String>, HostError> {
        notes::note(&self.state, name)
    }

    fn set_note(&self, name: &str, text: Option<&str>) -> Result<(), HostError> {
        notes::set(&self.state, name, text)
    }

    fn lock_holder(&self, path: &Path) -> Option<u32> {
        proc::lock_holder(path)
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, HostError> {
        files::read(path)
    }

    fn digest(&self, path: &Path) -> Result<Option<Digested>, HostError> {
        files::digest(path)
    }

    fn replace(
        &self,
        path: &Path,
        content: &[u8],
        backup: Option<&Path>,
        executable: bool,
    ) -> Result<(), HostError> {
        files::replace(path, content, backup, executable)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), HostError> {
        files::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), HostError> {
        files::remove(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn modified_at(&self, path: &Path) -> Option<Timestamp> {
        std::fs::metadata(path).ok()?.modified().ok().map(timestamp)
    }

    fn changed_at(&self, path: &Path) -> Option<Timestamp> {
        let file = std::fs::symlink_metadata(path).ok()?;
        let millis = file.ctime().saturating_mul(1000).saturating_add(file.ctime_nsec() / 1_000_000);
        u64::try_from(millis).ok().map(Timestamp)
    }

    fn list(&self, directory: &Path) -> Vec<String> {
        files::list(directory)
    }

    fn which(&self, program: &str) -> Option<PathBuf> {
        files::which(program, &search_path())
    }

    fn processes(&self) -> Vec<Process> {
        let pids = files::list(Path::new("/proc")).into_iter().filter_map(|name| name.parse().ok());
        pids.filter(|pid| proc::is_of_this_system(*pid)).filter_map(|pid| self.process(pid)).collect()
    }

    fn process(&self, pid: u32) -> Option<Process> {
        proc::process(pid, self.now())
    }

    fn end_process(&self, process: &Process, kill: bool) -> Result<bool, HostError> {
        proc::end(process, kill)
    }

    fn http_get(&self, url: &str, timeout: Duration) -> Result<HttpAnswer, HostError> {
        http::get(url, timeout)
    }

    fn etcd(&self, endpoint: &Endpoint) -> Box<dyn Etcd + '_> {
        Box::new(etcd::Server(endpoint.clone()))
    }

    fn identity(&self, path: &Path) -> Option<(u64, u64)> {
        std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }

    fn free_bytes(&self, directory: &Path) -> Option<u64> {
        let there = directory.ancestors().find(|path| path.exists())?;
        let system = rustix::fs::statvfs(there).ok()?;
        Some(system.f_bfree.saturating_mul(system.f_frsize))
    }

    fn fetch(&self, url: &str, expected_sha256: &str, timeout: Duration) -> Result<Fetched, HostError> {
        http::fetch(&self.state.join("downloads"), url, expected_sha256, timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_it_is() {
        let host = RealHost::new(PathBuf::from("/nowhere"));
        let system = host.system();
        assert!(
            !system.hostname.is_empty() && !system.kernel.is_empty() && system.memory > 1 << 20,
            "{system:?}"
        );
        assert_eq!(host.which("sh").map(|path| path.exists()), Some(true));
        assert_eq!(host.which("no-such-program-anywhere"), None);
    }
}
