//! Transactions outlive the agent: a runner of its own session runs the program and leaves the result in a directory.
//!
//! `DIR/lock` is locked by the runner for as long as it lives (the lock comes to it as its standard input, so there is
//! no moment without), `DIR/result.json` is there when the program has ended. So: locked = running; result = ended;
//! neither = interrupted. No process id is compared, so none can be mistaken. Room on the disk for the result and for
//! some output is taken before the program is started: a full disk must not make its end look like an interruption, or end it.

use super::output::{Bounded, Lines};
use super::{file_error, files, run};
use crate::host::{Command, Exit, HostError, OUTPUT_LIMIT, OnLine};
use anyhow::Context as _;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often the result of a running transaction is looked for.
const POLL: Duration = Duration::from_millis(20);

/// How long a program whose time is up may take to end by itself: dpkg between two packages, not in the middle of one.
const GRACE: Duration = Duration::from_secs(30);

/// Bytes that are kept for the program's output on a disk that fills up.
const OUTPUT_ROOM: u64 = 256 << 10;

/// How a program ended.
#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    /// As in [`Exit`].
    code: i32,
    /// Whether it was ended because its time was up.
    timed_out: bool,
}

/// Where a transaction of this name lives. Names are the caller's; the directory's is one that any file system takes.
pub(super) fn directory(state: &Path, name: &str) -> PathBuf {
    state.join("transactions").join(files::name_for(name))
}

/// Forgets an ended transaction.
pub(super) fn forget(directory: &Path) -> Result<(), HostError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error("remove", directory)(error)),
        _ => Ok(()),
    }
}

/// Forgets the transactions that do not run any more, but those of these names.
pub(super) fn forget_others(state: &Path, keep: &[String]) -> Result<(), HostError> {
    let all = state.join("transactions");
    let keep: Vec<PathBuf> = keep.iter().map(|name| directory(state, name)).collect();
    for directory in files::list(&all).into_iter().map(|name| all.join(name)) {
        if !keep.contains(&directory) && !running(&directory)? {
            forget(&directory)?;
        }
    }
    Ok(())
}

/// Starts a transaction or finds it, and follows it to its end.
pub(super) fn transact(
    runner: &Path,
    directory: &Path,
    command: &Command,
    on_line: OnLine<'_>,
) -> Result<Exit, HostError> {
    let child = if directory.exists() { None } else { Some(start(runner, directory, command)?) };
    let ended = follow(directory, command, on_line);
    if let Some(mut child) = child {
        // It has ended, or is about to: it wrote its result.
        let _ = child.wait();
    }
    ended
}

fn start(runner: &Path, directory: &Path, command: &Command) -> Result<Child, HostError> {
    std::fs::create_dir_all(directory).map_err(file_error("make", directory))?;
    let started = write_order(directory, command).and_then(|lock| {
        std::process::Command::new(runner)
            .arg0("wavegate-agent")
            .arg("transaction")
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::from(lock))
            .stdout(Stdio::null())
            .stderr(log(directory, "runner.log")?)
            .spawn()
            .map_err(|source| HostError::Run { program: format!("{} transaction", runner.display()), source })
    });
    if started.is_err() {
        // Nothing ran: the name must not stand for a transaction.
        forget(directory)?;
    }
    started
}

/// Writes what is to be run, and takes the lock that the runner will hold.
fn write_order(directory: &Path, command: &Command) -> Result<File, HostError> {
    let order = directory.join("command.json");
    let json = serde_json::to_vec(command).map_err(|error| file_error("write", &order)(error.into()))?;
    files::write_durably(&order, &json)?;
    files::reserve(&directory.join("result.json"))?;
    make_room(&log(directory, "output.log")?).map_err(file_error("write", &directory.join("output.log")))?;
    let path = directory.join("lock");
    let lock = File::create(&path).map_err(file_error("make", &path))?;
    lock.lock().map_err(file_error("lock", &path))?;
    Ok(lock)
}

/// Takes room on the disk for what the program prints: one that can't print fails, dpkg between two packages, dnf at its end.
/// Where the file system can't take room, there is none.
fn make_room(output: &File) -> std::io::Result<()> {
    match rustix::fs::fallocate(output, FallocateFlags::KEEP_SIZE, 0, OUTPUT_ROOM) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(error.into()),
        _ => Ok(()),
    }
}

fn log(directory: &Path, name: &str) -> Result<File, HostError> {
    let path = directory.join(name);
    File::options().create(true).append(true).open(&path).map_err(file_error("make", &path))
}

