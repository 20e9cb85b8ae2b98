//! Short programs: started without a shell, in a process group of their own, with a time limit, their output read.

use super::output::Bounded;
use super::search_path;
use crate::host::{Command, Exit, HostError, OUTPUT_LIMIT};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the output of an ended program is waited for: a daemon that it started may hold the pipe for good.
const OUTPUT_AFTER_END: Duration = Duration::from_millis(500);

/// How often an ending is looked for where the kernel does not tell it, which is before 5.3.
const POLL: Duration = Duration::from_millis(10);

/// How long the kernel is waited for at most.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// What the service manager sets for the agent's own memory, and nobody else's.
const OF_THE_AGENT: &str = "MALLOC_ARENA_MAX";

/// A program as `std` starts it, with the environment that every program gets.
pub(super) fn prepare(command: &Command) -> std::process::Command {
    let mut prepared = std::process::Command::new(program(command));
    prepared
        .args(command.argv.iter().skip(1))
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .env_remove(OF_THE_AGENT)
        .envs(&command.env)
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0);
    prepared
}

pub(super) fn program(command: &Command) -> &str {
    command.argv.first().map_or("", String::as_str)
}

/// Exit code, or 128 + the signal that ended it.
pub(super) fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Signals the process group of a program that [`prepare`] made; it may be gone already.
pub(super) fn signal_group(child: &Child, signal: rustix::process::Signal) {
    let _ = rustix::process::kill_process_group(Pid::from_child(child), signal);
}

/// Runs a program to its end.
pub(super) fn run(command: &Command) -> Result<Exit, HostError> {
    let not_run = |source| HostError::Run { program: program(command).to_owned(), source };
    let mut prepared = prepare(command);
    let mut child = prepared.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(not_run)?;
    let stdout = child.stdout.take().map(Reader::start);
    let stderr = child.stderr.take().map(Reader::start);
    let status = wait(&mut child, command.timeout).map_err(not_run)?;
    let Some(status) = status else {
        signal_group(&child, rustix::process::Signal::KILL);
        let _ = child.wait();
        let program = program(command).to_owned();
        return Err(HostError::Timeout { program, seconds: command.timeout.as_secs() });
    };
    let text = |reader: Option<Reader>| reader.map_or_else(String::new, Reader::finish);
    Ok(Exit { code: code(status), stdout: text(stdout), stderr: text(stderr) })
}

/// Waits for the end; `None` if it does not come in time.
pub(super) fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    let process = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        // One whose end was told is looked for once more at once, and then as if nothing had been told.
        let told = process.as_ref().is_some_and(|process| has_ended(process, left));
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if told || process.is_none() {
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(POLL);
        }
    }
}

/// Waits until a process has ended, or for so long. It can't be told from a signal that came to the agent: who asks looks again.
fn has_ended(process: &OwnedFd, at_most: Duration) -> bool {
    let mut descriptors = [PollFd::new(process, PollFlags::IN)];
    let Ok(at_most) = Timespec::try_from(at_most.min(TOLD_WITHIN)) else { return true };
    rustix::event::poll(&mut descriptors, Some(&at_most)) != Ok(0)
}

/// A thread that reads a stream until its end.
struct Reader {
    kept: Arc<Mutex<Bounded>>,
    end: Receiver<()>,
}

impl Reader {
    fn start(mut stream: impl Read + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Bounded::new(OUTPUT_LIMIT)));
        let (ended, end) = channel::<()>();
        let shared = Arc::clone(&kept);
        std::thread::spawn(move || {
            let mut piece = [0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(&piece[..count]);
            }
            drop(ended);
        });
        Self { kept, end }
    }

    fn finish(self) -> String {
        // Both endings are fine: the stream's, or that of our patience.
        let (Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) =
            self.end.recv_timeout(OUTPUT_AFTER_END);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        Command::new(["sh", "-c", script])
    }

    #[test]
    fn output_and_exit_code_are_told() {
        let exit = run(&sh("echo out; echo err >&2; exit 3").env("X", "y")).expect("it runs");
        assert_eq!(exit, Exit { code: 3, stdout: "out\n".to_owned(), stderr: "err\n".to_owned() });
        let exit = run(&sh("echo $LC_ALL $X; cat; pwd").env("X", "y")).expect("it runs");
        assert_eq!(exit.stdout, "C y\n/\n");
        assert_eq!(run(&sh("kill -9 $$")).expect("it runs").code, 137);
        let error = run(&Command::new(["no-such-program"])).expect_err("there is none");
        assert_eq!(error.to_string(), "cannot run no-such-program");
    }

    #[test]
    fn what_is_set_for_the_agent_alone_is_given_to_nobody() {
        let prepared = prepare(&sh("true"));
        assert!(prepared.get_envs().any(|(name, value)| name == OF_THE_AGENT && value.is_none()));
        let unit = include_str!("../../../../packaging/systemd/wavegate-agent.service");
        assert!(unit.contains(&format!("\nEnvironment={OF_THE_AGENT}=1\n")));
        let job = include_str!("../../../../packaging/upstart/wavegate-agent.conf");
        assert!(job.contains(&format!("\nenv {OF_THE_AGENT}=1\n")));
    }

    #[test]
    fn output_is_bounded() {
        let exit = run(&sh("head -c 3000000 /dev/zero | tr '\\0' x; echo end")).expect("it runs");
        assert!(exit.stdout.len() < OUTPUT_LIMIT + 100 && exit.stdout.ends_with("xend\n"));
        assert!(exit.stdout.contains("bytes left out"));
    }

    #[test]
    fn a_time_limit_ends_the_whole_group() {
        let directory = tempfile::tempdir().expect("a directory");
        let pid_file = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
        let error = run(&sh(&script).timeout(Duration::from_secs(1))).expect_err("it takes too long");
        assert_eq!(error.to_string(), "sh did not end within 1 s and was ended");
        let pid = std::fs::read_to_string(pid_file).expect("a pid");
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // The signal is on its way; then it is ended, and perhaps not yet collected by whoever adopted it.
        let ended = || stat().is_empty() || stat().contains(") Z ");
        let patience = Instant::now() + Duration::from_secs(20);
        while !ended() && Instant::now() < patience {
            std::thread::yield_now();
        }
        assert!(ended(), "{}", stat());
    }

    #[test]
    fn an_end_is_waited_for_as_long_as_it_may_take() {
        let mut child = prepare(&sh("sleep 600")).spawn().expect("it starts");
        let began = Instant::now();
        assert_eq!(wait(&mut child, Duration::ZERO).expect("a look"), None);
        assert_eq!(wait(&mut child, Duration::from_millis(50)).expect("a look"), None);
        assert!(began.elapsed() >= Duration::from_millis(50));
        signal_group(&child, rustix::process::Signal::KILL);
        let ended = wait(&mut child, Duration::from_secs(60)).expect("a look").expect("it ended");
        assert_eq!(code(ended), 137);
        // Of one that was waited for already, the end stays told.
        let again = wait(&mut child, Duration::ZERO).expect("a look");
        assert_eq!(again.map(code), Some(137));
    }

    #[test]
    fn a_daemon_that_holds_the_pipe_does_not_hold_us() {
        let directory = tempfile::tempdir().expect("a directory");
        let pid_file = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; echo started", pid_file.display());
        let exit = run(&sh(&script)).expect("it ends");
        assert_eq!((exit.code, exit.stdout.as_str()), (0, "started\n"));
        let pid = std::fs::read_to_string(pid_file).expect("a pid").trim().parse().expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
    }
}
