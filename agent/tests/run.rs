//! `wavegate-agent run` as a service manager sees it: it is ready at once, says what it waits for, gives signs that its loop goes
//! round, and ends when it is asked to.

// All of this is test code, also where it is not in a #[test] itself.
#![allow(clippy::expect_used)]

use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What the agent tells comes within a minute, on however slow a machine, or the test has failed.
const SOON: Duration = Duration::from_secs(60);

struct Agent {
    process: Child,
    told: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Agent {
    /// An agent that is not enrolled, under a service manager that wants a sign within so many microseconds.
    fn start(watchdog: Option<u32>) -> Self {
        Self::start_with("", watchdog)
    }

    /// The same with this at the end of its configuration.
    fn start_with(more: &str, watchdog: Option<u32>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("notify");
        let told = UnixDatagram::bind(&socket).expect("a socket");
        told.set_read_timeout(Some(SOON)).expect("a bound");
        let file = directory.path().join("agent.toml");
        let text = format!(
            "state_directory = \"{0}/state\"\njoin_token_file = \"{0}/join-token\"\n{more}",
            directory.path().display()
        );
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_wavegate-agent"));
        command.arg("run").arg("--config").arg(&file).env("NOTIFY_SOCKET", &socket).stderr(Stdio::piped());
        match watchdog {
            Some(within) => command.env("WATCHDOG_USEC", within.to_string()),
            None => command.env_remove("WATCHDOG_USEC"),
        };
        Self { process: command.spawn().expect("it starts"), told, directory }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.told.recv(&mut buffer).expect("it tells something");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }

    /// The next thing that it tells which begins so; what comes before does not matter.
    fn tells(&self, begin: &str) -> String {
        loop {
            let told = self.next();
            if told.starts_with(begin) {
                return told;
            }
        }
    }

    /// Asks it to end; its exit code, and what it logged.
    fn end(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM).expect("it runs");
        let log = std::io::read_to_string(self.process.stderr.take().expect("piped")).expect("text");
        (self.process.wait().expect("it ends").code(), log)
    }
}

#[test]
fn an_agent_that_waits_is_ready_says_what_for_and_ends_when_asked() {
    let agent = Agent::start(None);
    assert_eq!(agent.next(), "READY=1");
    let status = agent.tells("STATUS=");
    assert!(status.contains("waiting for the coordinator's address"), "{status}");
    let drop_ins = agent.directory.path().join("agent.d");
    std::fs::create_dir(&drop_ins).expect("made");
    std::fs::write(drop_ins.join("10.toml"), "coordinator = \"127.0.0.1:1\"").expect("written");
    let status = agent.tells("STATUS=");
    assert!(status.contains("waiting for a join token"), "{status}");
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("waiting for the coordinator's address").count(), 1, "{log}");
    assert_eq!(log.matches("waiting for a join token").count(), 1, "{log}");
}

#[test]
fn an_agent_that_starts_with_a_typo_says_where_it_is_and_goes_on_when_it_is_mended() {
    let agent = Agent::start_with("cordinator = \"127.0.0.1:1\"\n", None);
    assert_eq!(agent.next(), "READY=1");
    let (status, file) = (agent.tells("STATUS="), agent.directory.path().join("agent.toml"));
    let wrong =
        format!("STATUS=the configuration cannot be used: {}: unknown field `cordinator`", file.display());
    assert!(status.starts_with(&wrong) && status.ends_with("; waiting for it to be mended"), "{status}");
    let text = std::fs::read_to_string(&file).expect("text").replace("cordinator", "coordinator");
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).expect("written");
    std::fs::rename(&beside, &file).expect("mended");
    let status = agent.tells("STATUS=");
    assert!(status.contains("waiting for a join token"), "{status}");
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("the configuration cannot be used").count(), 1, "{log}");
}

#[test]
fn an_agent_that_waits_gives_the_watchdog_its_signs() {
    let agent = Agent::start(Some(300_000));
    for _ in 0..4 {
        assert_eq!(agent.tells("WATCHDOG="), "WATCHDOG=1");
    }
    assert_eq!(agent.end().0, Some(0));
}
