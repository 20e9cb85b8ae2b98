//! What upstart's programs do to a fake machine: `initctl` and the names that stand for its verbs, and `service`. Jobs are
//! described in `/etc/init`; what upstart has read of it is `FakeService::enabled`, until it reads again.

use super::{FakeMachine, services};
use crate::host::{Command, Exit};
use std::path::PathBuf;

/// Runs one of the programs; `None` for any other.
pub(super) fn run(machine: &mut FakeMachine, command: &Command) -> Option<Exit> {
    let words: Vec<&str> = command.argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["initctl", "version"] => Some(printed("init (upstart 1.12.1)\n")),
        ["initctl", "reload-configuration"] => {
            read_files(machine);
            Some(Exit::default())
        }
        ["initctl", "list"] => {
            let units: Vec<String> = machine.services.keys().cloned().collect();
            Some(printed(&units.iter().map(|unit| status(machine, unit)).collect::<String>()))
        }
        ["initctl", "show-config"] => {
            let units: Vec<String> = machine.services.keys().cloned().collect();
            Some(printed(&units.iter().map(|unit| config(machine, unit)).collect::<String>()))
        }
        ["initctl", verb, unit] => Some(initctl(machine, "initctl", verb, unit)),
        [verb @ ("start" | "stop" | "status" | "restart"), unit] => Some(initctl(machine, verb, verb, unit)),
        ["service", unit, "restart"] => {
            // As /usr/sbin/service of Ubuntu 14.04 does: what is down is started.
            let _ = initctl(machine, "stop", "stop", unit);
            Some(initctl(machine, "start", "start", unit))
        }
        ["service", unit, verb] => Some(initctl(machine, verb, verb, unit)),
        ["tail", .., path] => Some(match machine.files.get(&PathBuf::from(path)) {
            Some(file) => printed(&String::from_utf8_lossy(&file.content)),
            None => Exit { code: 1, stderr: format!("tail: cannot open '{path}'\n"), ..Exit::default() },
        }),
        _ => None,
    }
}

/// A package brings a job, or a person does. Its file stays as it is, if it is there; upstart sees new files by itself.
pub(super) fn bring(machine: &mut FakeMachine, unit: &str) {
    let path = PathBuf::from(format!("/etc/init/{unit}.conf"));
    let argv = machine.services.get(unit).map(|service| service.argv.join(" ")).unwrap_or_default();
    if !machine.files.contains_key(&path) {
        let job = format!("start on runlevel [2345]\nstop on runlevel [!2345]\nrespawn\nexec {argv}\n");
        machine.put_file(path, job);
    }
    read_files(machine);
}

/// Reads all job files, as upstart does at boot too.
pub(super) fn read_files(machine: &mut FakeMachine) {
    let units: Vec<String> = machine.services.keys().cloned().collect();
    for unit in units {
        let lines = |suffix: &str| {
            let file = machine.files.get(&PathBuf::from(format!("/etc/init/{unit}.{suffix}")));
            file.map(|file| String::from_utf8_lossy(&file.content).into_owned()).unwrap_or_default()
        };
        let starts = lines("conf").lines().any(|line| line.starts_with("start on"));
        let manual = lines("override").lines().any(|line| line.trim() == "manual");
        if let Some(service) = machine.services.get_mut(&unit) {
            service.enabled = starts && !manual;
        }
    }
}

fn initctl(machine: &mut FakeMachine, program: &str, verb: &str, unit: &str) -> Exit {
    let refused =
        |text: String| Exit { code: 1, stdout: String::new(), stderr: format!("{program}: {text}\n") };
    let Some(active) = machine.services.get(unit).map(|service| service.active) else {
        return refused(format!("Unknown job: {unit}"));
    };
    match verb {
        "status" => {}
        "show-config" => return printed(&config(machine, unit)),
        "start" if active => return refused(format!("Job is already running: {unit}")),
        "stop" | "restart" if !active => return refused("Unknown instance: ".to_owned()),
        "stop" => services::stop(machine, unit),
        "start" => {
            if !services::start(machine, unit) {
                let log = format!("{unit}: exited, status=1/FAILURE\n");
                machine.put_file(format!("/var/log/upstart/{unit}.log"), log);
                return refused("Job failed to start".to_owned());
            }
        }
        "restart" => {
            services::restart(machine, unit);
        }
        _ => return refused(format!("invalid command: {verb}")),
    }
    printed(&status(machine, unit))
}

fn status(machine: &FakeMachine, unit: &str) -> String {
    match machine.services.get(unit).and_then(|service| service.main_pid.filter(|_| service.active)) {
        Some(pid) => format!("{unit} start/running, process {pid}\n"),
        None => format!("{unit} stop/waiting\n"),
    }
}

fn config(machine: &FakeMachine, unit: &str) -> String {
    let starts = machine.services.get(unit).is_some_and(|service| service.enabled);
    let start = if starts { "  start on runlevel [2345]\n" } else { "" };
    format!("{unit}\n{start}  stop on runlevel [!2345]\n")
}

fn printed(text: &str) -> Exit {
    Exit { code: 0, stdout: text.to_owned(), stderr: String::new() }
}
