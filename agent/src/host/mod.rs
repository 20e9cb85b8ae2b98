//! The one door to the machine. Actions see only this trait; `real` is the machine, `fake` is one in memory.
//!
//! Nothing else in the agent runs a program, signals a process or writes a file outside the agent's own state.

pub mod etcd;
pub mod exe;
pub mod fake;
pub mod real;
pub mod seen;

use etcd::{Endpoint, Etcd};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wavegate_common::id::Timestamp;

/// A program to run: never through a shell; stdin is closed; the environment is the agent's plus `LC_ALL=C` and `env`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment variables set for it.
    pub env: BTreeMap<String, String>,
    /// After so long it is ended and the call fails.
    pub timeout: Duration,
}

impl Command {
    /// A program with arguments, one minute's time and no extra environment.
    #[must_use]
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            timeout: Duration::from_secs(60),
        }
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With another time limit.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// How a program ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; 128 + n if signal n ended it.
    pub code: i32,
    /// What it printed on stdout, at most [`OUTPUT_LIMIT`] bytes, the middle cut out beyond that.
    pub stdout: String,
    /// The same for stderr.
    pub stderr: String,
}

/// Bytes of output kept of one program and stream.
pub const OUTPUT_LIMIT: usize = 1 << 20;

/// A process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Start time in clock ticks since boot: with the pid it names the process for good, also after the pid is reused.
    pub start_ticks: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// Its arguments, the program first.
    pub cmdline: Vec<String>,
    /// What `/proc/PID/exe` points at, as the kernel tells it (` (deleted)` and rpm's `;xxxxxxxx` included).
    pub exe: PathBuf,
    /// Whether the file it runs is the file that now stands at its path (device and inode).
    pub exe_is_file_on_disk: bool,
}

impl Process {
    /// Whether both are the same: an id alone may be used again, with its start it names a process for good.
    #[must_use]
    pub const fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && self.start_ticks == other.start_ticks
    }
}

/// Why the machine did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file operation failed.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried, e.g. `read`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program did not end in time and was ended.
    #[error("{program} did not end within {seconds} s and was ended")]
    Timeout {
        /// The program.
        program: String,
        /// The limit.
        seconds: u64,
    },
    /// A transaction's runner ended without leaving its exit code: killed, or the machine lost power.
    #[error("{program} was interrupted: it ended without an exit code")]
    Interrupted {
        /// The program.
        program: String,
    },
    /// A download failed.
    #[error("cannot fetch {url}: {reason}")]
    Fetch {
        /// What was fetched.
        url: String,
        /// Why it failed.
        reason: String,
    },
    /// A signal could not be sent.
    #[error("cannot signal process {pid}")]
    Signal {
        /// The process.
        pid: u32,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Body, at most 64 KiB of it.
    pub body: String,
}

/// Receives output while a program runs, in lines without their line end.
pub type OnLine<'a> = &'a mut dyn FnMut(&str);

/// What the system says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemInfo {
    /// The machine's host name.
    pub hostname: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Memory of the machine in bytes.
    pub memory: u64,
}

