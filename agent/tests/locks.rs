//! Who holds a file's lock, on the real machine: another process does, which is this program run once more.

// Clippy takes only functions marked as tests for tests, and these have more.
#![allow(clippy::expect_used)]

use std::io::BufRead;
use std::path::PathBuf;
use wavegate_agent::host::Host;
use wavegate_agent::host::real::RealHost;

const LOCKED_FILE: &str = "WAVEGATE_TEST_LOCKED_FILE";

/// Not a test by itself: the other process of the test below.
#[test]
fn a_process_with_a_lock() {
    let Some(path) = std::env::var_os(LOCKED_FILE) else { return };
    let file = std::fs::File::options().write(true).open(path).expect("a file");
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("its lock");
    println!("locked");
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn who_holds_a_lock_is_known() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = RealHost::new(PathBuf::from("/nowhere"));
    let path = directory.path().join("lock");
    assert_eq!(host.lock_holder(&path), None);
    assert!(!path.exists(), "it is not made");
    std::fs::write(&path, "").expect("a file");
    assert_eq!(host.lock_holder(&path), None);
    let mut other = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_process_with_a_lock", "--nocapture"])
        .env(LOCKED_FILE, &path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = std::io::BufReader::new(other.stdout.take().expect("its output")).lines();
    assert!(said.any(|line| line.expect("a line").contains("locked")));
    assert_eq!(host.lock_holder(&path), Some(other.id()));
    drop(other.stdin.take());
    other.wait().expect("it ends");
    assert_eq!(host.lock_holder(&path), None);
}
