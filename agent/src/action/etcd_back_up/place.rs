//! Where a copy goes: a directory of its own that root alone can read, on a disk with room.

use super::Source;
use crate::action::{Context, exit_failed, failed};
use crate::host::Command;
use std::path::Path;
use std::time::Duration;
use wavegate_common::action::EtcdBackUp;
use wavegate_common::outcome::StepError;

/// Room that must be left, in bytes.
const LEFT: u64 = 64 << 20;

/// File systems that are gone with the power.
const RAM: [&str; 2] = ["tmpfs", "ramfs"];

const NEXT: &str =
    "see that the directory can be written by root and its disk has room, then retry; etcd was not touched";

/// The directory of one copy.
pub struct Place {
    base: String,
    name: String,
}

impl Place {
    /// A new one, called after the time, the cluster and the member.
    pub fn new(action: &EtcdBackUp, source: &Source, cx: &Context<'_>) -> Self {
        let time = cx.host.now().utc().replace(':', "");
        let name = format!("{time}-{}-{}", source.view.id, source.me);
        Self { base: action.directory.trim_end_matches('/').to_owned(), name }
    }

    /// Its path.
    pub fn directory(&self) -> String {
        format!("{}/{}", self.base, self.name)
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.directory())
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`StepError`] if that fails.
    pub fn make(&self, cx: &Context<'_>) -> Result<(), StepError> {
        run(&Command::new(["mkdir", "-p", "-m", "0700", "--", &self.base]), cx)?;
        run(&Command::new(["mkdir", "-m", "0700", "--", &self.directory()]), cx)
    }

    /// Writes a file that root alone can read.
    ///
    /// # Errors
    /// [`StepError`] if that fails.
    pub fn write(&self, name: &str, content: &[u8], cx: &Context<'_>) -> Result<(), StepError> {
        let path = self.file(name);
        // The directory lets nobody else in meanwhile.
        cx.host.replace(Path::new(&path), content, None, false).map_err(|error| failed(&error, NEXT))?;
        run(&Command::new(["chmod", "0600", "--", &path]), cx)
    }

    /// Lets root alone read what a program wrote, and brings it to the disk.
    ///
    /// # Errors
    /// [`StepError`] if that fails.
    pub fn close(&self, cx: &Context<'_>) -> Result<(), StepError> {
        run(&Command::new(["chmod", "-R", "go=", "--", &self.directory()]), cx)?;
        // Each file and directory of the copy, and the way to it. What else the node has to write may be gigabytes, and is not
        // waited for; a `sync` of before coreutils 8.24 passes over names and does wait.
        let directory = self.directory();
        let mut words = vec!["find", &directory, "-exec", "sync", "--"];
        words.extend(Path::new(&self.base).ancestors().filter_map(Path::to_str));
        words.extend(["{}", "+"]);
        run(&Command::new(words).timeout(Duration::from_secs(300)), cx)
    }
}

/// Removes what was not completed.
///
/// # Errors
/// [`StepError`] if that fails.
pub fn remove(directory: &str, cx: &Context<'_>) -> Result<(), StepError> {
    run(&Command::new(["rm", "-rf", "--one-file-system", "--", directory]), cx)
}

/// Refuses a directory that can't hold a copy; how many bytes one may take.
///
/// # Errors
/// [`StepError`] that says why.
pub fn refuse_unfit(action: &EtcdBackUp, source: &Source, cx: &Context<'_>) -> Result<u64, StepError> {
    let directory = Path::new(&action.directory);
    let refuse =
        |what: String, next: &str| Err(StepError { what, output: Vec::new(), next: next.to_owned() });
    if let Some(kind) =
        crate::facts::filesystem_of(cx.host, directory).filter(|kind| RAM.contains(&kind.as_str()))
    {
        return refuse(
            format!("{} is on a RAM disk ({kind}): a copy there is gone with the power", directory.display()),
            "name a directory on a disk (and permit it in the node's policy, etcd.backups), then plan again",
        );
    }
    let needed = needed(source, cx)?;
    match cx.host.free_bytes(directory) {
        Some(free) if free < needed => refuse(
            format!(
                "{} has {} MiB left, and a copy of {} may take {} MiB",
                directory.display(),
                free >> 20,
                source.name,
                needed >> 20
            ),
            "make room there, or name another directory and plan again",
        ),
        Some(_) | None => Ok(needed),
    }
}

fn needed(source: &Source, cx: &Context<'_>) -> Result<u64, StepError> {
    let Some(data_dir) = source.here.data_dir.as_ref().filter(|_| source.view.v2_keys == Some(true)) else {
        return Ok(source.db_bytes + LEFT);
    };
    let mut words = vec!["du", "-s", "-k", "--", data_dir];
    words.extend(source.here.wal_dir.as_deref());
    let command = Command::new(words);
    let exit = cx.host.run(&command).map_err(|error| failed(&error, NEXT))?;
    let size = |line: &str| line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    let kilobytes: Option<Vec<u64>> = exit.stdout.lines().map(size).collect();
    let kilobytes = kilobytes.filter(|sizes| exit.code == 0 && !sizes.is_empty());
    let Some(kilobytes) = kilobytes.map(|sizes| sizes.iter().sum::<u64>()) else {
        return Err(exit_failed(format!("how big {data_dir} is can't be told"), &exit, NEXT));
    };
    Ok(source.db_bytes + kilobytes * 1024 + LEFT)
}

fn run(command: &Command, cx: &Context<'_>) -> Result<(), StepError> {
    let exit = cx.host.run(command).map_err(|error| failed(&error, NEXT))?;
    if exit.code == 0 {
        return Ok(());
    }
    let what = format!("'{}' failed with exit code {}", command.argv.join(" "), exit.code);
    Err(exit_failed(what, &exit, NEXT))
}
