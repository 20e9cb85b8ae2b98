//! An agent whose program is replaced while it runs, as an upgrade of its package does it: what it starts afterwards is the program
//! that runs, whatever stands in its place by then: a newer one, half of one, or nothing. The agent here is this test program once
//! more, from a copy that can be replaced.

// Clippy takes only functions marked as tests for tests, and these have more.
#![allow(clippy::expect_used)]

use std::io::{BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wavegate_agent::host::real::{RealHost, run_transaction};
use wavegate_agent::host::{self, Host};

const STATE: &str = "WAVEGATE_TEST_STATE";

/// Not a test by itself: the runner, which is started as `PROGRAM transaction DIRECTORY`.
#[test]
fn transaction() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "transaction") {
        run_transaction(Path::new(&arguments[2])).expect("it runs");
    }
}

/// Not a test by itself: the agent, which goes on when it is told to.
#[test]
fn an_agent() {
    let Some(state) = std::env::var_os(STATE) else { return };
    println!("\nready");
    std::io::stdin().read_line(&mut String::new()).expect("a word");
    let command = host::Command::new(["sh", "-c", "echo done; exit 7"]);
    let exit = RealHost::new(PathBuf::from(state)).transact("t", &command, &mut |_| ());
    println!("\nended {:?}", exit.map(|exit| (exit.code, exit.stdout)));
}

fn started_after(replace: impl FnOnce(&Path)) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("wavegate-agent");
    std::fs::copy(std::env::current_exe().expect("this program"), &program).expect("a copy");
    let mut agent = Command::new(&program)
        .args(["--exact", "an_agent", "--nocapture"])
        .env(STATE, directory.path().join("state"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = std::io::BufReader::new(agent.stdout.take().expect("its output")).lines();
    assert!(said.any(|line| line.expect("a line") == "ready"));
    replace(&program);
    agent.stdin.take().expect("its input").write_all(b"go\n").expect("told");
    let rest: Vec<String> = said.map(|line| line.expect("a line")).collect();
    agent.wait().expect("it ended");
    rest.into_iter().find(|line| line.starts_with("ended")).expect("it said how")
}

#[test]
fn what_runs_is_what_is_started_whatever_took_its_place() {
    let good = r#"ended Ok((7, "done\n"))"#;
    assert_eq!(started_after(|_| ()), good);
    // As dpkg and rpm do it: the new file is renamed over the old one.
    let by = |text: &'static str| {
        move |program: &Path| {
            let new = program.with_extension("dpkg-new");
            std::fs::write(&new, text).expect("written");
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("executable");
            std::fs::rename(&new, program).expect("replaced");
        }
    };
    assert_eq!(started_after(by("#!/bin/sh\nexit 99\n")), good);
    assert_eq!(started_after(by("half unpacked")), good);
    assert_eq!(started_after(|program| std::fs::remove_file(program).expect("removed")), good);
}
