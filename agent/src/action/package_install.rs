//! `package.install`: what a transaction would change, and one that outlives the agent. What apt, yum and dnf are asked
//! for stands in `os`. How a transaction is followed to its end, what it may do, and everything around it that must be as it
//! was before, stand in the files of `package_install`.
//!
//! Package lists are read again before both looks, also for a preview, which changes nothing else on the node: with old
//! lists a preview would promise versions that the repositories no longer have.

mod allowed;
mod around;
mod bystanders;
mod fetched;
mod held_down;
mod lists;
mod locks;
mod policy_rc_d;
mod repair;
mod timers;
mod transaction;
mod undertaking;
mod unreachable;

use super::{Applied, Check, Context, exit_failed, failed};
use crate::host::Command;
use crate::os::locks::Need;
use crate::os::packages::{Foreseen, Simulated, Wanted};
pub(super) use fetched::{Prepared, apply_fetched, prepare};

use allowed::refuse_what_is_not_allowed;
use around::{Settled, begin, settle};
use lists::ToRead;
use locks::Wait;
use repair::{Left, repair};
use std::collections::{BTreeMap, BTreeSet};
use transaction::{all_names, begun, bring_about, forget, wait_for_earlier};
use undertaking::{Snapshot, Undertaking};
use unreachable::waited_for;
use wavegate_common::action::{PackageInstall, PackageSpec, Scope};
use wavegate_common::outcome::{Change, StepError};

/// Looks at what the transaction would change.
///
/// # Errors
/// [`StepError`] if a package does not exist, the transaction would do what the step does not allow, or the package
/// manager can't say.
pub fn check(action: &PackageInstall, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let noted = Undertaking::noted(cx)?;
    let ours = noted.as_ref().is_some_and(|noted| noted.transaction == cx.transaction);
    // Of another step, given up in the middle: no preview ends it, a step does.
    let anothers = noted.is_some() && !cx.patience.is_zero();
    if ours || anothers || begun(cx) {
        // It may still run: package managers would wait for its lock, and what is there now is no ground for anything.
        // `apply` waits for its end, sets right what it left, and tells by its note what it changed.
        return Ok(Check::WouldChange { changes: Vec::new() });
    }
    let mut wait = Wait::new(cx);
    waited_for(cx, |cx| look(action, &mut wait, cx))
}

fn look(action: &PackageInstall, wait: &mut Wait, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let to_read = lists::refresh(wait, cx)?;
    let wanted = wanted(action, cx)?;
    let left = Left::observe(None, cx)?;
    let Foreseen { simulated, .. } = foresee(action, &with_forecast(&wanted, cx)?, to_read, wait, cx)?;
    let before = snapshot(cx, &simulated, &wanted, &left.packages)?;
    let mut changes = foreseen_changes(cx, &simulated, &before);
    // By then, an earlier step of the same preview has changed these.
    let by_then = |change: &Change| matches!(change, Change::Package { name, .. } if cx.forecast.packages.contains(name));
    changes.retain(|change| !by_then(change));
    for name in left.packages.iter().filter(|name| !simulated.installs.contains_key(*name)) {
        let version = before.get(name).cloned().flatten();
        let from = version.as_ref().map(|version| format!("{version} (unfinished)"));
        changes.push(Change::Package { name: name.clone(), from, to: version });
    }
    for path in left.interrupted {
        let what = "what the package manager was interrupted at would be finished".to_owned();
        changes.push(Change::File { path, what });
    }
    if !changes.is_empty() {
        return Ok(Check::WouldChange { changes });
    }
    if simulated.installs.keys().any(|name| cx.forecast.packages.contains(name)) {
        return Ok(Check::AlreadySo { evidence: "earlier steps bring every package of this one".to_owned() });
    }
    let names: Vec<&str> = wanted.packages.iter().map(|spec| spec.name.as_str()).collect();
    let installed = cx.os.versions(cx.host, &names)?;
    let evidence = verify(&wanted, &simulated, &installed, cx)?;
    Ok(Check::AlreadySo { evidence })
}

/// Installs, and looks at the package database afterwards: an exit code alone proves nothing. Whatever comes of it, what was
/// put in place for the time of the transaction is taken away, and what ran before runs.
///
/// # Errors
/// [`StepError`] with the program's last lines; if a service that ran before does not come up again; if something that was
/// put in place can't be taken away.
pub fn apply(action: &PackageInstall, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    carry_out(action, Lists::ReadAgain, cx)
}

