//! The program `wavegate-agent run` on a machine that is enrolled: what it says at its start.

use crate::pki::Authority;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use wavegate_agent::credentials;

#[test]
fn a_policy_that_can_not_be_used_is_told_at_the_start_and_ends_nothing() {
    let machine = tempfile::tempdir().expect("a directory");
    let file = |name: &str| machine.path().join(name);
    let identity = Authority::new().credentials("node/compute-1", false);
    credentials::keep(&file("state"), &identity).expect("kept");
    let text = format!(
        "coordinator = \"127.0.0.1:1\"\nstate_directory = \"{0}/state\"\npolicy_file = \"{0}/policy.toml\"\n",
        machine.path().display()
    );
    std::fs::write(file("agent.toml"), text).expect("written");
    std::fs::write(file("policy.toml"), "packages = 7\n").expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavegate-agent"));
    command.arg("run").arg("--config").arg(file("agent.toml")).env_remove("NOTIFY_SOCKET");
    let mut process = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut log = BufReader::new(process.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let warning = log.find(|line| line.contains("this node's policy cannot be used"));
    let warning = warning.expect("a warning");
    assert!(warning.contains("WARN") && warning.contains("policy.toml"), "{warning}");
    kill_process(Pid::from_child(&process), Signal::TERM).expect("it runs");
    let rest: Vec<String> = log.collect();
    // Where it can't be told what this machine runs on, it has ended for that: later than for its policy, and with another code.
    assert_ne!(process.wait().expect("it ends").code(), Some(3), "{rest:?}");
}
