//! systemd as command lines and as the answers that `systemctl` gives; made for systemd 219 (RHEL 7) and later, so
//! without `--value` and `-P`. Nothing here runs a program.

use crate::host::Command;
use std::time::Duration;

/// The directory whose presence says that systemd is PID 1 (`sd_booted(3)`).
pub const BOOTED: &str = "/run/systemd/system";

/// How long `systemctl` may take for a start or a stop: above systemd's own limit of 90 s for either.
const START_STOP: Duration = Duration::from_secs(200);

/// The properties asked for. `NRestarts` came with systemd 235; older ones leave it out of the answer.
const PROPERTIES: &str =
    "LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,ExecMainStartTimestampMonotonic,Result";

/// What systemd says about a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `loaded`, `not-found`, `masked`, `error`, `bad-setting`.
    pub load: String,
    /// `active`, `activating`, `inactive`, `deactivating`, `failed`.
    pub active: String,
    /// `running`, `exited`, `dead`, `auto-restart`, and others.
    pub sub: String,
    /// `enabled`, `disabled`, `static`, `masked`, `masked-runtime`; empty if there is no unit file.
    pub file: String,
    /// The main process, if there is one.
    pub main_pid: Option<u32>,
    /// How often systemd restarted it by itself; `None` where systemd does not tell.
    pub restarts: Option<u32>,
    /// When the main process was started, in microseconds since boot; `None` if never.
    pub started_us: Option<u64>,
    /// `success`, `exit-code`, `signal`, `start-limit`, and others.
    pub result: String,
}

impl UnitState {
    /// Reads the answer to [`show`]. What is not asked for or not known is passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut state = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.trim_end().split_once('=')) {
            match name {
                "LoadState" => value.clone_into(&mut state.load),
                "ActiveState" => value.clone_into(&mut state.active),
                "SubState" => value.clone_into(&mut state.sub),
                "UnitFileState" => value.clone_into(&mut state.file),
                "MainPID" => state.main_pid = value.parse().ok().filter(|pid| *pid != 0),
                "NRestarts" => state.restarts = value.parse().ok(),
                "ExecMainStartTimestampMonotonic" => {
                    state.started_us = value.parse().ok().filter(|us| *us != 0)
                }
                "Result" => value.clone_into(&mut state.result),
                _ => {}
            }
        }
        state
    }

    /// Whether there is such a service at all. A masked one counts, even when the mask is all there is.
    #[must_use]
    pub fn installed(&self) -> bool {
        self.load != "not-found" && !(self.load.is_empty() && self.file.is_empty())
    }

    /// Whether a mask, even one that a reboot takes away, keeps it from starting.
    #[must_use]
    pub fn masked(&self) -> bool {
        self.load == "masked" || self.file.starts_with("masked")
    }

    /// Whether it stays down over a reboot and over whatever a package's scripts do.
    #[must_use]
    pub fn masked_for_good(&self) -> bool {
        self.file == "masked" || (self.load == "masked" && self.file != "masked-runtime")
    }

    /// Whether it comes up at boot.
    #[must_use]
    pub fn starts_at_boot(&self) -> bool {
        self.file == "enabled" || self.file == "static" || self.file == "indirect"
    }

    /// Whether it runs, as systemd sees it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active == "active"
    }

    /// Whether nothing of it runs and nothing is about to.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.active == "inactive" || self.active == "failed"
    }

    /// For people: `active (running)`, `failed (failed, exit-code)`.
    #[must_use]
    pub fn words(&self) -> String {
        match self.result.as_str() {
            "" | "success" => format!("{} ({})", self.active, self.sub),
            result => format!("{} ({}, {result})", self.active, self.sub),
        }
    }
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

/// Asks what systemd knows of a service. Exits with 0 for an unknown one too.
#[must_use]
pub fn show(unit: &str) -> Command {
    Command::new(["systemctl", "show", "-p", PROPERTIES, "--", &unit_name(unit)])
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

/// Makes a service not come up at boot.
#[must_use]
pub fn disable(unit: &str) -> Command {
    on(unit, &["disable"])
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

    const RUNNING_219: &str = "Result=success\nMainPID=812\nExecMainStartTimestampMonotonic=5120000\nLoadState=loaded\n\
        ActiveState=active\nSubState=running\nUnitFileState=enabled\n";
    const ABSENT: &str = "Result=success\nMainPID=0\nNRestarts=0\nExecMainStartTimestampMonotonic=0\n\
        LoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n";

    #[test]
    fn states_are_read() {
        let running = UnitState::parse(RUNNING_219);
        assert!(running.installed() && running.is_active() && running.starts_at_boot() && !running.masked());
        assert_eq!(
            (running.main_pid, running.restarts, running.started_us),
            (Some(812), None, Some(5_120_000))
        );
        assert_eq!(running.words(), "active (running)");

        let absent = UnitState::parse(ABSENT);
        assert!(!absent.installed() && absent.is_down() && !absent.masked());
        assert_eq!((absent.main_pid, absent.restarts), (None, Some(0)));

        let masked =
            UnitState::parse("LoadState=masked\nActiveState=inactive\nSubState=dead\nUnitFileState=masked\n");
        assert!(masked.installed() && masked.masked() && masked.masked_for_good() && masked.is_down());
        let for_now =
            UnitState::parse("LoadState=masked\nActiveState=inactive\nUnitFileState=masked-runtime\n");
        assert!(for_now.masked() && !for_now.masked_for_good());

        let failed = UnitState::parse("ActiveState=failed\nSubState=failed\nResult=exit-code\n");
        assert_eq!(failed.words(), "failed (failed, exit-code)");
        assert!(!UnitState::parse("").installed());
    }

    #[test]
    fn command_lines() {
        let lines = [show("etcd"), restart("etcd"), mask("neutron-dhcp-agent"), journal("etcd.service")];
        let text = lines.map(|command| command.argv.join(" ")).join("\n");
        insta::assert_snapshot!(text, @r"
        systemctl show -p LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,ExecMainStartTimestampMonotonic,Result -- etcd.service
        systemctl restart -- etcd.service
        systemctl mask -- neutron-dhcp-agent.service
        journalctl -u etcd.service -n 20 --no-pager
        ");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), soup in "(MainPID|NRestarts|LoadState)=[a-z0-9=\n-]{0,20}") {
            for text in [text, soup] {
                let _ = UnitState::parse(&text).words();
            }
        }
    }
}