/// Which package lists a transaction goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// As the repositories have them now.
    ReadAgain,
    /// As they were read before: nothing is to be asked of a repository any more.
    AsRead,
}

fn carry_out(action: &PackageInstall, lists: Lists, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let mut wait = Wait::new(cx);
    let mut undertaking = resumed(cx)?;
    let earlier = wait_for_earlier(&cx.transaction.clone(), cx);
    let keep = all_names(&cx.transaction);
    let next = "see that the agent's state directory can be written, then retry";
    cx.host.forget_other_transactions(&keep).map_err(|error| failed(&error, next))?;
    let done = work(action, lists, &mut undertaking, &mut wait, cx);
    let settled = settle(&undertaking, cx);
    let told = match (done, settled.changes) {
        (Ok(done), Ok(services)) => tell(&undertaking, done, earlier, services, cx),
        (Err(error), too) => {
            say_too(too.err(), cx);
            Err(error)
        }
        (Ok(_), Err(error)) => Err(error),
    };
    let mut forgotten = forget(cx);
    if settled.nothing_in_place && settled.all_run {
        forgotten = forgotten.and(Undertaking::forget(cx));
    }
    match told {
        Ok(applied) => forgotten.map(|()| applied),
        Err(error) => {
            say_too(forgotten.err(), cx);
            Err(error)
        }
    }
}

/// What failed besides: the error that is returned is another.
fn say_too(error: Option<StepError>, cx: &mut Context<'_>) {
    if let Some(error) = error {
        (cx.output)(&format!("{error}; {}", error.next));
        error.output.iter().for_each(|line| (cx.output)(line));
    }
}

/// What changed, read from the machine before and after, and the evidence.
fn tell(
    undertaking: &Undertaking,
    done: Done,
    earlier: String,
    services: Vec<Change>,
    cx: &mut Context<'_>,
) -> Result<Applied, StepError> {
    let _verify = tracing::debug_span!("verify").entered();
    let before = &undertaking.before;
    let named = done.wanted.packages.iter().map(|spec| &spec.name);
    let names: BTreeSet<&str> = named.chain(before.keys()).map(String::as_str).collect();
    let after = cx.os.versions(cx.host, &names.into_iter().collect::<Vec<_>>())?;
    let evidence = verify(&done.wanted, &done.simulated, &after, cx)?;
    let changed: Vec<(&String, &Option<String>)> =
        before.iter().filter(|(name, from)| after.get(*name) != from.as_ref()).collect();
    let there: Vec<&str> =
        changed.iter().map(|(name, _)| name.as_str()).filter(|name| after.contains_key(*name)).collect();
    // By what the programs said, and by what stands beside the files: what they said may be lost.
    let mut kept: BTreeMap<String, String> =
        cx.os.kept_beside(cx.host, &there, undertaking.began)?.into_iter().collect();
    kept.extend(cx.os.kept_files(&(earlier + &done.output)));
    let package = |(name, from): (&String, &Option<String>)| Change::Package {
        name: name.clone(),
        from: from.clone(),
        to: after.get(name).cloned(),
    };
    let mut changes: Vec<Change> = changed.into_iter().map(package).collect();
    changes.extend(services);
    changes.extend(kept.into_iter().map(|(path, what)| Change::File { path, what }));
    Ok(Applied { changes, evidence })
}

/// What an agent before this one noted of this step. What one that was given up left is set right here.
fn resumed(cx: &mut Context<'_>) -> Result<Undertaking, StepError> {
    match Undertaking::noted(cx)? {
        Some(noted) if noted.transaction == cx.transaction => Ok(noted),
        Some(noted) => {
            (cx.output)(
                "an earlier step was given up in the middle of its transaction: setting right what it left",
            );
            wait_for_earlier(&noted.transaction, cx);
            let Settled { nothing_in_place, all_run, changes } = settle(&noted, cx);
            if !nothing_in_place {
                changes?;
            } else {
                say_too(changes.err(), cx);
            }
            if all_run {
                Undertaking::forget(cx)?;
                return Ok(Undertaking::default());
            }
            // This step's transaction may be what mends it; if it does not, this step fails as the one before.
            Ok(Undertaking { running: noted.running, ..Undertaking::default() })
        }
        None => Ok(Undertaking::default()),
    }
}

/// What was brought about.
struct Done {
    wanted: Wanted,
    simulated: Simulated,
    output: String,
}

