//! `package.install`: what a transaction would change, and one that outlives the agent. What apt, yum and dnf are asked
//! for stands in `os`, how a transaction is followed to its end in `package_install/transaction`.
//!
//! Package lists are read again before both looks, also for a preview, which changes nothing else on the node: with old
//! lists a preview would promise versions that the repositories no longer have.

mod transaction;
mod unreachable;

use super::{Applied, Check, Context, exit_failed};
use crate::os::packages::{Simulated, Wanted};
use std::collections::{BTreeMap, BTreeSet};
use transaction::{Snapshot, begun, bring_about, forget, note_of, refresh, repair, wait_for_earlier};
use unreachable::waited_for;
use wavegate_common::action::{PackageInstall, PackageSpec, Scope};
use wavegate_common::outcome::{Change, StepError};

/// Looks at what the transaction would change.
///
/// # Errors
/// [`StepError`] if a package does not exist, or the transaction would remove or downgrade packages, or the package
/// manager can't say.
pub fn check(action: &PackageInstall, cx: &mut Context<'_>) -> Result<Check, StepError> {
    if begun(cx) {
        // It may still run: package managers would wait for its lock, and what is there now is no ground for anything.
        // `apply` waits for its end and tells by its note what it changed.
        return Ok(Check::WouldChange { changes: Vec::new() });
    }
    waited_for(cx, |cx| look(action, cx))
}

fn look(action: &PackageInstall, cx: &mut Context<'_>) -> Result<Check, StepError> {
    refresh(cx)?;
    let wanted = wanted(action, cx)?;
    let unfinished = cx.os.unfinished(cx.host)?;
    let simulated = foresee(&with_forecast(&wanted, cx)?, cx)?;
    let before = snapshot(cx, &simulated, &wanted, &unfinished)?;
    let mut changes = foreseen_changes(cx, &simulated, &before);
    // By then, an earlier step of the same preview has changed these.
    let by_then = |change: &Change| matches!(change, Change::Package { name, .. } if cx.forecast.packages.contains(name));
    changes.retain(|change| !by_then(change));
    for name in unfinished.iter().filter(|name| !simulated.installs.contains_key(*name)) {
        let version = before.get(name).cloned().flatten();
        let from = version.as_ref().map(|version| format!("{version} (unfinished)"));
        changes.push(Change::Package { name: name.clone(), from, to: version });
    }
    if !changes.is_empty() {
        return Ok(Check::WouldChange { changes });
    }
    if simulated.installs.keys().any(|name| cx.forecast.packages.contains(name)) {
        return Ok(Check::AlreadySo { evidence: "earlier steps bring every package of this one".to_owned() });
    }
    let evidence = verify(&wanted, &simulated, cx)?;
    Ok(Check::AlreadySo { evidence })
}

/// Installs, and looks at the package database afterwards: an exit code alone proves nothing.
///
/// # Errors
/// [`StepError`] with the program's last lines.
pub fn apply(action: &PackageInstall, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let mut before = note_of(cx);
    let mut output = wait_for_earlier(cx);
    let unmended = repair(cx)?;
    let (wanted, simulated) = waited_for(cx, |cx| {
        refresh(cx)?;
        let wanted = wanted(action, cx)?;
        let simulated = foresee(&wanted, cx)?;
        Ok((wanted, simulated))
    })?;
    for (name, version) in snapshot(cx, &simulated, &wanted, &BTreeSet::new())? {
        before.entry(name).or_insert(version);
    }
    if !simulated.is_empty() {
        output += &waited_for(cx, |cx| bring_about(&wanted, &before, cx))?;
    } else if let Some(unmended) = unmended {
        return Err(unmended);
    }
    let evidence = verify(&wanted, &simulated, cx)?;
    let names: Vec<&str> = before.keys().map(String::as_str).collect();
    let after = cx.os.versions(cx.host, &names)?;
    let mut changes: Vec<Change> = before
        .iter()
        .filter(|(name, from)| after.get(*name) != from.as_ref())
        .map(|(name, from)| Change::Package {
            name: name.clone(),
            from: from.clone(),
            to: after.get(name).cloned(),
        })
        .collect();
    let kept = cx.os.kept_files(&output).into_iter();
    changes.extend(kept.map(|(path, what)| Change::File { path, what }));
    forget(cx)?;
    Ok(Applied { changes, evidence })
}

/// What is asked for on this node: packages that are wanted only where they are installed may not be.
fn wanted(action: &PackageInstall, cx: &Context<'_>) -> Result<Wanted, StepError> {
    let names: BTreeSet<&str> =
        action.packages.iter().chain(&action.if_installed).map(|spec| spec.name.as_str()).collect();
    let installed = cx.os.versions(cx.host, &names.into_iter().collect::<Vec<_>>())?;
    let mut packages = action.packages.clone();
    let named: BTreeSet<&String> = action.packages.iter().map(|spec| &spec.name).collect();
    let too = |spec: &&PackageSpec| installed.contains_key(&spec.name) && !named.contains(&spec.name);
    packages.extend(action.if_installed.iter().filter(too).cloned());
    Ok(Wanted {
        packages,
        present: installed.into_keys().collect(),
        distribution: action.scope == Scope::Distribution,
        allow_removals: action.allow_removals,
    })
}

