//! What a transaction may do: refused is whatever the step does not name, before anything is touched.

use crate::action::Context;
use crate::os::packages::{Simulated, Wanted};
use std::collections::BTreeSet;
use wavegate_common::action::{PackageInstall, Scope};
use wavegate_common::outcome::StepError;

/// Refuses a transaction that would do what the step does not allow.
///
/// # Errors
/// [`StepError`] with every package that is in the way, and which setting would allow it.
pub(super) fn refuse_what_is_not_allowed(
    action: &PackageInstall,
    wanted: &Wanted,
    simulated: &Simulated,
    cx: &Context<'_>,
) -> Result<(), StepError> {
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    if !action.allow_removals && !simulated.removes.is_empty() {
        return refused(
            format!("the transaction would remove {}", list(&simulated.removes)),
            "name these packages in the same step, in versions that fit together, or set allow_removals if they may go",
        );
    }
    if !action.allow_downgrades && !simulated.downgrades.is_empty() {
        return refused(
            format!("the transaction would take {} back to an older version", list(&simulated.downgrades)),
            "ask for a version that is not older than the installed one, or none, or set allow_downgrades if they may go \
             back; then plan again",
        );
    }
    refuse_other_versions(wanted, simulated, cx)?;
    match action.scope {
        Scope::Named => refuse_other_packages(action, simulated, cx),
        Scope::Distribution => Ok(()),
    }
}

fn refused(what: String, next: &str) -> Result<(), StepError> {
    Err(StepError { what, output: Vec::new(), next: next.to_owned() })
}

/// A package that another one drags along can come in a version that the step does not want.
fn refuse_other_versions(wanted: &Wanted, simulated: &Simulated, cx: &Context<'_>) -> Result<(), StepError> {
    let other = wanted.packages.iter().find_map(|spec| {
        let (version, would_be) = (spec.version.as_ref()?, simulated.installs.get(&spec.name)?);
        (!cx.os.version_is(would_be, version)).then_some((&spec.name, would_be, version))
    });
    let Some((name, would_be, version)) = other else { return Ok(()) };
    refused(
        format!("the transaction would bring {name} {would_be}, and the step wants {version}"),
        "ask for versions that fit together; then plan again",
    )
}

fn refuse_other_packages(
    action: &PackageInstall,
    simulated: &Simulated,
    cx: &Context<'_>,
) -> Result<(), StepError> {
    let allowed = |name: &&String| {
        let plain = cx.os.plain_name(name);
        action
            .packages
            .iter()
            .chain(&action.if_installed)
            .any(|spec| spec.name == **name || spec.name == plain)
            || action.also.iter().any(|pattern| pattern.matches(name) || pattern.matches(plain))
            || cx.forecast.packages.contains(plain)
    };
    let others: BTreeSet<&String> =
        simulated.installs.keys().chain(&simulated.removes).filter(|name| !allowed(name)).collect();
    if others.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = others.iter().map(|name| name.as_str()).collect();
    let installed = cx.os.versions(cx.host, &names)?;
    let change = |name: &&str| {
        let from = installed.get(cx.os.plain_name(name)).map_or("-", String::as_str);
        match simulated.installs.get(*name) {
            Some(to) => format!("{name} {from} -> {to}"),
            None => format!("{name} {from} -> removed"),
        }
    };
    refused(
        format!(
            "the transaction would change packages that this step does not name: {}",
            names.iter().map(change).collect::<Vec<_>>().join(", ")
        ),
        "list them under 'also' of the step if they may change with it (names or patterns as 'python-*'), or under 'packages' \
         if they are wanted; then plan again",
    )
}