fn work(
    action: &PackageInstall,
    lists: Lists,
    undertaking: &mut Undertaking,
    wait: &mut Wait,
    cx: &mut Context<'_>,
) -> Result<Done, StepError> {
    // What another package manager is in the middle of is nothing that it left.
    wait.until_free(Need::Packages, cx)?;
    let known = (!undertaking.transaction.is_empty()).then_some(undertaking.began);
    let left = Left::observe(known, cx)?;
    if known.is_some() || !left.is_empty() {
        // Repairs run the same scripts as a transaction.
        begin(action, undertaking, BTreeMap::new(), cx)?;
    }
    let repaired = repair(undertaking, &left, wait, cx)?;
    let (wanted, foreseen) = waited_for(cx, |cx| {
        let to_read = match lists {
            Lists::ReadAgain => lists::refresh(wait, cx)?,
            Lists::AsRead => None,
        };
        // What is judged now is to be what is done then: nobody may be about to change it.
        wait.until_free(Need::Packages, cx)?;
        let wanted = wanted(action, cx)?;
        let foreseen = foresee(action, &wanted, to_read, wait, cx)?;
        Ok((wanted, foreseen))
    })?;
    let before = snapshot(cx, &foreseen.simulated, &wanted, &BTreeSet::new())?;
    let mut output = repaired.output;
    if !foreseen.transactions.is_empty() {
        begin(action, undertaking, before, cx)?;
        output += &waited_for(cx, |cx| bring_about(&foreseen.transactions, undertaking, wait, cx))?;
    } else if let Some(unmended) = repaired.unmended {
        return Err(unmended);
    } else {
        for (name, version) in before {
            undertaking.before.entry(name).or_insert(version);
        }
    }
    Ok(Done { wanted, simulated: foreseen.simulated, output })
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
        installed,
        distribution: action.scope == Scope::Distribution,
        allow_removals: action.allow_removals,
        allow_downgrades: action.allow_downgrades,
    })
}

/// With the packages that earlier steps of the same preview update: what is tied to their versions would otherwise seem to
/// be in the way.
fn with_forecast(wanted: &Wanted, cx: &Context<'_>) -> Result<Wanted, StepError> {
    let names: Vec<&str> = cx.forecast.packages.iter().map(String::as_str).collect();
    let mut together = wanted.clone();
    for (name, version) in cx.os.versions(cx.host, &names)? {
        if !wanted.packages.iter().any(|spec| spec.name == name) {
            together.packages.push(PackageSpec { name: name.clone(), version: None });
            together.installed.insert(name, version);
        }
    }
    Ok(together)
}

/// Finds out what would be done, and refuses what the step does not allow.
fn foresee(
    action: &PackageInstall,
    wanted: &Wanted,
    to_read: ToRead,
    wait: &mut Wait,
    cx: &mut Context<'_>,
) -> Result<Foreseen, StepError> {
    let (host, os, memory) = (cx.host, cx.os, cx.memory);
    let mut asked = false;
    let mut ask = |question: &Command| {
        let reads = to_read.is_some() && !asked;
        asked = true;
        let command = if reads { os.with_new_lists(question) } else { question.clone() };
        if reads {
            (cx.output)(&command.argv.join(" "));
        }
        loop {
            wait.until_free(Need::Lists, cx)?;
            let next = "look whether the package database of the node is in order, then retry";
            let exit = cx.host.run(&command).map_err(|error| failed(&error, next))?;
            if !wait.found_locked(&exit, Need::Lists, cx)? {
                return Ok(exit);
            }
        }
    };
    let foreseen = memory.foreseen(host, os, wanted, || os.foresee(&mut ask, wanted))?;
    // An answer that is none may be one of lists that could not be read.
    if let Some(sources) = to_read.filter(|_| asked) {
        memory.lists_were_read_by_the_question(host, sources);
    }
    if !wanted.distribution {
        let simulated = &foreseen.simulated;
        let changing = simulated.installs.keys().chain(&simulated.removes);
        // What an earlier step of the same preview changes was judged there.
        let of_this_step = |name: &&String| !cx.forecast.packages.contains(os.plain_name(name));
        cx.policy.judge_transaction(changing.filter(of_this_step))?;
    }
    refuse_what_is_not_allowed(action, wanted, &foreseen.simulated, cx)?;
    Ok(foreseen)
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

/// The evidence: every wanted package is there, completely, at the version that was asked for or foreseen. `installed` are versions
/// as they are now.
fn verify(
    wanted: &Wanted,
    simulated: &Simulated,
    installed: &BTreeMap<String, String>,
    cx: &Context<'_>,
) -> Result<String, StepError> {
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
