//! What `systemctl` and `journalctl` do to a fake machine (upstart's programs are in `upstart`), and how its services
//! live: systemd with `KillMode=process`, and upstart whose daemons leave its process group, so that what a service
//! started outlives it and is adopted by its next process.

use super::{FakeMachine, FakeService, FakeUnit, etcd, upstart};
use crate::host::{Command, Exit};
use std::path::Path;
use wavegate_common::platform::{OsFamily, PackageManager, ServiceManager};

/// Runs a program of the machine's service manager; `None` for any other.
pub(super) fn run(machine: &mut FakeMachine, command: &Command) -> Option<Exit> {
    if machine.platform.service_manager == ServiceManager::Upstart {
        return upstart::run(machine, command);
    }
    let words: Vec<&str> = command.argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["systemctl", "daemon-reload"] => Some(Exit::default()),
        ["systemctl", "list-units", ..] => Some(printed(&list(machine, false))),
        ["systemctl", "list-unit-files", ..] => Some(printed(&list(machine, true))),
        ["systemctl", "mask", "--runtime", "--", unit] => Some(mask_for_now(machine, name(unit), true)),
        ["systemctl", "unmask", "--runtime", "--", unit] => Some(mask_for_now(machine, name(unit), false)),
        ["systemctl", "show", "-p", "ExecStart", "--", unit] => {
            Some(printed(&exec_start(machine, name(unit))))
        }
        ["systemctl", "show", "-p", _, "--", units @ ..] => {
            let answers: Vec<String> = units.iter().map(|unit| show(machine, name(unit))).collect();
            Some(printed(&answers.join("\n")))
        }
        ["systemctl", "is-enabled", "--", unit] => Some(is_enabled(machine, name(unit))),
        ["systemctl", verb, .., unit] => Some(systemctl(machine, verb, name(unit))),
        ["journalctl", "-u", unit, ..] => {
            Some(printed(&format!("{}: exited, status=1/FAILURE\n", name(unit))))
        }
        _ => None,
    }
}

/// A service that is new on the machine.
pub(super) fn bring(machine: &mut FakeMachine, unit: &str, service: FakeService) {
    machine.services.insert(unit.to_owned(), service);
    if machine.platform.service_manager == ServiceManager::Upstart {
        upstart::bring(machine, unit);
    }
}

/// The file of a service, as the package brings it, before its scripts run; whether it was known before.
pub(super) fn unpacked(machine: &mut FakeMachine, unit: &FakeUnit) -> bool {
    let there = machine.services.get(&unit.name);
    // Of a service that was masked before it came there is nothing but the mask.
    let masked_for_now = there.is_some_and(|service| service.masked_for_now);
    let known = there.is_some_and(|service| !service.argv.is_empty());
    if !known {
        bring(machine, &unit.name, FakeService { masked_for_now, ..unit.service.clone() });
    }
    known
}

/// What a package's scripts do with the service that it brings, after it was unpacked.
pub(super) fn configured(machine: &mut FakeMachine, unit: &FakeUnit, update: bool) {
    let known = unpacked(machine, unit);
    let Some(service) = machine.services.get_mut(&unit.name) else { return };
    let (active, masked) = (service.active, service.masked);
    let new = unit.starts && !(known && update) && !masked;
    match machine.platform.service_manager {
        ServiceManager::Systemd => service.enabled |= new,
        ServiceManager::Upstart => {}
    }
    if denied(machine, &unit.name) {
        return;
    }
    let Some(service) = machine.services.get(&unit.name) else { return };
    let starts = match machine.platform.service_manager {
        ServiceManager::Systemd => new,
        // `invoke-rc.d NAME start` in every postinst, which passes over a job that no event starts.
        ServiceManager::Upstart => unit.starts && service.enabled,
    };
    if unit.restarts && active && update {
        stop(machine, &unit.name);
        // By systemd's helper whether or not it is enabled; on upstart what was set to manual stays down.
        if starts || machine.platform.service_manager == ServiceManager::Systemd {
            start(machine, &unit.name);
        }
    } else if starts {
        start(machine, &unit.name);
    }
}

/// Whether the machine's policy (`invoke-rc.d`, on Debian's side) forbids scripts of packages to start or stop a service.
fn denied(machine: &FakeMachine, unit: &str) -> bool {
    let policy = machine.files.get(Path::new("/usr/sbin/policy-rc.d"));
    let text = policy.map(|file| String::from_utf8_lossy(&file.content).into_owned()).unwrap_or_default();
    let names =
        text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.@".contains(c)).any(|word| word == unit);
    machine.platform.family == OsFamily::Debian && names && text.contains("101")
}

