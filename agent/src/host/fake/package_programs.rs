//! apt, dpkg, yum, dnf and rpm of a fake machine, as far as the agent uses them. What packages do is in `packages`.

use super::packages::{Solution, is_older};
use super::{FakeMachine, PackageState};
use crate::host::{Command, Exit};
use wavegate_common::platform::{OsFamily, PackageManager};

fn exit(code: i32, stdout: impl Into<String>, stderr: impl Into<String>) -> Exit {
    Exit { code, stdout: stdout.into(), stderr: stderr.into() }
}

/// Runs a program that is a package manager or asks one; `None` for any other and for one that is not of this machine.
pub(super) fn run(machine: &mut FakeMachine, command: &Command) -> Option<Exit> {
    let debian = machine.platform.family == OsFamily::Debian;
    let program = command.argv.first()?.as_str();
    match program {
        "apt-get" if debian => Some(apt_get(machine, command)),
        "dpkg" if debian => Some(dpkg(machine, command)),
        "dpkg-query" if debian => Some(dpkg_query(machine, command)),
        "yum" | "dnf" if !debian && program == machine.platform.package_manager.as_str() => {
            Some(yum(machine, command))
        }
        "rpm" if !debian => Some(rpm(machine, command)),
        _ => None,
    }
}

/// A transaction that is cut off in the middle: its first package is unpacked, and nothing else happened.
pub(super) fn cut_short(machine: &mut FakeMachine, command: &Command) {
    let (_, specs) = operands(command, &["-o", "-c"]);
    let specs: Vec<String> = specs.iter().map(|spec| rpm_spec(machine, spec)).collect();
    let Ok(solution) = machine.solve(&specs, false) else { return };
    let Some(name) = solution.installs.first() else { return };
    let Some(package) = machine.available.get(name).cloned() else { return };
    machine.unpack(name, &package);
    match machine.platform.package_manager {
        PackageManager::Apt => machine.put_file("/var/lib/dpkg/updates/0001", ""),
        PackageManager::Yum => machine.put_file("/var/lib/yum/transaction-all.2026-11-22.12:00.00", ""),
        PackageManager::Dnf => {}
    }
    if machine.platform.family == OsFamily::RedHat
        && let Some(installed) = machine.installed.get_mut(name)
    {
        // rpm knows no half-configured packages: a scriptlet that did not run is forgotten. The unit's file is there.
        installed.state = PackageState::Configured;
        for unit in &package.units {
            super::services::unpacked(machine, unit);
        }
    }
}

/// Verb and operands; options that take a value are named.
fn operands(command: &Command, with_value: &[&str]) -> (String, Vec<String>) {
    let mut words = Vec::new();
    let mut arguments = command.argv.iter().skip(1);
    while let Some(argument) = arguments.next() {
        if with_value.contains(&argument.as_str()) {
            arguments.next();
        } else if !argument.starts_with('-') {
            words.push(argument.clone());
        }
    }
    let verb = if words.is_empty() { String::new() } else { words.remove(0) };
    (verb, words)
}

fn has(command: &Command, option: &str) -> bool {
    command.argv.iter().any(|argument| argument == option)
}

fn apt_get(machine: &mut FakeMachine, command: &Command) -> Exit {
    if has(command, "--version") {
        return exit(0, "apt 1.2.35 (amd64)\n", "");
    }
    let (verb, specs) = operands(command, &["-o", "-c"]);
    if verb == "update" {
        return exit(0, "Reading package lists...\n", "");
    }
    if has(command, "-f") && has(command, "-s") {
        return exit(0, "Reading package lists...\n", "");
    }
    if has(command, "-f") {
        let ended = machine.configure_pending();
        return ended.map_or_else(|error| exit(100, "", dpkg_failed(&error)), |()| exit(0, "", ""));
    }
    let simulate = has(command, "-s");
    let interrupted = machine.files.keys().any(|path| path.starts_with("/var/lib/dpkg/updates"));
    if !simulate && (interrupted || !machine.half_configured().is_empty()) {
        let stderr =
            "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.\n";
        return exit(100, "", stderr);
    }
    let solution = match machine.solve(&specs, verb == "dist-upgrade") {
        Ok(solution) => solution,
        Err(name) => return exit(100, "", format!("E: Unable to locate package {name}\n")),
    };
    if has(command, "--no-remove") && !solution.removes.is_empty() {
        return exit(100, "", "E: Packages need to be removed but remove is disabled.\n");
    }
    let older = older(machine, &solution);
    if !older.is_empty() && !has(command, "--allow-downgrades") {
        let stdout = format!("The following packages will be DOWNGRADED:\n  {}\n", older.join(" "));
        return exit(
            100,
            stdout,
            "E: Packages were downgraded and -y was used without --allow-downgrades.\n",
        );
    }
    let stdout = simulation_of_apt(machine, &solution);
    if simulate || has(command, "--download-only") {
        return exit(0, stdout, "");
    }
    match machine.carry_out(&solution) {
        Ok(()) => exit(0, stdout, ""),
        Err(error) => exit(100, stdout, dpkg_failed(&error)),
    }
}