/// The machine. Calls block; the runner of a task has a thread of its own.
pub trait Host: Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;

    /// Host name, kernel and memory.
    fn system(&self) -> SystemInfo;

    /// Waits. A fake advances its clock instead.
    fn sleep(&self, time: Duration);

    /// Runs a short program that may be ended with the agent (queries, service manager calls).
    ///
    /// # Errors
    /// [`HostError::Run`], [`HostError::Timeout`]. A non-zero exit is not an error here.
    fn run(&self, command: &Command) -> Result<Exit, HostError>;

    /// Runs a program that must outlive the agent (package transactions), or finds the one that an earlier agent
    /// started under the same name, still running or already ended, and waits for its end. Its output, from its
    /// beginning, goes to `on_line` (stdout and stderr as they come).
    ///
    /// # Errors
    /// [`HostError::Run`], [`HostError::Timeout`], [`HostError::Interrupted`]. A non-zero exit is not an error here.
    fn transact(&self, name: &str, command: &Command, on_line: OnLine<'_>) -> Result<Exit, HostError>;

    /// Whether a transaction of this name was started and its result not yet forgotten.
    fn transaction_known(&self, name: &str) -> bool;

    /// Forgets the result of an ended transaction, so that its name starts a new one.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn forget_transaction(&self, name: &str) -> Result<(), HostError>;

    /// Forgets every transaction that has ended or was interrupted but those of these names: nobody asks any more for what
    /// a step that was given up left.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn forget_other_transactions(&self, keep: &[String]) -> Result<(), HostError>;

    /// What was noted under this name, by this agent or one before it; `None` if nothing is.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn note(&self, name: &str) -> Result<Option<String>, HostError>;

    /// Notes something below the agent's own state directory, or with `None` takes the note away. When this returns it holds,
    /// whatever happens to the agent or the machine.
    ///
    /// # Errors
    /// [`HostError::File`]; the note is then as it was.
    fn set_note(&self, name: &str, text: Option<&str>) -> Result<(), HostError>;

    /// The process that holds a POSIX lock (fcntl(2)) on a file; `None` if none does, or the file is not there. The file is
    /// neither made nor locked.
    fn lock_holder(&self, path: &Path) -> Option<u32>;

    /// A file's content; `None` if there is none.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, HostError>;

    /// How large a file is and its SHA-256, of files of any size; `None` if there is none.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn digest(&self, path: &Path) -> Result<Option<Digested>, HostError>;

    /// Replaces a file's content atomically, keeping owner and mode; the content before goes to `backup` if one is
    /// named. A new file belongs to root with mode 0644, or 0755 if `executable`.
    ///
    /// # Errors
    /// [`HostError::File`]; the file is then as it was.
    fn replace(
        &self,
        path: &Path,
        content: &[u8],
        backup: Option<&Path>,
        executable: bool,
    ) -> Result<(), HostError>;

    /// Gives a file another name, in place of what has it, at once and durably. A link is renamed itself.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), HostError>;

    /// Removes a file, durably. It is no error if there is none.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn remove(&self, path: &Path) -> Result<(), HostError>;

    /// Whether something is at the path (links are followed).
    fn exists(&self, path: &Path) -> bool;

    /// When the file was last modified; `None` if there is none.
    fn modified_at(&self, path: &Path) -> Option<Timestamp>;

    /// When anything about the file last changed, its name and owner too (its ctime): a file that a package brings has the
    /// time of the package's making as that of its last modification. `None` if there is none.
    fn changed_at(&self, path: &Path) -> Option<Timestamp>;

    /// Names in a directory, sorted; empty if there is none.
    fn list(&self, directory: &Path) -> Vec<String>;

    /// The file that a program's name stands for, by `PATH` of the agent.
    fn which(&self, program: &str) -> Option<PathBuf>;

    /// Every process that can be seen.
    fn processes(&self) -> Vec<Process>;

    /// One process; `None` if there is none.
    fn process(&self, pid: u32) -> Option<Process>;

    /// Ends a process with SIGKILL or asks it to end with SIGTERM, if it is still the one that was seen (pid and start time): a reused pid is
    /// not hit. `false` if that process is gone.
    ///
    /// # Errors
    /// [`HostError::Signal`].
    fn end_process(&self, process: &Process, kill: bool) -> Result<bool, HostError>;

    /// Asks a server on this machine by HTTP GET.
    ///
    /// # Errors
    /// [`HostError::Fetch`] if no answer came; an answer of any status is not an error.
    fn http_get(&self, url: &str, timeout: Duration) -> Result<HttpAnswer, HostError>;

    /// A server of etcd; nothing is asked yet.
    fn etcd(&self, endpoint: &Endpoint) -> Box<dyn Etcd + '_>;

    /// Device and inode of a file or directory, by which one that was made anew under the same name is told; `None` if there
    /// is none.
    fn identity(&self, path: &Path) -> Option<(u64, u64)>;

    /// Bytes that root can still write below a directory, or the nearest that is there above it; `None` if that can't be asked.
    fn free_bytes(&self, directory: &Path) -> Option<u64>;

    /// Fetches `url` (http, https, file) into a file below the agent's own state directory and returns its path and SHA-256 in
    /// lower-case hexadecimal. What was fetched completely under this digest before is not fetched again.
    ///
    /// # Errors
    /// [`HostError::Fetch`], [`HostError::File`].
    fn fetch(&self, url: &str, expected_sha256: &str, timeout: Duration) -> Result<Fetched, HostError>;
}

/// What was read of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its content, lower-case hexadecimal.
    pub sha256: String,
}

/// A fetched file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of its content, lower-case hexadecimal.
    pub sha256: String,
}