fn follow(directory: &Path, command: &Command, on_line: OnLine<'_>) -> Result<Exit, HostError> {
    let path = directory.join("output.log");
    let mut output = File::open(&path).ok();
    let (mut kept, mut lines) = (Bounded::new(OUTPUT_LIMIT), Lines::default());
    let mut drain = |lines: &mut Lines, kept: &mut Bounded| -> Result<(), HostError> {
        let mut bytes = Vec::new();
        if let Some(output) = &mut output {
            output.read_to_end(&mut bytes).map_err(file_error("read", &path))?;
        }
        kept.push(&bytes);
        lines.push(&bytes, &mut *on_line);
        Ok(())
    };
    // Looked at in this order: a runner that ends between the two looks has left its result by the next.
    let ended = loop {
        let running = running(directory)?;
        drain(&mut lines, &mut kept)?;
        match result(directory)? {
            Some(ended) => break Some(ended),
            None if !running => break None,
            None => std::thread::sleep(POLL),
        }
    };
    drain(&mut lines, &mut kept)?;
    lines.finish(on_line);
    let program = run::program(command).to_owned();
    match ended {
        None => Err(HostError::Interrupted { program }),
        Some(Ended { timed_out: true, .. }) => {
            Err(HostError::Timeout { program, seconds: command.timeout.as_secs() })
        }
        Some(Ended { code, .. }) => Ok(Exit { code, stdout: kept.text(), stderr: String::new() }),
    }
}

/// Whether the runner lives.
fn running(directory: &Path) -> Result<bool, HostError> {
    let path = directory.join("lock");
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        // A crash before it could be started.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(file_error("open", &path)(error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(file_error("lock", &path)(error)),
    }
}

fn result(directory: &Path) -> Result<Option<Ended>, HostError> {
    let path = directory.join("result.json");
    let Some(json) = files::read(&path)? else { return Ok(None) };
    serde_json::from_slice(&json).map(Some).map_err(|error| file_error("read", &path)(error.into()))
}

/// The runner: `wavegate-agent transaction DIR`. Runs what `DIR/command.json` says and leaves `DIR/result.json`. Its
/// standard input is the locked `DIR/lock`, which it keeps open to its end; the program it runs does not get it.
///
/// # Errors
/// If the directory is not one that an agent prepared, or the result can't be written.
pub fn run_transaction(dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(!dir.join("result.json").exists(), "the transaction {} has ended already", dir.display());
    // A session of its own: what ends the agent's terminal or process group does not end the transaction. It fails for
    // a process that leads a group already, which is then as good.
    let _ = rustix::process::setsid();
    let order = dir.join("command.json");
    let json = std::fs::read(&order).with_context(|| format!("cannot read {}", order.display()))?;
    let command: Command =
        serde_json::from_slice(&json).with_context(|| format!("cannot understand {}", order.display()))?;
    let ended = run_logged(dir, &command)?;
    files::write_reserved(&dir.join("result.json"), &serde_json::to_string(&ended)?)?;
    Ok(())
}

fn run_logged(dir: &Path, command: &Command) -> anyhow::Result<Ended> {
    let output = log(dir, "output.log")?;
    let mut prepared = run::prepare(command);
    let spawned = prepared.stdout(output.try_clone()?).stderr(output.try_clone()?).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            // As a shell says it, so that whoever reads the output and the code knows what happened.
            writeln!(&output, "cannot run {}: {error}", run::program(command))?;
            return Ok(Ended { code: 127, timed_out: false });
        }
    };
    let started = Instant::now();
    if let Some(status) = run::wait(&mut child, command.timeout)? {
        let code = run::code(status);
        let left = command.timeout.saturating_sub(started.elapsed());
        // A package manager that was killed leaves its children at work: dpkg, or a package's script.
        if code != 0 && !ended_all(&child, left) {
            writeln!(&output, "what {} left running did not end: ending it", run::program(command))?;
            end_all(&mut child)?;
        }
        return Ok(Ended { code, timed_out: false });
    }
    Ok(Ended { code: run::code(end_all(&mut child)?), timed_out: true })
}

