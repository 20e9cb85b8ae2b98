//! Running commands on a node.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result};

use super::{Node, enter_cgroups};
use crate::lab::command;

impl Node {
    /// A command in all of the node's namespaces and in its cgroup, with a clean environment. Its input and output
    /// are this process's until the caller says otherwise. Killing the returned process does not end what it runs.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let leader = self.leader_pid()?.to_string();
        let mut command = Command::new("sh");
        command.args(["-c", &enter_cgroups(&self.exec_cgroups()?), "sh"]);
        command.args(["nsenter", "-t", &leader, "-a", "--"]);
        command.args(["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["HOME=/root", "LC_ALL=C", "USER=root", "LOGNAME=root"]);
        if let Ok(term) = std::env::var("TERM") {
            command.arg(format!("TERM={term}"));
        }
        command.args(arguments).current_dir("/");
        Ok(command)
    }

    /// Its network namespace, as a file: its localhost is there.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn network(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/ns/net", self.leader_pid()?)))
    }

    /// Runs a command and returns what it wrote to stdout.
    ///
    /// # Errors
    ///
    /// When it exits with anything but 0: the error has its stderr.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let what = || format!("{}: {}", self.name(), arguments.join(" "));
        let output = self.output(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).trim_end().to_owned());
        Err(anyhow::anyhow!("{}: {}", output.status, said.join("\n")).context(what()))
    }

    /// Runs a command with no input and returns all of its output, whatever its exit code.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn output(&self, arguments: &[&str]) -> Result<Output> {
        command::output(&mut self.command(arguments)?)
    }

    /// Runs a line of shell.
    ///
    /// # Errors
    ///
    /// Like `run`.
    pub fn shell(&self, line: &str) -> Result<String> {
        self.run(&["sh", "-c", line])
    }

    /// Starts a command and returns at once; its output is piped to the caller, its input is empty.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command(arguments)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().with_context(|| format!("{}: starting {}", self.name(), arguments.join(" ")))
    }
}
