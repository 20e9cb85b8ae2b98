//! `wavegate-agent enrol` as a program: where it takes the token from, and what it says when it lacks something.

// All of this is test code, also where it is not in a #[test] itself.
#![allow(clippy::expect_used)]

use std::io::Write;
use std::process::{Command, Stdio};

/// What the program says on a machine that is not enrolled, given this on standard input; its exit code.
fn said(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("agent.toml");
    let text = format!("state_directory = \"{}/state\"\n", directory.path().display());
    std::fs::write(&file, text).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavegate-agent"));
    command.env_clear().arg("--config").arg(&file).args(["enrol", "--node", "compute-1"]).args(arguments);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("it starts");
    let mut stdin = process.stdin.take().expect("piped");
    match stdin.write_all(input.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written.expect("written"),
    }
    // It does not wait for the end of what it reads one line of.
    let stderr = std::io::read_to_string(process.stderr.take().expect("piped")).expect("text");
    let code = process.wait().expect("it ends").code();
    drop(stdin);
    (code, stderr.replace(&*directory.path().to_string_lossy(), "DIR"))
}

fn token() -> String {
    format!("wg1.{}.{}.{}", "0a".repeat(8), "5a".repeat(32), "c4".repeat(32))
}

#[test]
fn the_token_may_come_from_standard_input() {
    // Nobody listens on a port that the system gives to nobody: the token was taken if that is the only trouble.
    let arguments = ["--token", "-", "--coordinator", "127.0.0.1:1"];
    let (code, text) = said(&arguments, &format!("{}\nmore\n", token()));
    assert!(text.contains("cannot reach the coordinator at 127.0.0.1:1"), "{text}");
    assert_eq!(code, Some(6));
    let (code, text) = said(&arguments, "my token\n");
    assert!(text.contains("this is not a join token"), "{text}");
    assert_eq!(code, Some(6));
}

#[test]
fn a_coordinator_that_nobody_named_is_asked_for() {
    let (code, text) = said(&["--token", &token()], "");
    assert_eq!(
        text,
        "wavegate-agent: the coordinator's address is not known: give --coordinator HOST:PORT, or write coordinator = \
         \"HOST:PORT\" into DIR/agent.d/site.toml\n"
    );
    assert_eq!(code, Some(3));
}