/// Waits until nobody is left of the program's process group, which is its own; false if the time is over before. Daemons
/// have sessions of their own, and so other groups.
fn ended_all(child: &Child, time: Duration) -> bool {
    let started = Instant::now();
    let pid = rustix::process::Pid::from_child(child);
    while rustix::process::test_kill_process_group(pid).is_ok() {
        if started.elapsed() >= time {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

/// Ends the program and all of its process group.
fn end_all(child: &mut Child) -> std::io::Result<ExitStatus> {
    run::signal_group(child, Signal::TERM);
    let started = Instant::now();
    let by_itself = run::wait(child, GRACE)?;
    let all = by_itself.is_some() && ended_all(child, GRACE.saturating_sub(started.elapsed()));
    if !all {
        run::signal_group(child, Signal::KILL);
    }
    by_itself.map_or_else(|| child.wait(), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_directories_and_stay_apart() {
        let state = Path::new("/s");
        let names = ["r1/compute/node 1", "r1_compute_node_1", "../../etc", "", &"x".repeat(300)];
        let directories: std::collections::BTreeSet<_> =
            names.iter().map(|name| directory(state, name)).collect();
        assert_eq!(directories.len(), names.len());
        assert!(directories.iter().all(|path| path.parent() == Some(Path::new("/s/transactions"))));
    }

    #[test]
    fn the_runner_leaves_output_and_result() {
        let state = tempfile::tempdir().expect("a directory");
        let dir = directory(state.path(), "t");
        std::fs::create_dir_all(&dir).expect("a directory");
        let command = Command::new(["sh", "-c", "echo one; echo two >&2; exit 3"]);
        drop(write_order(&dir, &command).expect("an order"));
        run_logged(&dir, &command)
            .map(|ended| assert_eq!((ended.code, ended.timed_out), (3, false)))
            .expect("it runs");
        let interrupted = follow(&dir, &command, &mut |_| ()).expect_err("no result yet, and no lock");
        assert_eq!(interrupted.to_string(), "sh was interrupted: it ended without an exit code");

        let ended = Ended { code: 3, timed_out: false };
        files::write_durably(&dir.join("result.json"), &serde_json::to_vec(&ended).expect("json"))
            .expect("written");
        let mut seen = Vec::new();
        let exit = follow(&dir, &command, &mut |line| seen.push(line.to_owned())).expect("a result");
        assert_eq!((exit.code, exit.stdout.as_str()), (3, "one\ntwo\n"));
        assert_eq!(seen, ["one", "two"]);
        assert!(run_transaction(&dir).expect_err("once only").to_string().contains("has ended already"));
        forget(&dir).expect("forgotten");
        forget(&dir).expect("forgetting twice is fine");
        assert!(!dir.exists());
    }

    /// Runs a script as a transaction and tells its end and its output.
    fn run(script: &str, timeout: Duration) -> (Ended, String) {
        let state = tempfile::tempdir().expect("a directory");
        let ended = run_logged(state.path(), &Command::new(["sh", "-c", script]).timeout(timeout));
        let output = std::fs::read_to_string(state.path().join("output.log")).expect("an output");
        (ended.expect("it ran"), output)
    }

    #[test]
    fn what_a_killed_package_manager_left_at_work_belongs_to_the_transaction() {
        let (ended, output) = run("(sleep 1; echo script done) & kill -9 $$", Duration::from_secs(60));
        assert_eq!((ended.code, ended.timed_out, output.as_str()), (137, false, "script done\n"));
        let (ended, output) = run("(sleep 1; echo script done) & exit 100", Duration::from_secs(60));
        assert_eq!((ended.code, output.as_str()), (100, "script done\n"));

        let began = Instant::now();
        let (ended, output) = run("sleep 600 & kill -9 $$", Duration::from_secs(1));
        assert_eq!((ended.code, ended.timed_out), (137, false));
        assert_eq!(output, "what sh left running did not end: ending it\n");
        let (ended, _) = run("(trap '' TERM; sleep 2; echo end) & wait", Duration::from_secs(1));
        assert!(ended.timed_out && began.elapsed() < GRACE);
    }

    #[test]
    fn a_program_that_did_its_work_is_not_waited_for_by_what_it_started() {
        let began = Instant::now();
        let (ended, _) = run("sleep 20 &", Duration::from_secs(60));
        assert!(ended.code == 0 && began.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn room_for_the_output_is_taken_and_appended_to() {
        use std::os::unix::fs::MetadataExt;
        let state = tempfile::tempdir().expect("a directory");
        drop(write_order(state.path(), &Command::new(["true"])).expect("an order"));
        let metadata = || std::fs::metadata(state.path().join("output.log")).expect("it is there");
        assert_eq!(metadata().len(), 0);
        if metadata().blocks() == 0 {
            println!("SKIPPED: {} cannot take room", state.path().display());
            return;
        }
        assert!(metadata().blocks() * 512 >= OUTPUT_ROOM, "{:?}", metadata());
        run_logged(state.path(), &Command::new(["echo", "one"])).expect("it runs");
        assert_eq!(metadata().len(), 4);
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten_unless_it_runs() {
        let state = tempfile::tempdir().expect("a directory");
        forget_others(state.path(), &[]).expect("there is none");
        let prepared = |name: &str| {
            let dir = directory(state.path(), name);
            std::fs::create_dir_all(&dir).expect("a directory");
            write_order(&dir, &Command::new(["true"])).expect("an order")
        };
        drop((prepared("kept"), prepared("ended")));
        let runs = prepared("runs");
        let names = || files::list(&state.path().join("transactions"));
        forget_others(state.path(), &["kept".to_owned()]).expect("forgotten");
        assert_eq!(names(), [files::name_for("kept"), files::name_for("runs")]);
        drop(runs);
        forget_others(state.path(), &[]).expect("forgotten");
        assert!(names().is_empty());
    }

    #[test]
    fn what_cannot_be_started_leaves_nothing_behind() {
        let state = tempfile::tempdir().expect("a directory");
        let dir = directory(state.path(), "t");
        let error = transact(Path::new("/no/such/runner"), &dir, &Command::new(["true"]), &mut |_| ())
            .expect_err("no runner");
        assert_eq!(error.to_string(), "cannot run /no/such/runner transaction");
        assert!(!dir.exists());

        std::fs::create_dir_all(&dir).expect("a directory");
        let command = Command::new(["no-such-program"]);
        drop(write_order(&dir, &command).expect("an order"));
        let ended = run_logged(&dir, &command).expect("it is recorded");
        assert_eq!(ended.code, 127);
    }
}
