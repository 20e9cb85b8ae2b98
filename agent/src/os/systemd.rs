//! systemd as command lines and as the answers that `systemctl` gives; made for systemd 219 (RHEL 7) and later, so
//! without `--value` and `-P`. Nothing here runs a program.

use super::packages::Unreadable;
use super::service::{Activity, KeptDown, ServiceState};
use crate::host::Command;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The directory whose presence says that systemd is PID 1 (`sd_booted(3)`).
pub const BOOTED: &str = "/run/systemd/system";

/// How long `systemctl` may take for a start or a stop: above systemd's own limit of 90 s for either.
const START_STOP: Duration = Duration::from_secs(200);

/// The properties asked for. `NRestarts` came with systemd 235; older ones leave it out of the answer.
const PROPERTIES: &str = "LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,Result";

/// Init scripts that a boot starts, as links `S20name`: services without a unit file, which systemd wraps.
pub const INIT_SCRIPTS: &str = "/etc/rc3.d";

/// Instances of these come and go with people who log in.
const LOGINS: [&str; 4] = ["user@", "getty@", "autovt@", "serial-getty@"];

/// Reads the answer to [`show`] for one service: a property a line. One that was not asked for is passed over.
///
/// # Errors
/// [`Unreadable`] for a line that is no property, a number that is none, and an answer that does not tell the state.
pub fn read_state(text: &str) -> Result<ServiceState, Unreadable> {
    let unreadable = |line: &str| Unreadable { what: "answer of systemctl show", text: line.to_owned() };
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once('=').ok_or_else(|| unreadable(line))?;
        found.insert(name, value);
    }
    let number = |name: &str| match found.get(name) {
        None | Some(&"") => Ok(None),
        Some(value) => value.parse::<u32>().map(Some).map_err(|_| unreadable(&format!("{name}={value}"))),
    };
    let (Some(load), Some(active)) = (found.get("LoadState"), found.get("ActiveState")) else {
        return Err(unreadable(text.trim_end()));
    };
    let property = |name: &str| found.get(name).copied().unwrap_or_default();
    // Up to systemd 237 or so a mask has the state of the file that it leads to, /dev/null: `bad`, or none at all
    // (systemd's issue 7994).
    let file = match (*load, property("UnitFileState")) {
        ("masked", file) if !names_mask(file) => "masked",
        (_, file) => file,
    };
    let words = match property("Result") {
        "" | "success" => format!("{active} ({})", property("SubState")),
        result => format!("{active} ({}, {result})", property("SubState")),
    };
    Ok(ServiceState {
        installed: *load != "not-found",
        activity: match *active {
            "active" | "reloading" => Activity::Active,
            "inactive" | "failed" => Activity::Down,
            "activating" | "deactivating" | "maintenance" => Activity::OnItsWay,
            _ => return Err(unreadable(&format!("ActiveState={active}"))),
        },
        kept_down: match (*load, file) {
            (_, "masked-runtime") => KeptDown::ForNow,
            ("masked", _) | (_, "masked") => KeptDown::ForGood,
            _ => KeptDown::No,
        },
        starts_at_boot: matches!(file, "enabled" | "static" | "indirect"),
        enabled: file.starts_with("enabled"),
        main_pid: number("MainPID")?.filter(|pid| *pid != 0),
        restarts: number("NRestarts")?,
        words,
        boot_words: file.to_owned(),
    })
}

/// Whether the state of a unit file says which mask it is.
fn names_mask(file: &str) -> bool {
    matches!(file, "masked" | "masked-runtime")
}

/// Whether the answer to [`show`] is of a mask, and does not say until when it holds; [`is_enabled`] does.
#[must_use]
pub fn mask_in_question(text: &str) -> bool {
    let of = |name: &str| text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix('='));
    of("LoadState") == Some("masked") && !of("UnitFileState").is_some_and(names_mask)
}

/// Whether the answer to [`is_enabled`], of a unit that is masked, is that the mask holds until the next boot. systemd 237
/// answers `enabled` of one that has drop-ins (its issue 8328): that is then taken for a mask for good.
#[must_use]
pub fn is_mask_for_now(text: &str) -> bool {
    text.trim() == "masked-runtime"
}

