//! `version.check`: evidence that a program reports the version that its package has. Changes nothing.

use super::{Context, exit_failed, failed};
use crate::host::Command;
use wavegate_common::action::VersionCheck;
use wavegate_common::facts::Component;
use wavegate_common::outcome::StepError;

/// Asks the program and compares.
///
/// # Errors
/// [`StepError`] if the package is not installed, the program can't be asked, or it reports another version.
pub fn verify(action: &VersionCheck, cx: &mut Context<'_>) -> Result<String, StepError> {
    let Some(command) = question(action.component) else {
        return Err(StepError {
            what: format!("no program reports the version of {}", action.component),
            output: Vec::new(),
            next: "take this step out of the procedure, then plan again".to_owned(),
        });
    };
    let program = command.argv.join(" ");
    let package = &action.package;
    let Some(installed) = cx.os.versions(cx.host, &[package])?.remove(package) else {
        return Err(StepError {
            what: format!("{package} is not installed, so '{program}' has no version to report"),
            output: Vec::new(),
            next: format!("install {package} on the node, then retry"),
        });
    };
    let next =
        format!("see what '{program}' says on the node and where it comes from ('type -a'), then retry");
    let exit = cx.host.run(&command).map_err(|error| failed(&error, next.clone()))?;
    if exit.code != 0 {
        return Err(exit_failed(format!("'{program}' failed with exit code {}", exit.code), &exit, next));
    }
    let wanted = upstream(&installed);
    if !reports(&exit.stdout, wanted) && !reports(&exit.stderr, wanted) {
        let what = format!("'{program}' does not report {wanted}, the version of {package} {installed}");
        return Err(exit_failed(what, &exit, next));
    }
    Ok(format!("'{program}' reports {wanted}, {package} is {installed}"))
}

/// How to ask for a component's version; `None` where no program tells it.
fn question(component: Component) -> Option<Command> {
    let program = match component {
        Component::Etcd => "etcd",
        Component::Felix => "calico-felix",
        Component::Neutron => "neutron-server",
        Component::Dnsmasq => "dnsmasq",
        Component::NetworkingCalico => return None,
    };
    Some(Command::new([program, "--version"]))
}

/// The numbers that a program knows of its package's version: no epoch, no distribution's additions, no revision.
/// `1:1.4.6~trusty-1` and `1.4.6-1.el7` are both 1.4.6, `3.5.16+dfsg-1` is 3.5.16.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    version[..end].trim_end_matches('.')
}

/// Whether the output holds the version as a whole: 1.4.6 is not in `1.4.60` or `11.4.6`, nor in `1.4.6.1`.
fn reports(output: &str, version: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    !version.is_empty()
        && output.match_indices(version).any(|(at, _)| {
            let mut before = output[..at].chars().rev();
            let mut after = output[at + version.len()..].chars();
            let (previous, next) = (before.next(), after.next());
            let longer = digit(next) || (next == Some('.') && digit(after.next()));
            !digit(previous) && previous != Some('.') && !longer
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::bench::{Bench, shown};
    use crate::host::fake::FakeMachine;
    use proptest::prelude::*;
    use wavegate_common::action::Action;

    fn check(component: Component, package: &str) -> Action {
        Action::VersionCheck(VersionCheck { component, package: package.to_owned() })
    }

    #[test]
    fn the_program_must_report_its_packages_version() {
        let etcd = Bench::new(FakeMachine::debian_etcd());
        let evidence = etcd.already_so(&check(Component::Etcd, "etcd"));
        assert_eq!(evidence, "'etcd --version' reports 3.2.17, etcd is 3.2.17+dfsg-1");

        let felix = Bench::new(FakeMachine::redhat_compute());
        let action = check(Component::Felix, "calico-felix");
        assert_eq!(
            felix.already_so(&action),
            "'calico-felix --version' reports 1.3.1, calico-felix is 1.3.1-1.el7"
        );
        // An older one stands before it in PATH.
        felix.machine().put_program("/usr/local/bin/calico-felix", "1.2.9\n");
        insta::assert_snapshot!(shown(&felix.check(&action).expect_err("another")), @r"
        'calico-felix --version' does not report 1.3.1, the version of calico-felix 1.3.1-1.el7
        | 1.2.9
        next: see what 'calico-felix --version' says on the node and where it comes from ('type -a'), then retry
        ");
        felix.machine().faults.fail("calico-felix --version", 1, "no such module");
        assert!(shown(&felix.check(&action).expect_err("failed")).contains("| no such module"));
    }

    #[test]
    fn what_can_not_be_asked_is_told() {
        let bench = Bench::new(FakeMachine::debian());
        let error =
            |component, package| shown(&bench.check(&check(component, package)).expect_err("not there"));
        assert!(error(Component::Etcd, "etcd").starts_with("etcd is not installed"));
        assert!(
            error(Component::NetworkingCalico, "networking-calico")
                .starts_with("no program reports the version")
        );
    }

    #[test]
    fn package_versions_are_cut_to_what_programs_know() {
        for (version, numbers) in [
            ("1:1.4.6~trusty-1", "1.4.6"),
            ("1.4.6-1.el7", "1.4.6"),
            ("3.5.16+dfsg-1", "3.5.16"),
            ("2.90-4~deb12u1", "2.90"),
            ("2.0.0~rc1-1", "2.0.0"),
            ("", ""),
        ] {
            assert_eq!(upstream(version), numbers, "{version}");
        }
    }

    #[test]
    fn a_version_is_found_as_a_whole() {
        assert!(reports("Version:            v2.6.8\nFull git commit ID: 1a", "2.6.8"));
        assert!(reports("etcd Version: 3.4.23\nGit SHA: Not provided", "3.4.23"));
        assert!(reports("1.4.6", "1.4.6") && reports("felix 1.4.6.", "1.4.6"));
        for other in ["1.4.60", "11.4.6", "0.1.4.6", "1.4.6.1", "1.4", ""] {
            assert!(!reports(other, "1.4.6"), "{other}");
        }
        assert!(!reports("anything", ""));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(version in any::<String>(), output in any::<String>(), soup in "[0-9.é]{0,9}") {
            let _ = (reports(&output, upstream(&version)), reports(&soup, upstream(&soup)));
        }
    }
}
