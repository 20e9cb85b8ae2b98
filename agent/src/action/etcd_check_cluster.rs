//! `etcd.check_cluster`: evidence that the cluster of this node may be worked on: everyone healthy and caught up, one leader, no
//! alarm.

use super::Context;
use super::etcd_member::Around;
use super::etcd_member::gate::{endpoint, identify, planned, unknown};
use super::etcd_member::note::Note;
use super::etcd_member::texts::{in_a_line, seen_from_here};
use super::etcd_member::waiting::Waiting;
use crate::etcd::{Here, here, view};
use wavegate_common::action::{Action, EtcdCheckCluster};
use wavegate_common::etcd::{Part, unfit};
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::StepError;

/// Looks until every member is well.
///
/// # Errors
/// [`StepError`] that names who is not well when the time is up, or at once if it is another cluster than the planned one.
pub fn verify(action: &EtcdCheckCluster, cx: &mut Context<'_>) -> Result<String, StepError> {
    // What an earlier attempt stopped and could not start is brought back by the step that comes for it: nobody else may be
    // touched until then, and there is nobody here to ask.
    let found = here(cx.host, cx.os, cx.etcd).map_err(|error| unknown(&error))?;
    let changed = cx.to_come.iter().find_map(changes_etcd);
    let unit = changed.or_else(|| found.as_ref().map(|here| here.unit.as_str()));
    if let Some(name) = left_down(unit, cx)? {
        return Ok(format!(
            "{name} is down since an earlier attempt, which found all others well: it is to be brought back"
        ));
    }
    let Some(here) = found else {
        return Err(unknown(&anyhow::anyhow!(
            "no etcd is found on this node, whose cluster is to be looked at"
        )));
    };
    refuse_one_that_is_down(&here, cx)?;
    let mut waiting = Waiting::new(action.within_s, cx);
    loop {
        let why = match view(cx.host, &[endpoint(&here)]) {
            Err(error) => error.to_string(),
            Ok(view) => {
                if let Some(planned) = planned(cx).filter(|planned| planned.cluster != view.id) {
                    return Err(StepError {
                        what: format!(
                            "etcd on this node is of cluster {}, and the plan saw it in {}",
                            view.id, planned.cluster
                        ),
                        output: Vec::new(),
                        next: "find out what has changed on the node since, then plan again".to_owned(),
                    });
                }
                let unfit = unfit(&view, None, action.max_lag);
                if unfit.is_empty() {
                    return Ok(format!("all are well: {}", in_a_line(&view)));
                }
                match identify(&here, cx).ok().filter(|_| here.part == Part::Member) {
                    Some(me) => seen_from_here(&view, me, &unfit).join("; "),
                    None => unfit.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                }
            }
        };
        if !waiting.goes_on(&why, cx) {
            return Err(StepError {
                what: format!("the cluster is not well, and did not get so within {} s: {why}", action.within_s),
                output: Vec::new(),
                next: "bring what is named here to health ('etcdctl endpoint status' and the log of etcd there say more; \
                       alarms are 'etcdctl alarm list'), then retry; nothing was touched"
                    .to_owned(),
            });
        }
    }
}

/// What this rollout left down here, as people call it. It may be that nothing of it is to be found but the service that the
/// steps to come name: an agent that was killed in the middle of a transaction leaves that masked.
fn left_down(unit: Option<&str>, cx: &Context<'_>) -> Result<Option<String>, StepError> {
    let Some(unit) = unit else { return Ok(None) };
    let Some(note) = Note::of(unit, cx)?.filter(|note| note.is_ours(cx)) else { return Ok(None) };
    if !Around::of(unit, cx)?.stopped_by_us(cx) {
        return Ok(None);
    }
    Ok(Some(note.member.map_or_else(|| unit.to_owned(), |member| member.name)))
}

/// Through a proxy or gateway that is down nobody can be asked, and the cluster is not to blame for that.
fn refuse_one_that_is_down(here: &Here, cx: &Context<'_>) -> Result<(), StepError> {
    if here.part == Part::Member {
        return Ok(());
    }
    let Here { part, unit, .. } = here;
    let state = cx.os.service(cx.host, unit)?;
    if !state.is_down() {
        return Ok(());
    }
    Err(StepError {
        what: format!(
            "the {part} of this node, service {unit}, is down ({}): nobody can ask etcd through it",
            state.words
        ),
        output: Vec::new(),
        next: format!(
            "start it and retry; or, where none is wanted here any more, disable and mask {unit}, so that it is no longer \
             found, and plan again"
        ),
    })
}

/// The service whose etcd a step changes.
fn changes_etcd(step: &PlannedStep) -> Option<&str> {
    match &step.work {
        Work::Run { action: Action::EtcdInstallPackages(action), .. } => Some(&action.unit),
        Work::Run { action: Action::EtcdInstallArchive(action), .. } => Some(&action.unit),
        Work::Run { .. } | Work::Skip { .. } => None,
    }
}

#[cfg(test)]
mod tests;
