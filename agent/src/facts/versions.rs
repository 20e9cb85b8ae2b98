//! Which versions a node has: as the package database tells them, or as the program itself does where no package owns
//! it.

use super::unobserved;
use crate::host::{Command, Host};
use crate::os::Os;
use anyhow::Result;
use std::collections::BTreeMap;
use wavegate_common::facts::Component;
use wavegate_common::platform::OsFamily;

/// Packages that bring a component, the telling one first.
fn packages(component: Component, family: OsFamily) -> &'static [&'static str] {
    match (component, family) {
        (Component::Etcd, OsFamily::Debian) => &["etcd-server", "etcd"],
        (Component::Etcd, OsFamily::RedHat) => &["etcd"],
        (Component::Felix, _) => &["calico-felix"],
        (Component::NetworkingCalico, _) => &["networking-calico"],
        (Component::Neutron, OsFamily::Debian) => &["neutron-common", "neutron-server", "neutron-dhcp-agent"],
        (Component::Neutron, OsFamily::RedHat) => &["openstack-neutron", "openstack-neutron-common"],
        (Component::Dnsmasq, OsFamily::Debian) => &["dnsmasq-base"],
        (Component::Dnsmasq, OsFamily::RedHat) => &["dnsmasq"],
    }
}

/// The program that tells its own version; `None` for a component that is none, and for Felix: up to 1.4 it does not
/// know `--version`, and that of 2015 takes no notice of arguments and would run as a second Felix.
const fn program(component: Component) -> Option<&'static str> {
    match component {
        Component::Etcd => Some("etcd"),
        Component::Dnsmasq => Some("dnsmasq"),
        Component::Felix | Component::NetworkingCalico | Component::Neutron => None,
    }
}

/// The versions of what is there.
pub(super) fn versions(host: &dyn Host, os: &Os) -> Result<BTreeMap<Component, String>> {
    let family = os.platform.family;
    let names: Vec<&str> =
        Component::ALL.iter().flat_map(|component| packages(*component, family)).copied().collect();
    let installed = os.versions(host, &names).map_err(|error| unobserved(&error))?;
    let mut versions = BTreeMap::new();
    for component in Component::ALL {
        let packaged = packages(*component, family).iter().find_map(|name| installed.get(*name)).cloned();
        let version = match program(*component) {
            Some(program) => unowned(host, os, program)?.or(packaged),
            None => packaged,
        };
        if let Some(version) = version {
            versions.insert(*component, version);
        }
    }
    Ok(versions)
}

/// The version of a program that no package owns, as it prints it; `None` if there is none, or a package owns it. It
/// takes precedence: what `PATH` finds first is not what an idle package left elsewhere.
fn unowned(host: &dyn Host, os: &Os, program: &str) -> Result<Option<String>> {
    let Some(path) = host.which(program) else { return Ok(None) };
    if os.owner(host, &path).map_err(|error| unobserved(&error))?.is_some() {
        return Ok(None);
    }
    let Ok(exit) = host.run(&Command::new([path.to_string_lossy(), "--version".into()])) else {
        return Ok(None);
    };
    Ok(printed_version(&exit.stdout).or_else(|| printed_version(&exit.stderr)))
}

/// The first word of the output that is a version: digits with a point in between, a leading `v` left out.
fn printed_version(output: &str) -> Option<String> {
    let version = |word: &&str| {
        let mut numbers = word.split('.');
        let number =
            |text: Option<&str>| text.is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit()));
        number(numbers.next()) && number(numbers.next())
    };
    let words = output.split_whitespace().map(|word| word.strip_prefix('v').unwrap_or(word));
    words.map(|word| word.trim_end_matches([',', ';'])).find(version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        for (output, version) in [
            ("etcd Version: 3.2.17\nGit SHA: Not provided\n", Some("3.2.17")),
            ("Dnsmasq version 2.90  Copyright (c) 2000-2024 Simon Kelley", Some("2.90")),
            ("Version:            v2.6.8\n", Some("2.6.8")),
            ("1.4.6\n", Some("1.4.6")),
            ("no version here...\n", None),
        ] {
            assert_eq!(printed_version(output).as_deref(), version, "{output}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), soup in "[v0-9.,; ]{0,20}") {
            let _ = (printed_version(&text), printed_version(&soup));
        }
    }
}