/// Packages of a solution that are there in a newer version.
fn older(machine: &FakeMachine, solution: &Solution) -> Vec<String> {
    let older = |name: &&String| {
        let (there, offered) = (machine.installed.get(*name), machine.available.get(*name));
        there.zip(offered).is_some_and(|(there, offered)| is_older(&offered.version, &there.version))
    };
    solution.installs.iter().filter(older).cloned().collect()
}

fn dpkg_failed(error: &str) -> String {
    format!(
        "dpkg: error processing package: {error}\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n"
    )
}

fn simulation_of_apt(machine: &FakeMachine, solution: &Solution) -> String {
    let mut text = String::from("Reading package lists...\nBuilding dependency tree...\n");
    let old = |name: &String| {
        machine.installed.get(name).map_or_else(String::new, |it| format!("[{}] ", it.version))
    };
    for name in &solution.removes {
        text += &format!("Remv {name} {}\n", old(name));
    }
    for name in &solution.installs {
        let version = machine.available.get(name).map_or("", |package| package.version.as_str());
        text += &format!("Inst {name} {}({version} fake:stable [all])\n", old(name));
    }
    for name in &solution.installs {
        let version = machine.available.get(name).map_or("", |package| package.version.as_str());
        text += &format!("Conf {name} ({version} fake:stable [all])\n");
    }
    text
}

fn dpkg(machine: &mut FakeMachine, command: &Command) -> Exit {
    if !has(command, "--configure") {
        return exit(2, "", "dpkg: error: need an action option\n");
    }
    machine.files.retain(|path, _| !path.starts_with("/var/lib/dpkg/updates"));
    machine.configure_pending().map_or_else(|error| exit(1, "", dpkg_failed(&error)), |()| exit(0, "", ""))
}

fn dpkg_query(machine: &FakeMachine, command: &Command) -> Exit {
    let state = |name: &str| match machine.installed.get(name).map(|installed| installed.state) {
        Some(PackageState::HalfConfigured) => "install ok half-configured",
        Some(PackageState::Configured) => "install ok installed",
        None => "unknown ok not-installed",
    };
    let Some(end) = command.argv.iter().position(|argument| argument == "--") else {
        let rows = machine.installed.keys().map(|name| format!("{name}\t{}\n", state(name)));
        return exit(0, rows.collect::<String>(), "");
    };
    let names = &command.argv[end + 1..];
    if has(command, "-S") {
        let path = names.first().map_or("", String::as_str);
        return match machine.owner_of(path) {
            Some(name) => exit(0, format!("{name}: {path}\n"), ""),
            None => exit(1, "", format!("dpkg-query: no path found matching pattern {path}\n")),
        };
    }
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for name in names {
        match machine.installed.get(name) {
            Some(installed) if has(command, "-f=${Conffiles}\\n") => {
                let files = installed.files.iter().filter(|path| path.starts_with("/etc"));
                stdout += &files.map(|path| format!(" {} 0a1b2c\n", path.display())).collect::<String>();
            }
            Some(installed) => stdout += &format!("{name}\t{}\t{}\n", installed.version, state(name)),
            None => stderr += &format!("dpkg-query: no packages found matching {name}\n"),
        }
    }
    exit(i32::from(!stderr.is_empty()), stdout, stderr)
}

/// `NAME-VERSION` of yum and dnf as `NAME=VERSION`.
fn rpm_spec(machine: &FakeMachine, spec: &str) -> String {
    let known = |name: &str| machine.available.contains_key(name) || machine.installed.contains_key(name);
    if known(spec) {
        return spec.to_owned();
    }
    let pinned =
        spec.match_indices('-').map(|(at, _)| (&spec[..at], &spec[at + 1..])).find(|(name, _)| known(name));
    pinned.map_or_else(|| spec.to_owned(), |(name, version)| format!("{name}={version}"))
}

