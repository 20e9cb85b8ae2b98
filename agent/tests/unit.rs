//! The agent's systemd unit: what it must say so that package transactions live on, and what it must not take from them.

const UNIT: &str = include_str!("../../packaging/systemd/wavegate-agent.service");

/// What would break package managers, the scripts of packages, or programs that these start, which are all children of the agent's.
const BREAKS_PACKAGES: [&str; 22] = [
    "Dynamic",
    "InaccessiblePaths",
    "IPAddress",
    "Limit",
    "MemoryDeny",
    "MemoryMax",
    "Network",
    "NoExecPaths",
    "NoNewPrivileges",
    "Private",
    "ProcSubset",
    "Protect",
    "ReadOnly",
    "ReadWrite",
    "RemoveIPC",
    "RestrictAddressFamilies",
    "RestrictFileSystems",
    "RestrictNamespaces",
    "RestrictSUIDSGID",
    "Device",
    "SystemCall",
    "User",
];

/// The settings of `[Service]` in order, with what stands before each.
fn settings() -> Vec<(&'static str, &'static str, bool)> {
    let mut commented = false;
    let mut settings = Vec::new();
    let service =
        UNIT.split("[Service]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or_default();
    for line in service.lines() {
        match line.split_once('=') {
            _ if line.starts_with('#') => commented = true,
            Some((key, value)) => settings.push((key, value, commented)),
            None => commented = false,
        }
    }
    settings
}

fn value(key: &str) -> Option<&'static str> {
    settings().into_iter().find(|(found, ..)| *found == key).map(|(_, value, _)| value)
}

#[test]
fn nothing_that_ends_the_agent_ends_a_package_transaction() {
    assert_eq!((value("KillMode"), value("OOMPolicy")), (Some("process"), Some("continue")));
    assert_eq!(value("ExecStop"), None);
    assert_eq!(value("TasksMax"), Some("infinity"));
}

#[test]
fn an_agent_that_stands_still_is_ended_and_comes_back() {
    assert_eq!((value("Type"), value("Restart")), (Some("notify"), Some("always")));
    assert_eq!(value("WatchdogSec"), Some("120"));
    assert_eq!(value("RestartPreventExitStatus"), Some("2 3 4"));
}

#[test]
fn what_packages_need_is_not_taken_away_and_every_setting_says_why() {
    let settings = settings();
    assert!(settings.len() > 10, "{settings:?}");
    for (key, _, commented) in settings {
        assert!(!BREAKS_PACKAGES.iter().any(|bad| key.starts_with(bad)), "{key}");
        assert!(commented, "{key} has no comment before it");
    }
    let capabilities = value("CapabilityBoundingSet").map(|set| set.trim_start_matches('~'));
    let taken: Vec<_> = capabilities.unwrap_or_default().split(' ').collect();
    assert_eq!(taken, ["CAP_SYS_BOOT", "CAP_SYS_TIME", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND"]);
}
