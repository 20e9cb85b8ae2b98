//! `etcdctl` and `etcdutl` of a fake machine, as far as backups use them.

use super::super::FakeMachine;
use crate::host::{Command, Exit};
use std::path::{Path, PathBuf};

/// Runs one of the programs, if it is asked for something other than its version; `None` otherwise.
pub(in crate::host::fake) fn run(machine: &mut FakeMachine, command: &Command) -> Option<Exit> {
    let words: Vec<&str> = command.argv.iter().map(String::as_str).collect();
    let (program, arguments) = words.split_first()?;
    if !["etcdctl", "etcdutl"]
        .iter()
        .any(|name| Path::new(program).file_name().is_some_and(|file| file == *name))
    {
        return None;
    }
    let after = |option: &str| {
        arguments
            .iter()
            .zip(arguments.iter().skip(1))
            .find(|(word, _)| **word == option)
            .map(|(_, value)| *value)
    };
    match arguments {
        ["snapshot", "status", file, ..] => Some(match machine.files.get(Path::new(file)) {
            Some(_) => Exit {
                stdout: "{\"hash\":1,\"revision\":5000,\"totalKey\":2,\"totalSize\":20480}\n".to_owned(),
                ..Exit::default()
            },
            None => Exit {
                code: 1,
                stderr: format!("stat {file}: no such file or directory\n"),
                ..Exit::default()
            },
        }),
        ["backup", ..] => Some(match (after("--data-dir"), after("--backup-dir")) {
            (Some(data), Some(backup)) => {
                let log =
                    after("--wal-dir").map_or_else(|| Path::new(data).join("member/wal"), PathBuf::from);
                copy(machine, Path::new(data), &log, Path::new(backup))
            }
            _ => Exit { code: 1, stderr: "etcdctl: no directory is named\n".to_owned(), ..Exit::default() },
        }),
        _ => None,
    }
}

fn copy(machine: &mut FakeMachine, data: &Path, log: &Path, backup: &Path) -> Exit {
    let snap = data.join("member/snap");
    let found: Vec<(PathBuf, Vec<u8>)> = machine
        .files
        .iter()
        .filter_map(|(path, file)| {
            let below = |from: &Path, to: &str| {
                Some(backup.join("member").join(to).join(path.strip_prefix(from).ok()?))
            };
            Some((below(&snap, "snap").or_else(|| below(log, "wal"))?, file.content.clone()))
        })
        .collect();
    for directory in [&snap, log] {
        if machine.files.keys().any(|path| path.starts_with(directory)) {
            continue;
        }
        let stderr = format!("open {}: no such file or directory\n", directory.display());
        return Exit { code: 1, stderr, ..Exit::default() };
    }
    for (path, content) in found {
        machine.put_file(path, content);
    }
    Exit::default()
}