/// Reads the answer to [`exec_start`]: the command lines, each with the program's path first, which the arguments may
/// name otherwise; a line each. Empty for a service that has none.
///
/// # Errors
/// [`Unreadable`] for a line of another form than
/// `ExecStart={ path=/usr/bin/etcd ; argv[]=/usr/bin/etcd --name a ; ignore_errors=no ; ... }`.
pub fn read_exec_start(text: &str) -> Result<String, Unreadable> {
    let read = |line: &str| {
        let value = line.strip_prefix("ExecStart=")?;
        if value.is_empty() {
            return Some(String::new());
        }
        let value = value.strip_prefix("{ path=")?;
        let (path, rest) = value.split_once(" ; argv[]=")?;
        let (arguments, _) = rest.rsplit_once(" ; ignore_errors=")?;
        Some(
            format!("{path} {}", arguments.strip_prefix(path).unwrap_or(arguments).trim_start())
                .trim_end()
                .to_owned(),
        )
    };
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(|line| {
        read(line).ok_or_else(|| Unreadable { what: "answer of systemctl show", text: line.to_owned() })
    });
    Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// Reads the answer to [`running`]: the names of the units, with their type.
///
/// # Errors
/// [`Unreadable`] for a line that does not begin with a service.
pub fn read_running(text: &str) -> Result<BTreeSet<String>, Unreadable> {
    let unit = |line: &str| {
        // A unit that needs attention has a dot before it.
        let name = line.split_whitespace().find(|word| !matches!(*word, "●" | "*"))?;
        name.ends_with(".service").then(|| name.to_owned())
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            unit(line)
                .ok_or_else(|| Unreadable { what: "line of systemctl list-units", text: line.to_owned() })
        })
        .collect()
}

/// Reads the answer to [`unit_files`]: whether each unit file is `enabled`, `disabled`, `static`, or something else.
///
/// # Errors
/// [`Unreadable`] for a line that is not a service and its state.
pub fn read_unit_files(text: &str) -> Result<BTreeMap<String, String>, Unreadable> {
    let file = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, state) = (words.next()?, words.next()?);
        name.ends_with(".service").then(|| (name.to_owned(), state.to_owned()))
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            file(line).ok_or_else(|| Unreadable {
                what: "line of systemctl list-unit-files",
                text: line.to_owned(),
            })
        })
        .collect()
}

/// Those of the running units that come up at boot by themselves, without `.service`: an enabled unit file, an instance
/// of an enabled template, or an init script among `scripts`, the names in [`INIT_SCRIPTS`].
#[must_use]
pub fn running_at_boot(
    running: &BTreeSet<String>,
    files: &BTreeMap<String, String>,
    scripts: &[String],
) -> BTreeSet<String> {
    let starts = |unit: &&String| {
        let name = service_name(unit);
        let template = name.split_once('@').map(|(template, _)| format!("{template}@.service"));
        let file = files.get(*unit).or_else(|| files.get(&template?));
        match file.map(String::as_str) {
            Some("enabled") => true,
            // What is no unit file has no state, or one that says that a generator made it.
            None | Some("generated" | "bad") => scripts.iter().any(|script| is_link_of(script, name)),
            Some(_) => false,
        }
    };
    let login = |unit: &&String| LOGINS.iter().any(|start| unit.starts_with(start));
    let named = running.iter().filter(starts).filter(|unit| !login(unit));
    named.map(|unit| service_name(unit).to_owned()).collect()
}

