//! A server of etcd's: a child process with a log, ended when it is dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::wait_until;

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a program whose log is added to a file. It dies with the thread that calls this, so that a test that is killed leaves
    /// nothing behind.
    pub(super) fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        // etcd takes flags from the environment too.
        command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// What it has logged, and what servers before it have.
    ///
    /// # Errors
    ///
    /// When the log can't be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("reading {}", self.log.display()))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as a service manager would, and waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let what = format!("process {} to end", self.child.id());
        wait_until(&what, Duration::from_secs(20), || Ok(self.child.try_wait()?.map(|_| ())))
    }

    /// Holds it: it is there, and answers nothing.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn hold(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a pid")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to process {pid}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended was waited for, and its id may be another's by now: `kill` of the standard library knows.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