/// With the packages that earlier steps of the same preview update: what is tied to their versions would otherwise seem to
/// be in the way.
fn with_forecast(wanted: &Wanted, cx: &Context<'_>) -> Result<Wanted, StepError> {
    let names: Vec<&str> = cx.forecast.packages.iter().map(String::as_str).collect();
    let mut together = wanted.clone();
    for name in cx.os.versions(cx.host, &names)?.into_keys() {
        if !wanted.packages.iter().any(|spec| spec.name == name) {
            together.packages.push(PackageSpec { name: name.clone(), version: None });
            together.present.insert(name);
        }
    }
    Ok(together)
}

/// Simulates, and refuses what a step must not do.
fn foresee(wanted: &Wanted, cx: &mut Context<'_>) -> Result<Simulated, StepError> {
    let simulated = cx.os.simulate(cx.host, wanted)?;
    if !wanted.distribution {
        cx.policy.judge_transaction(simulated.installs.keys().chain(&simulated.removes))?;
    }
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    if !wanted.allow_removals && !simulated.removes.is_empty() {
        return Err(StepError {
            what: format!("the transaction would remove {}", list(&simulated.removes)),
            output: Vec::new(),
            next: "name these packages in the same step, in versions that fit together, or set allow_removals if they \
                   may go"
                .to_owned(),
        });
    }
    if !simulated.downgrades.is_empty() {
        return Err(StepError {
            what: format!(
                "the transaction would take {} back to an older version",
                list(&simulated.downgrades)
            ),
            output: Vec::new(),
            next: "ask for a version that is not older than the installed one, or none; then plan again"
                .to_owned(),
        });
    }
    Ok(simulated)
}

/// Versions as they are, of every package that is wanted or would change.
fn snapshot(
    cx: &Context<'_>,
    simulated: &Simulated,
    wanted: &Wanted,
    more: &BTreeSet<String>,
) -> Result<Snapshot, StepError> {
    let named = wanted.packages.iter().map(|spec| &spec.name);
    let names: BTreeSet<&str> = named
        .chain(simulated.installs.keys())
        .chain(&simulated.removes)
        .chain(more)
        .map(String::as_str)
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let versions = cx.os.versions(cx.host, &names)?;
    Ok(names.into_iter().map(|name| (name.to_owned(), versions.get(name).cloned())).collect())
}

fn foreseen_changes(cx: &Context<'_>, simulated: &Simulated, before: &Snapshot) -> Vec<Change> {
    let from = |name: &String| before.get(name).cloned().flatten();
    let to: BTreeMap<&String, Option<&String>> = simulated
        .removes
        .iter()
        .map(|name| (name, None))
        .chain(simulated.installs.iter().map(|(name, version)| (name, Some(version))))
        .collect();
    to.into_iter()
        .filter(|(name, to)| to.is_none_or(|to| from(name).is_none_or(|from| !cx.os.version_is(&from, to))))
        .map(|(name, to)| Change::Package { name: name.clone(), from: from(name), to: to.cloned() })
        .collect()
}

/// The evidence: every wanted package is there, completely, at the version that was asked for or foreseen.
fn verify(wanted: &Wanted, simulated: &Simulated, cx: &mut Context<'_>) -> Result<String, StepError> {
    let names: Vec<&str> = wanted.packages.iter().map(|spec| spec.name.as_str()).collect();
    let installed = cx.os.versions(cx.host, &names)?;
    let unfinished = cx.os.unfinished(cx.host)?;
    let mut evidence = Vec::new();
    for PackageSpec { name, version } in &wanted.packages {
        let target = version.as_ref().or_else(|| simulated.installs.get(name));
        let wrong = match (installed.get(name), target) {
            (None, _) => "it is not installed".to_owned(),
            (Some(_), _) if unfinished.contains(name) => "it is installed, but not completely".to_owned(),
            (Some(is), Some(target)) if !cx.os.version_is(is, target) => format!("it is {is}, not {target}"),
            (Some(is), _) => {
                evidence.push(format!("{name} {is}"));
                continue;
            }
        };
        let what = format!("{name} is not as wanted, and the package manager would do nothing more: {wrong}");
        let next = "see what the package manager on the node says about this package (a lock on its version, a \
                    repository with another priority, a name that it does not know), then retry";
        return Err(exit_failed(what, &crate::host::Exit::default(), next));
    }
    if evidence.is_empty() {
        evidence.push("nothing has a newer version".to_owned());
    }
    Ok(evidence.join(", "))
}

#[cfg(test)]
mod tests;