fn yum(machine: &mut FakeMachine, command: &Command) -> Exit {
    let (verb, specs) = operands(command, &[]);
    match verb.as_str() {
        "clean" => return exit(0, "", ""),
        "remove" => return exit(0, "Nothing to do.\n", ""),
        _ => {}
    }
    let everything = verb == "update" && specs.is_empty();
    let mut specs: Vec<String> = specs.iter().map(|spec| rpm_spec(machine, spec)).collect();
    if machine.platform.package_manager == PackageManager::Yum && verb != "downgrade" {
        specs.retain(|spec| !goes_back(machine, spec));
    }
    if verb == "install" {
        // As dnf does: what is there in any version is left alone.
        specs.retain(|spec| spec.contains('=') || !machine.installed.contains_key(spec));
    }
    let solution = match machine.solve(&specs, everything) {
        Ok(solution) => solution,
        Err(name) => {
            let text = format!("No match for argument: {name}\nError: Unable to find a match: {name}\n");
            return exit(1, "", text);
        }
    };
    if solution.installs.is_empty() && solution.removes.is_empty() {
        return exit(0, "Dependencies resolved.\nNothing to do.\nComplete!\n", "");
    }
    let table = table_of_yum(machine, &solution);
    if has(command, "--assumeno") {
        return exit(1, table, "Operation aborted.\n");
    }
    if has(command, "--downloadonly") {
        return exit(0, table, "");
    }
    let breaks: Vec<&String> = solution
        .installs
        .iter()
        .filter(|name| machine.available.get(*name).is_some_and(|package| package.breaks))
        .collect();
    if let Some(name) = breaks.first() {
        // A failing %pre is what keeps an rpm from being installed; the other packages of the transaction are.
        let stderr =
            format!("error: %prein({name}) scriptlet failed, exit status 1\nError: Transaction failed\n");
        return exit(1, table, stderr);
    }
    let ended = machine.carry_out(&solution);
    ended.map_or_else(|error| exit(1, "", error), |()| exit(0, format!("{table}Complete!\n"), ""))
}

/// yum's `install` and `update` leave alone what is there in a newer version.
fn goes_back(machine: &FakeMachine, spec: &str) -> bool {
    let Some((name, version)) = spec.split_once('=') else { return false };
    machine.installed.get(name).is_some_and(|there| is_older(version, &there.version))
}

fn table_of_yum(machine: &FakeMachine, solution: &Solution) -> String {
    let mut text =
        String::from("Dependencies resolved.\n====\n Package  Arch  Version  Repository  Size\n====\n");
    let row = |name: &str, version: &str| format!(" {name}  noarch  {version}  fake  5.0 k\n");
    let older = older(machine, solution);
    let (back, others): (Vec<&String>, Vec<&String>) =
        solution.installs.iter().partition(|name| older.contains(name));
    let (updates, news): (Vec<&String>, Vec<&String>) =
        others.into_iter().partition(|name| machine.installed.contains_key(*name));
    for (title, names) in [("Upgrading:", updates), ("Installing:", news), ("Downgrading:", back)] {
        if !names.is_empty() {
            text += &format!("{title}\n");
        }
        for name in names {
            text += &row(name, machine.available.get(name).map_or("", |package| package.version.as_str()));
        }
    }
    if !solution.removes.is_empty() {
        text += "Removing dependent packages:\n";
    }
    for name in &solution.removes {
        text += &row(name, machine.installed.get(name).map_or("", |installed| installed.version.as_str()));
    }
    text + "\nTransaction Summary\n====\n"
}

fn rpm(machine: &FakeMachine, command: &Command) -> Exit {
    let rows = |names: &mut dyn Iterator<Item = &String>, everything: bool| {
        let mut text = String::new();
        for name in names {
            match machine.installed.get(name) {
                Some(it) if everything => text += &format!("{name}.noarch\t{}\n", it.version),
                Some(it) => text += &format!("{name}\t{}\t{}\n", it.version, it.installed_at.0 / 1000),
                None => text += &format!("package {name} is not installed\n"),
            }
        }
        text
    };
    if has(command, "-qa") {
        return exit(0, rows(&mut machine.installed.keys(), true), "");
    }
    let end = command.argv.iter().position(|argument| argument == "--").unwrap_or(command.argv.len() - 1);
    let operands = &command.argv[end + 1..];
    if has(command, "-qc") {
        let files = operands.iter().filter_map(|name| machine.installed.get(name)).flat_map(|it| &it.files);
        let files = files.filter(|path| path.starts_with("/etc"));
        return exit(0, files.map(|path| format!("{}\n", path.display())).collect::<String>(), "");
    }
    if has(command, "-qf") {
        let path = operands.first().map_or("", String::as_str);
        return match machine.owner_of(path) {
            Some(name) => exit(0, format!("{name}\n"), ""),
            None => exit(1, format!("file {path} is not owned by any package\n"), ""),
        };
    }
    let missing = operands.iter().filter(|name| !machine.installed.contains_key(*name)).count();
    exit(i32::try_from(missing).unwrap_or(i32::MAX), rows(&mut operands.iter(), false), "")
}
