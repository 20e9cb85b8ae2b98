//! Which part etcd plays on a node: member, v2 proxy or gateway, by how it is run.

use super::{read, roles};
use crate::action::pid_files::runs;
use crate::host::Host;
use crate::os::Os;
use anyhow::Result;
use std::collections::BTreeSet;
use wavegate_common::platform::Role;

/// Files that say how etcd is run: environment files of the packages and of Calico's documentation, job and unit files.
const FILES: [&str; 7] = [
    "/etc/default/etcd",
    "/etc/sysconfig/etcd",
    "/etc/etcd/etcd.conf",
    "/etc/init/etcd.conf",
    "/etc/systemd/system/etcd.service",
    "/lib/systemd/system/etcd.service",
    "/usr/lib/systemd/system/etcd.service",
];

/// The roles that etcd gives the node: of each process that runs; where none does, of the service or program that is
/// there. A service that somebody masked gives none.
pub(super) fn roles(host: &dyn Host, os: &Os) -> Result<BTreeSet<Role>> {
    let mut found = BTreeSet::new();
    for process in host.processes().iter().filter(|process| runs(process, "etcd")) {
        let by_arguments = by_arguments(&process.cmdline);
        let environment =
            read(host, &format!("/proc/{}/environ", process.pid)).ok().flatten().unwrap_or_default();
        let by_environment = environment.split('\0').find_map(by_assignment);
        let configuration = configuration_file(&process.cmdline);
        let by_file =
            configuration.and_then(|path| read(host, path).ok().flatten()).and_then(|text| by_text(&text));
        let role = by_arguments.or(by_environment).or(by_file);
        found.insert(match role {
            Some(role) => role,
            None => by_files(host)?,
        });
    }
    let there = match roles::wanted(host, os, "etcd")? {
        Some(wanted) => wanted,
        None => host.which("etcd").is_some(),
    };
    if found.is_empty() && there {
        found.insert(by_files(host)?);
    }
    Ok(found)
}

fn by_files(host: &dyn Host) -> Result<Role> {
    for path in FILES {
        if let Some(role) = read(host, path)?.and_then(|text| by_text(&text)) {
            return Ok(role);
        }
    }
    Ok(Role::EtcdMember)
}

/// By flags: `etcd gateway start`, `--proxy on`, `-proxy=readonly`. `None` if they don't say.
fn by_arguments(arguments: &[String]) -> Option<Role> {
    if arguments.get(1).is_some_and(|verb| verb == "gateway") {
        return Some(Role::EtcdGateway);
    }
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let flag = argument.trim_start_matches('-');
        if flag.len() == argument.len() {
            continue;
        }
        let value = match flag.split_once('=') {
            Some(("proxy", value)) => value,
            None if flag == "proxy" => rest.next().map_or("", String::as_str),
            Some(_) | None => continue,
        };
        return Some(by_mode(value));
    }
    None
}

/// By `ETCD_PROXY=on` in an environment or environment file, or `proxy: on` in a configuration file.
fn by_assignment(line: &str) -> Option<Role> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once(['=', ':'])?;
    let is_proxy = matches!(name.trim(), "ETCD_PROXY" | "proxy");
    is_proxy.then(|| by_mode(value.trim().trim_matches(['"', '\''])))
}

/// By any line of a file that is no comment.
fn by_text(text: &str) -> Option<Role> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(by_line).next_back()
}

fn by_line(line: &str) -> Option<Role> {
    if let Some(role) = by_assignment(line) {
        return Some(role);
    }
    let line = line.replace(['"', '\''], " ");
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let start = words.iter().position(|word| word.rsplit(['/', '=']).next() == Some("etcd"))?;
    by_arguments(&words[start..])
}

/// Off is a member; on and readonly are a proxy.
fn by_mode(value: &str) -> Role {
    if matches!(value, "on" | "readonly") { Role::EtcdProxy } else { Role::EtcdMember }
}

fn configuration_file(arguments: &[String]) -> Option<&str> {
    let at =
        arguments.iter().position(|argument| argument.trim_start_matches('-').starts_with("config-file"))?;
    match arguments[at].split_once('=') {
        Some((_, path)) => Some(path),
        None => arguments.get(at + 1).map(String::as_str),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_say_what_etcd_is() {
        for (line, role) in [
            ("/usr/bin/etcd --name a", None),
            ("/usr/bin/etcd --proxy on --name a", Some(Role::EtcdProxy)),
            ("etcd -proxy=readonly", Some(Role::EtcdProxy)),
            ("etcd --proxy=off", Some(Role::EtcdMember)),
            ("etcd --proxy-failure-wait 5000", None),
            ("etcd gateway start --endpoints=a:2379", Some(Role::EtcdGateway)),
            ("etcd --name gateway", None),
        ] {
            assert_eq!(by_arguments(&words(line)), role, "{line}");
        }
    }

    #[test]
    fn files_say_what_etcd_is() {
        for (text, role) in [
            ("ETCD_DATA_DIR=/var/lib/etcd\n", None),
            ("# ETCD_PROXY=on\nETCD_PROXY=\"off\"\n", Some(Role::EtcdMember)),
            ("ETCD_PROXY=off\nETCD_PROXY=\"on\"\n", Some(Role::EtcdProxy)),
            ("name: a\nproxy: 'readonly'\n", Some(Role::EtcdProxy)),
            ("[Service]\nExecStart=/usr/local/bin/etcd gateway start\n", Some(Role::EtcdGateway)),
            ("exec /usr/bin/etcd --proxy on \\\n", Some(Role::EtcdProxy)),
            ("ETCD_PROXY_DIAL_TIMEOUT=5\n", None),
        ] {
            assert_eq!(by_text(text), role, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), soup in "(etcd|proxy|--proxy| |=|:|on|\n){0,9}") {
            for text in [text, soup] {
                let _ = (by_text(&text), by_arguments(&words(&text)), configuration_file(&words(&text)).is_some());
            }
        }
    }
}