/// Starts a service that is down; `false` if that fails.
pub(super) fn start(machine: &mut FakeMachine, unit: &str) -> bool {
    let Some(service) = machine.services.get(unit) else { return false };
    if service.active {
        return true;
    }
    let program = service.argv.first().map_or("", String::as_str);
    if service.masked || service.masked_for_now || service.broken || machine.which(program).is_none() {
        return false;
    }
    let argv = service.argv.clone();
    let pid = machine.spawn(&argv);
    if let Some(service) = machine.services.get_mut(unit) {
        (service.active, service.main_pid, service.restarts) = (true, Some(pid), 0);
    }
    if !etcd::settle(machine, false) {
        ended(machine, pid);
        return false;
    }
    keep_children(machine, unit);
    true
}

/// Stops a service: its main process ends, its children live on.
pub(super) fn stop(machine: &mut FakeMachine, unit: &str) {
    if let Some(pid) = machine.services.get(unit).and_then(|service| service.main_pid) {
        is_gone(machine, pid);
        etcd::settle(machine, true);
    }
}

/// Stops a service and starts it again; `false` if the start fails.
pub(crate) fn restart(machine: &mut FakeMachine, unit: &str) -> bool {
    stop(machine, unit);
    start(machine, unit)
}

/// The main process of a service has died, and systemd starts another.
pub(crate) fn restart_by_itself(machine: &mut FakeMachine, unit: &str) {
    let before = machine.services.get(unit).map_or(0, |service| service.restarts);
    restart(machine, unit);
    if let Some(service) = machine.services.get_mut(unit) {
        service.restarts = before + 1;
    }
}

/// A process is gone, and with it the service whose main process it was.
pub(super) fn ended(machine: &mut FakeMachine, pid: u32) {
    is_gone(machine, pid);
    etcd::settle(machine, false);
}

fn is_gone(machine: &mut FakeMachine, pid: u32) {
    machine.processes.remove(&pid);
    for service in machine.services.values_mut().filter(|service| service.main_pid == Some(pid)) {
        (service.active, service.main_pid) = (false, None);
    }
}

/// Time passes: services start the children that are missing, and those that flap have died and been started again.
pub(super) fn tick(machine: &mut FakeMachine) {
    let active = machine.services.iter().filter(|(_, service)| service.active);
    let units: Vec<(String, bool)> = active.map(|(unit, service)| (unit.clone(), service.flaps)).collect();
    for (unit, flaps) in units {
        if flaps {
            restart_by_itself(machine, &unit);
        }
        keep_children(machine, &unit);
    }
}

/// As Neutron's ProcessMonitor does: what the pid file names is adopted if it lives, whatever file it runs.
fn keep_children(machine: &mut FakeMachine, unit: &str) {
    let children = machine.services.get(unit).map(|service| service.children.clone()).unwrap_or_default();
    for child in children {
        if live_pid(machine, &child.pid_file).is_none() {
            let pid = machine.spawn(&child.argv);
            machine.put_file(child.pid_file, format!("{pid}\n"));
        }
    }
}

fn live_pid(machine: &FakeMachine, pid_file: &Path) -> Option<u32> {
    let text = String::from_utf8(machine.files.get(pid_file)?.content.clone()).ok()?;
    let pid = text.trim().parse().ok()?;
    machine.processes.contains_key(&pid).then_some(pid)
}

fn name(unit: &str) -> &str {
    unit.strip_suffix(".service").unwrap_or(unit)
}

/// `/proc/PID/cgroup` of a service's main process, where systemd runs it.
pub(super) fn cgroup(machine: &FakeMachine, path: &Path) -> Option<Vec<u8>> {
    let pid = path.to_str()?.strip_prefix("/proc/")?.strip_suffix("/cgroup")?.parse().ok()?;
    let (unit, _) = machine.services.iter().find(|(_, service)| service.main_pid == Some(pid))?;
    let systemd = machine.platform.service_manager == ServiceManager::Systemd;
    systemd.then(|| format!("1:name=systemd:/system.slice/{unit}.service\n").into_bytes())
}

fn printed(text: &str) -> Exit {
    Exit { code: 0, stdout: text.to_owned(), stderr: String::new() }
}

