//! Transactions of the real machine, with the real runner: they outlive the agent, are found again, and a runner that
//! was killed is told from one that runs. The programs are shells that the test starts itself, in directories of its own.

// Clippy takes only functions marked as tests for tests, and these have a bench.
#![allow(clippy::expect_used)]

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use wavegate_agent::host::real::RealHost;
use wavegate_agent::host::{Command, Exit, Host, HostError};

const RUNNER: &str = env!("CARGO_BIN_EXE_wavegate-agent");

/// How long a machine under load may take for what is a moment otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    state: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { state: tempfile::tempdir().expect("a directory") }
    }

    fn host(&self) -> RealHost {
        RealHost::with_runner(self.state.path().to_owned(), PathBuf::from(RUNNER))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// A shell that says `begun`, counts its starts, and ends with code 7 once the file `go` is there, or its directory gone.
    fn waiting(&self) -> Command {
        let script = "echo begun; echo x >> \"$D/starts\"; echo $$ > \"$D/pid\"; \
                      while [ -d \"$D\" ] && [ ! -e \"$D/go\" ]; do sleep 0.05; done; echo ended >&2; exit 7";
        Command::new(["sh", "-c", script])
            .env("D", &self.state.path().display().to_string())
            .timeout(Duration::from_secs(600))
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(self.path("starts")).unwrap_or_default().lines().count()
    }

    fn read_when_there(&self, name: &str) -> String {
        let mut text = String::new();
        wait_for(name, || {
            text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
            text.ends_with('\n')
        });
        text.trim().to_owned()
    }

    fn transact(&self, command: &Command) -> (Result<Exit, HostError>, Vec<String>) {
        let mut lines = Vec::new();
        let result = self.host().transact("r1/compute/1/install", command, &mut |line| {
            lines.push(line.to_owned());
        });
        (result, lines)
    }

    /// The runner as an agent starts it that is gone a moment later: in the background, holding its lock.
    fn start_and_lose_the_agent(&self, command: &Command) -> Child {
        let directory = self.path("transactions").join("lost");
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("command.json"), serde_json::to_vec(command).expect("json"))
            .expect("an order");
        let lock = File::create(directory.join("lock")).expect("a file");
        lock.lock().expect("nobody else holds it");
        std::process::Command::new(RUNNER)
            .arg("transaction")
            .arg(&directory)
            .process_group(0)
            .stdin(Stdio::from(lock))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the runner starts")
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come");
        std::thread::yield_now();
    }
}

fn kill(pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.parse().expect("a number")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
}

fn parent_of(pid: &str) -> String {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    fields.split_ascii_whitespace().nth(1).expect("a parent").to_owned()
}

#[test]
fn a_transaction_runs_once_and_its_result_is_kept_until_it_is_forgotten() {
    let bench = Bench::new();
    let host = bench.host();
    std::fs::write(bench.path("go"), "").expect("a file");
    assert!(!host.transaction_known("r1/compute/1/install"));
    let (first, lines) = bench.transact(&bench.waiting());
    let first = first.expect("it ends");
    assert_eq!((first.code, first.stdout.as_str()), (7, "begun\nended\n"));
    assert_eq!(lines, ["begun", "ended"]);

    let (again, lines) = bench.transact(&bench.waiting());
    assert_eq!((again.expect("it is found"), lines.len(), bench.starts()), (first, 2, 1));
    host.forget_transaction("r1/compute/1/install").expect("forgotten");
    assert!(!host.transaction_known("r1/compute/1/install"));
    bench.transact(&bench.waiting()).0.expect("it ends");
    assert_eq!(bench.starts(), 2);
}

#[test]
fn a_later_agent_finds_it_running_and_waits_for_its_end() {
    let bench = Bench::new();
    let command = bench.waiting();
    // One agent's thread waits, as if that agent were about to be killed; another agent comes.
    std::thread::scope(|scope| {
        let first = scope.spawn(|| bench.transact(&command));
        let pid = bench.read_when_there("pid");
        assert_ne!(parent_of(&pid), std::process::id().to_string(), "its runner stands between");
        let second = scope.spawn(|| bench.transact(&command));
        std::fs::write(bench.path("go"), "").expect("a file");
        for agent in [first, second] {
            let (exit, lines) = agent.join().expect("no panic");
            assert_eq!(
                (exit.expect("it ends").code, lines),
                (7, vec!["begun".to_owned(), "ended".to_owned()])
            );
        }
    });
    assert_eq!(bench.starts(), 1);
}

#[test]
fn it_has_a_session_of_its_own_and_does_not_hold_its_lock_in_what_it_starts() {
    let bench = Bench::new();
    // A daemon that a package's script starts without a service manager goes on after the transaction.
    let script = "sleep 600 & echo $! > \"$D/daemon\"; ps -o sid= -p $PPID > \"$D/session\"; echo $PPID > \"$D/runner\"";
    let command = Command::new(["sh", "-c", script])
        .env("D", &bench.state.path().display().to_string())
        .timeout(PATIENCE);
    assert_eq!(bench.transact(&command).0.expect("it ends").code, 0);
    assert_eq!(bench.read_when_there("session"), bench.read_when_there("runner"));
    kill(&bench.read_when_there("daemon"));
}

#[test]
fn a_killed_runner_is_an_interruption_and_nothing_is_started_again() {
    let bench = Bench::new();
    let command = bench.waiting();
    std::thread::scope(|scope| {
        let agent = scope.spawn(|| bench.transact(&command));
        let pid = bench.read_when_there("pid");
        kill(&parent_of(&pid));
        let error = agent.join().expect("no panic").0.expect_err("it was killed");
        assert_eq!(error.to_string(), "sh was interrupted: it ended without an exit code");
        let (again, _) = bench.transact(&command);
        assert!(matches!(again, Err(HostError::Interrupted { .. })), "{again:?}");
        std::fs::write(bench.path("go"), "").expect("a file");
    });
    assert_eq!(bench.starts(), 1);
}

#[test]
fn a_runner_that_lost_its_agent_goes_on_to_its_result() {
    let bench = Bench::new();
    let mut runner = bench.start_and_lose_the_agent(&bench.waiting());
    bench.read_when_there("pid");
    let directory = bench.path("transactions").join("lost");
    assert!(File::open(directory.join("lock")).expect("a lock").try_lock().is_err(), "it is held");
    std::fs::write(bench.path("go"), "").expect("a file");
    assert!(runner.wait().expect("a child").success());
    let result = std::fs::read_to_string(directory.join("result.json")).expect("a result");
    assert_eq!(result, r#"{"code":7,"timed_out":false}"#);
    assert!(File::open(directory.join("lock")).expect("a lock").try_lock().is_ok(), "it is free");
}

#[test]
fn its_time_limit_is_the_runners_to_keep() {
    let bench = Bench::new();
    let command = bench.waiting().timeout(Duration::from_secs(1));
    let error = bench.transact(&command).0.expect_err("it takes too long");
    assert_eq!(error.to_string(), "sh did not end within 1 s and was ended");
    let error = bench.transact(&command).0.expect_err("the same, found again");
    assert!(matches!(error, HostError::Timeout { .. }), "{error}");
    assert_eq!(bench.starts(), 1);
}