/// `S20bird` starts `bird`.
fn is_link_of(script: &str, name: &str) -> bool {
    let number = script.strip_prefix('S').and_then(|rest| rest.strip_suffix(name));
    number.is_some_and(|number| number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A service's name without its type; a name of another type keeps it.
#[must_use]
pub fn service_name(unit: &str) -> &str {
    unit.strip_suffix(".service").unwrap_or(unit)
}

/// A service's full name; a name that has a type keeps it.
#[must_use]
pub fn unit_name(unit: &str) -> String {
    let types = [".service", ".socket", ".target", ".timer"];
    if types.iter().any(|suffix| unit.ends_with(suffix)) {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    }
}

/// Asks what systemd knows of services. Exits with 0 for an unknown one too.
#[must_use]
pub fn show(units: &[&str]) -> Command {
    let question = ["systemctl", "show", "-p", PROPERTIES, "--"].map(str::to_owned);
    Command::new(question.into_iter().chain(units.iter().map(|unit| unit_name(unit))))
}

/// Parts the answer to [`show`] into those for each of so many services, in the order in which they were asked for: an empty line
/// is between two.
///
/// # Errors
/// [`Unreadable`] if it is of another number of them.
pub fn parted(text: &str, services: usize) -> Result<Vec<&str>, Unreadable> {
    if services == 1 {
        return Ok(vec![text]);
    }
    let answers: Vec<&str> = text.split("\n\n").filter(|answer| !answer.trim().is_empty()).collect();
    if answers.len() == services {
        return Ok(answers);
    }
    Err(Unreadable { what: "answer of systemctl show", text: text.trim_end().to_owned() })
}

/// Asks what a unit's files say of its coming up at boot. Other than [`show`] it looks for them by the unit's name, so that
/// every version tells the one mask from the other. Exits with 1 for a masked unit.
#[must_use]
pub fn is_enabled(unit: &str) -> Command {
    Command::new(["systemctl", "is-enabled", "--", &unit_name(unit)])
}

/// Asks what a service is configured to run.
#[must_use]
pub fn exec_start(unit: &str) -> Command {
    Command::new(["systemctl", "show", "-p", "ExecStart", "--", &unit_name(unit)])
}

/// Asks which services run. Names are not shortened when the output is no terminal.
#[must_use]
pub fn running() -> Command {
    Command::new([
        "systemctl",
        "list-units",
        "--type=service",
        "--state=running",
        "--no-legend",
        "--no-pager",
        "--full",
    ])
}

/// Asks which of these units have files, and which of them are enabled; of an instance its template too. Without their names it
/// would look for every file of the system, which takes a second.
#[must_use]
pub fn unit_files(units: &BTreeSet<String>) -> Command {
    let all = ["systemctl", "list-unit-files", "--type=service", "--no-legend", "--no-pager", "--full", "--"];
    let template = |unit: &String| unit.split_once('@').map(|(template, _)| format!("{template}@.service"));
    let names = units.iter().flat_map(|unit| [Some(unit.clone()), template(unit)]).flatten();
    // What it takes are patterns, in which a name's own backslash stands for the letter after it.
    let patterns = names.map(|name| name.replace('\\', "\\\\"));
    Command::new(all.map(str::to_owned).into_iter().chain(patterns))
}

/// Makes systemd read its unit files again.
#[must_use]
pub fn daemon_reload() -> Command {
    Command::new(["systemctl", "daemon-reload"]).timeout(START_STOP)
}

/// Forgets that a service failed and how often it was started lately, or a start may be refused (`start-limit`).
/// Fails for a service that never failed, on some versions: the exit code says nothing.
#[must_use]
pub fn reset_failed(unit: &str) -> Command {
    on(unit, &["reset-failed"])
}

/// Makes a service come up at boot.
#[must_use]
pub fn enable(unit: &str) -> Command {
    on(unit, &["enable"])
}

/// Makes a service not come up at boot. For [`mask`] to follow, after which systemd reads its files again: that is not done here
/// too.
#[must_use]
pub fn disable(unit: &str) -> Command {
    on(unit, &["disable", "--no-reload"])
}

/// Restarts a service, or starts it if it is down.
#[must_use]
pub fn restart(unit: &str) -> Command {
    on(unit, &["restart"])
}

/// Stops a service.
#[must_use]
pub fn stop(unit: &str) -> Command {
    on(unit, &["stop"])
}

/// Starts a service.
#[must_use]
pub fn start(unit: &str) -> Command {
    on(unit, &["start"])
}

/// Keeps a service from being started by anyone, packages' scripts included.
#[must_use]
pub fn mask(unit: &str) -> Command {
    on(unit, &["mask"])
}

/// The same until the next boot, or until [`unmask_for_now`]. Without effect on a unit file in `/etc`, which counts more
/// than one in `/run`.
#[must_use]
pub fn mask_for_now(unit: &str) -> Command {
    on(unit, &["mask", "--runtime"])
}

/// Takes [`mask_for_now`] back.
#[must_use]
pub fn unmask_for_now(unit: &str) -> Command {
    on(unit, &["unmask", "--runtime"])
}

/// The last lines that a service logged.
#[must_use]
pub fn journal(unit: &str) -> Command {
    Command::new(["journalctl", "-u", &unit_name(unit), "-n", "20", "--no-pager"])
}

fn on(unit: &str, verb: &[&str]) -> Command {
    let mut argv = vec!["systemctl"];
    argv.extend(verb);
    let name = unit_name(unit);
    argv.extend(["--", &name]);
    Command::new(argv).timeout(START_STOP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUNNING_219: &str = "Result=success\nMainPID=812\nLoadState=loaded\nActiveState=active\nSubState=running\n\
        UnitFileState=enabled\n";
    const ABSENT: &str = "Result=success\nMainPID=0\nNRestarts=0\nLoadState=not-found\nActiveState=inactive\n\
        SubState=dead\nUnitFileState=\n";

    fn state(text: &str) -> ServiceState {
        read_state(text).expect("a state")
    }

    #[test]
    fn states_are_read() {
        let running = state(RUNNING_219);
        assert!(
            running.installed && running.is_active() && running.starts_at_boot && !running.is_kept_down()
        );
        assert_eq!((running.main_pid, running.restarts), (Some(812), None));
        assert_eq!(running.words, "active (running)");

        let absent = state(ABSENT);
        assert!(!absent.installed && absent.is_down() && !absent.is_kept_down());
        assert_eq!((absent.main_pid, absent.restarts), (None, Some(0)));

        let masked = state("LoadState=masked\nActiveState=inactive\nSubState=dead\nUnitFileState=masked\n");
        assert!(masked.installed && masked.is_down() && masked.kept_down == KeptDown::ForGood);
        // systemd 219 of CentOS 7 and 229 of Ubuntu 16.04 say so of either mask.
        for file in ["", "UnitFileState=\n", "UnitFileState=bad\n"] {
            let text = format!("LoadState=masked\nActiveState=inactive\n{file}");
            assert!(mask_in_question(&text), "{text}");
            let masked = state(&text);
            assert_eq!((masked.kept_down, masked.boot_words.as_str()), (KeptDown::ForGood, "masked"));
        }
        assert!(!mask_in_question("LoadState=masked\nUnitFileState=masked\n"));
        assert!(!mask_in_question("LoadState=error\nUnitFileState=bad\n"));
        assert!(is_mask_for_now("masked-runtime\n"));
        assert!(!is_mask_for_now("masked\n") && !is_mask_for_now("enabled\n") && !is_mask_for_now(""));
        let for_now = state("LoadState=masked\nActiveState=inactive\nUnitFileState=masked-runtime\n");
        assert_eq!(for_now.kept_down, KeptDown::ForNow);

        let failed = state("LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\n");
        assert_eq!(failed.words, "failed (failed, exit-code)");
        let restarting = state("LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n");
        assert!(!restarting.is_active() && !restarting.is_down());
    }

    #[test]
    fn an_answer_of_another_form_is_quoted() {
        let told = |text: &str| read_state(text).expect_err("unreadable").to_string();
        assert_eq!(told(""), "unexpected answer of systemctl show: ''");
        assert_eq!(told("Bus error"), "unexpected answer of systemctl show: 'Bus error'");
        let text = "LoadState=loaded\nActiveState=active\nMainPID=many\n";
        assert_eq!(told(text), "unexpected answer of systemctl show: 'MainPID=many'");
        let text = "LoadState=loaded\nActiveState=dreaming\n";
        assert_eq!(told(text), "unexpected answer of systemctl show: 'ActiveState=dreaming'");
    }

    #[test]
    fn the_answer_for_several_is_parted() {
        let both = format!("{RUNNING_219}\n{ABSENT}");
        let states: Vec<bool> =
            parted(&both, 2).expect("two").into_iter().map(|text| state(text).installed).collect();
        assert_eq!(states, [true, false]);
        assert_eq!(parted(RUNNING_219, 1), Ok(vec![RUNNING_219]));
        assert!(parted(RUNNING_219, 2).is_err() && parted(&both, 3).is_err());
        assert_eq!(parted("", 0), Ok(vec![]));
    }

    #[test]
    fn what_runs_and_comes_up_at_boot_is_told_apart() {
        // Of systemd 219, 229 and 252: with and without a dot, with and without the vendor's preset.
        let running = "calico-felix.service loaded active running Calico Felix\n\
            ● bird.service        loaded active running LSB: bird\n  dbus.service loaded active running D-Bus\n\
            getty@tty1.service loaded active running Getty on tty1\nopenvpn@site.service loaded active running VPN\n\
            run-r5f.service loaded active running /bin/sleep 60\nuser@0.service loaded active running User Manager\n";
        let files = "calico-felix.service enabled\ndbus.service static -\ngetty@.service enabled enabled\n\
            openvpn@.service enabled disabled\nuser@.service static\netcd.service enabled enabled\n";
        let (running, files) =
            (read_running(running).expect("units"), read_unit_files(files).expect("files"));
        let scripts = ["S20bird", "K20rsync", "README"].map(str::to_owned);
        let found: Vec<String> = running_at_boot(&running, &files, &scripts).into_iter().collect();
        assert_eq!(found, ["bird", "calico-felix", "openvpn@site"]);

        let error = read_running("Failed to list units: Connection timed out\n").expect_err("no unit");
        assert_eq!(
            error.to_string(),
            "unexpected line of systemctl list-units: 'Failed to list units: Connection timed out'"
        );
        assert!(read_unit_files("calico-felix.service\n").is_err());
    }

    #[test]
    fn what_a_service_is_to_run_is_read() {
        let rest =
            "ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }\n";
        let read =
            |text: &str| read_exec_start(&format!("ExecStart={{ {text} ; {rest}")).expect("a command line");
        assert_eq!(read("path=/usr/bin/etcd ; argv[]=/usr/bin/etcd --name a"), "/usr/bin/etcd --name a");
        // As CentOS 7's package has it.
        let shell =
            "path=/bin/bash ; argv[]=/bin/bash -c GOMAXPROCS=$(nproc) /usr/bin/etcd --name=\"${ETCD_NAME}\"";
        assert_eq!(read(shell), "/bin/bash -c GOMAXPROCS=$(nproc) /usr/bin/etcd --name=\"${ETCD_NAME}\"");
        assert_eq!(read_exec_start("ExecStart=\n").as_deref(), Ok(""));
        assert_eq!(read_exec_start("").as_deref(), Ok(""));
        assert!(read_exec_start("ExecStart=/usr/bin/etcd\n").is_err());
    }

    #[test]
    fn command_lines() {
        let lines = [
            show(&["etcd", "apt-daily.timer"]),
            restart("etcd"),
            mask("neutron-dhcp-agent"),
            mask_for_now("etcd"),
            unmask_for_now("etcd"),
            running(),
            unit_files(&["etcd.service", "a\\x2db@1.service"].map(str::to_owned).into()),
            disable("etcd"),
            journal("etcd.service"),
        ];
        let text = lines.map(|command| command.argv.join(" ")).join("\n");
        insta::assert_snapshot!(text, @r"
        systemctl show -p LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,Result -- etcd.service apt-daily.timer
        systemctl restart -- etcd.service
        systemctl mask -- neutron-dhcp-agent.service
        systemctl mask --runtime -- etcd.service
        systemctl unmask --runtime -- etcd.service
        systemctl list-units --type=service --state=running --no-legend --no-pager --full
        systemctl list-unit-files --type=service --no-legend --no-pager --full -- a\\x2db@1.service a\\x2db@.service etcd.service
        systemctl disable --no-reload -- etcd.service
        journalctl -u etcd.service -n 20 --no-pager
        ");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), soup in "((MainPID|NRestarts|LoadState|ActiveState|a@b|S20|●)[a-z0-9=@. \n-]{0,9}(\\.service)?){0,5}") {
            for text in [text, soup] {
                let _ = read_exec_start(&format!("ExecStart={{ path={text} ; argv[]={text} ; ignore_errors="));
                let _ = parted(&text, 2);
                let _ = (read_state(&text), read_exec_start(&text), read_running(&text), read_unit_files(&text), is_link_of(&text, "b"));
            }
        }
    }
}