fn refused(code: i32, text: String) -> Exit {
    Exit { code, stdout: String::new(), stderr: text }
}

fn show(machine: &FakeMachine, unit: &str) -> String {
    let absent = FakeService::default();
    let service = machine.services.get(unit);
    let known = service.is_some();
    let service = service.unwrap_or(&absent);
    let (load, file) = match (known, unit_file_state(service)) {
        (false, _) => ("not-found", ""),
        // Of a mask systemd 219, which is where yum is, knows no more here.
        (true, file)
            if file.starts_with("masked") && machine.platform.package_manager == PackageManager::Yum =>
        {
            ("masked", "bad")
        }
        (true, file) if file.starts_with("masked") => ("masked", file),
        (true, file) => ("loaded", file),
    };
    let (active, sub) = if service.active { ("active", "running") } else { ("inactive", "dead") };
    // systemd 219 does not count them.
    let restarts = match machine.platform.package_manager {
        PackageManager::Yum => String::new(),
        PackageManager::Apt | PackageManager::Dnf => format!("NRestarts={}\n", service.restarts),
    };
    format!(
        "LoadState={load}\nActiveState={active}\nSubState={sub}\nUnitFileState={file}\nMainPID={}\n\
         {restarts}Result=success\n",
        service.main_pid.unwrap_or(0),
    )
}

fn is_enabled(machine: &FakeMachine, unit: &str) -> Exit {
    let Some(service) = machine.services.get(unit) else {
        return refused(
            1,
            format!("Failed to get unit file state for {unit}.service: No such file or directory\n"),
        );
    };
    let file = unit_file_state(service);
    Exit { code: i32::from(file != "enabled"), ..printed(&format!("{file}\n")) }
}

fn exec_start(machine: &FakeMachine, unit: &str) -> String {
    let Some(service) = machine.services.get(unit).filter(|service| !service.masked) else {
        return String::new();
    };
    let path = service.argv.first().map_or("", String::as_str);
    format!("ExecStart={{ path={path} ; argv[]={} ; ignore_errors=no ; pid=0 }}\n", service.argv.join(" "))
}

fn unit_file_state(service: &FakeService) -> &'static str {
    match (service.masked, service.masked_for_now, service.enabled) {
        (true, _, _) => "masked",
        (false, true, _) => "masked-runtime",
        (false, false, true) => "enabled",
        (false, false, false) => "disabled",
    }
}

/// `list-units --state=running`, or `list-unit-files`.
fn list(machine: &FakeMachine, files: bool) -> String {
    let row = |(unit, service): (&String, &FakeService)| match (files, service.active) {
        (true, _) => format!("{unit}.service {}\n", unit_file_state(service)),
        (false, true) => format!("{unit}.service loaded active running {unit}\n"),
        (false, false) => String::new(),
    };
    machine.services.iter().map(row).collect()
}

/// Works for a unit that is not there, too.
fn mask_for_now(machine: &mut FakeMachine, unit: &str, mask: bool) -> Exit {
    if mask {
        machine.services.entry(unit.to_owned()).or_default().masked_for_now = true;
    } else if let Some(service) = machine.services.get_mut(unit) {
        service.masked_for_now = false;
        if service.argv.is_empty() {
            machine.services.remove(unit);
        }
    }
    Exit::default()
}

fn systemctl(machine: &mut FakeMachine, verb: &str, unit: &str) -> Exit {
    let Some(service) = machine.services.get_mut(unit) else {
        return refused(5, format!("Failed to {verb} {unit}.service: Unit {unit}.service not found.\n"));
    };
    if (service.masked || service.masked_for_now) && matches!(verb, "start" | "restart" | "enable") {
        return refused(1, format!("Failed to {verb} {unit}.service: Unit {unit}.service is masked.\n"));
    }
    let started = match verb {
        "enable" | "disable" => {
            service.enabled = verb == "enable";
            true
        }
        "mask" | "unmask" => {
            service.masked = verb == "mask";
            true
        }
        "is-active" if !service.active => return refused(3, "inactive\n".to_owned()),
        "start" => start(machine, unit),
        "restart" => restart(machine, unit),
        "stop" => {
            stop(machine, unit);
            true
        }
        _ => true,
    };
    if started {
        return Exit::default();
    }
    refused(1, format!("Job for {unit}.service failed because the control process exited with error code.\n"))
}
