//! What of a machine matters after an upgrade: not its clock, nor process ids. Two machines of one kind that were upgraded
//! look alike, whatever happened on the way.

use std::collections::BTreeMap;
use std::path::Path;
use wavegate_agent::host::fake::{FakeMachine, has_effect};

/// How a machine looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looks {
    /// Everything that matters, by what it is about: `package NAME`, `service NAME`, `file PATH`, `stale COMMAND`.
    pub state: BTreeMap<String, String>,
    /// Programs that change something, each with how often it was run.
    pub effects: BTreeMap<String, u64>,
    /// Ids of the processes that are nobody's business: those of libvirt.
    pub bystanders: Vec<u32>,
}

impl Looks {
    /// How a machine looks now.
    #[must_use]
    pub fn of(machine: &FakeMachine) -> Self {
        let mut state = BTreeMap::new();
        for (name, package) in &machine.installed {
            state.insert(format!("package {name}"), format!("{} {:?}", package.version, package.state));
        }
        for (name, service) in &machine.services {
            let is = (service.active, service.enabled, service.masked);
            state.insert(format!("service {name}"), format!("active, enabled, masked: {is:?}"));
        }
        for (path, file) in machine.files.iter().filter(|(path, _)| !is_moving(path)) {
            state.insert(
                format!("file {}", without_attempt(&path.display().to_string())),
                String::from_utf8_lossy(&file.content).into_owned(),
            );
        }
        let libvirts = |line: &str| line.contains("libvirt");
        let mut bystanders = Vec::new();
        for (pid, process) in &machine.processes {
            let line = process.cmdline.join(" ");
            let current = machine.files.get(&process.exe).is_some_and(|file| file.inode == process.inode);
            if libvirts(&line) {
                bystanders.push(*pid);
            } else if !current {
                state.insert(format!("stale {line}"), "runs a file that was replaced".to_owned());
            }
        }
        let mut effects = BTreeMap::new();
        for line in machine.history.iter().filter(|line| has_effect(line)) {
            *effects.entry(line_without_pid(line)).or_insert(0) += 1;
        }
        Self { state, effects, bystanders }
    }

    /// What is otherwise than on another machine, a line each; empty if nothing is.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let both = self.state.keys().chain(other.state.keys()).collect::<std::collections::BTreeSet<_>>();
        let short =
            |state: Option<&String>| state.map_or("nothing".to_owned(), |text| format!("{text:.120?}"));
        both.into_iter()
            .filter(|key| self.state.get(*key) != other.state.get(*key))
            .map(|key| {
                format!("{key}: {} instead of {}", short(self.state.get(key)), short(other.state.get(key)))
            })
            .collect()
    }
}

/// What changes at every boot, and what package managers and the agent keep for themselves.
fn is_moving(path: &Path) -> bool {
    let elsewhere = ["/var/lib/wavegate", "/var/lib/yum"].iter().any(|start| path.starts_with(start));
    elsewhere || path.ends_with("pid") || path.ends_with("boot_id")
}

/// A file that was replaced is kept under a name with the rollout and the attempt in it.
fn without_attempt(path: &str) -> String {
    let Some((file, kept)) = path.split_once(".wavegate-") else { return path.to_owned() };
    let parts: Vec<&str> = kept
        .split('-')
        .filter(|part| !part.trim_start_matches('r').bytes().all(|b| b.is_ascii_digit()))
        .collect();
    format!("{file}.wavegate-{}", parts.join("-"))
}

/// A signal goes to another id on every machine.
fn line_without_pid(line: &str) -> String {
    match line.split_once(' ') {
        Some(("kill", rest)) => format!("kill {}", rest.split(' ').next().unwrap_or_default()),
        _ => line.to_owned(),
    }
}
