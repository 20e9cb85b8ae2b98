//! Other programs of a fake machine: `tar`, `mkdir`, Python with pip, and any program's `--version`.

use super::FakeMachine;
use crate::host::{Command, Exit};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the fake Python installs.
const LOCAL: &str = "/usr/local/lib/python3/dist-packages";

/// A Python distribution that no package owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeDistribution {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its metadata directory.
    pub path: PathBuf,
}

/// An archive that the fake `tar` unpacks: paths with their content.
#[must_use]
pub fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    serde_json::to_vec(&files).unwrap_or_default()
}

/// SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn sha256(content: &[u8]) -> String {
    crate::sha256::of(content)
}

fn printed(text: impl Into<String>) -> Exit {
    Exit { code: 0, stdout: text.into(), stderr: String::new() }
}

fn complaint(text: impl Into<String>) -> Exit {
    Exit { code: 1, stdout: String::new(), stderr: text.into() }
}

/// Runs one of these programs; `None` if the machine has no such program.
pub(super) fn run(machine: &mut FakeMachine, command: &Command) -> Option<Exit> {
    let words: Vec<&str> = command.argv.iter().map(String::as_str).collect();
    let path = machine.which(words.first()?)?;
    let arguments = &words[1..];
    match path.file_name()?.to_str()? {
        "mkdir" | "chmod" | "find" => Some(Exit::default()),
        "rm" => {
            let below = Path::new(words.last()?);
            machine.files.retain(|path, _| !path.starts_with(below));
            Some(Exit::default())
        }
        "du" => {
            let below = words.iter().skip_while(|word| **word != "--").skip(1);
            let line = |below: &&str| {
                let bytes = machine.files.iter().filter(|(path, _)| path.starts_with(below));
                let bytes: usize = bytes.map(|(_, file)| file.content.len()).sum();
                format!("{}\t{below}\n", bytes / 1024 + 4)
            };
            Some(printed(below.map(line).collect::<String>()))
        }
        // A fake machine has no links.
        "readlink" => Some(printed(format!("{}\n", words.last()?))),
        "tar" => Some(tar(machine, arguments)),
        "python" | "python2" | "python3" => Some(python(machine, arguments)),
        _ if arguments.contains(&"--version") => machine.files.get(&path)?.prints.clone().map(printed),
        _ => Some(complaint("the fake machine knows this program only by --version\n")),
    }
}

fn tar(machine: &mut FakeMachine, arguments: &[&str]) -> Exit {
    let after = |option: &str| {
        let at = arguments.iter().position(|argument| *argument == option)?;
        arguments.get(at + 1).copied()
    };
    let (Some(archive), Some(directory)) = (after("-xzf"), after("-C")) else {
        return complaint("tar: the fake machine knows -xzf ARCHIVE -C DIRECTORY\n");
    };
    let content = machine.files.get(Path::new(archive)).map(|file| file.content.clone()).unwrap_or_default();
    let Ok(files) = serde_json::from_slice::<BTreeMap<String, String>>(&content) else {
        return complaint(format!("tar: {archive}: not in gzip format\n"));
    };
    for (path, content) in files {
        machine.put_program(Path::new(directory).join(path), &content);
    }
    Exit::default()
}

fn python(machine: &mut FakeMachine, arguments: &[&str]) -> Exit {
    match arguments {
        ["-c", script, directory, ..] if script.contains("setup.py") => setup_install(machine, directory),
        ["-c", _, names @ ..] => {
            let place = |place: &Path| format!("place\t{}\n", place.display());
            let copy = |found: &FakeDistribution| {
                format!("copy\t{}\t{}\t{}\n", found.name, found.version, found.path.display())
            };
            let named = machine.distributions.iter().filter(|found| names.contains(&found.name.as_str()));
            let places = machine.distributions.iter().filter_map(|found| found.path.parent());
            let places: BTreeSet<&Path> = places.chain([Path::new(LOCAL)]).collect();
            printed(places.into_iter().map(place).chain(named.map(copy)).collect::<String>())
        }
        ["-m", "pip", "uninstall", .., name] => {
            machine.distributions.retain(|found| found.name != *name);
            printed(format!("Successfully uninstalled {name}\n"))
        }
        _ => complaint("python: the fake machine does not know this\n"),
    }
}

/// The fake archive's `setup.py` holds the distribution's name and version, divided by a space.
fn setup_install(machine: &mut FakeMachine, directory: &str) -> Exit {
    let setup = machine.files.get(&Path::new(directory).join("setup.py"));
    let text = setup.map(|file| String::from_utf8_lossy(&file.content).into_owned()).unwrap_or_default();
    let Some((name, version)) = text.trim().split_once(' ') else {
        return complaint("FileNotFoundError: setup.py\n");
    };
    let path = PathBuf::from(format!("{LOCAL}/{name}-{version}.egg-info"));
    machine.put_file(path.clone(), text.clone());
    machine.distributions.retain(|found| found.name != name);
    let distribution = FakeDistribution { name: name.to_owned(), version: version.to_owned(), path };
    machine.distributions.push(distribution);
    printed(format!("Installed {name} {version}\n"))
}
