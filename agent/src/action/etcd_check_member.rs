//! `etcd.check_member`: evidence that the member of this node is back: the same member of the same cluster with the data that it
//! had, on the version that is installed, healthy, caught up by raft index, and so for a while. Who looks asks the member
//! itself and every other one, and no program's exit code.

use super::etcd_install_packages::installed;
use super::etcd_member::gate::{Open, endpoint, identify, refuse_other_than_planned, unknown};
use super::etcd_member::note::{Member, Note};
use super::etcd_member::texts::{in_a_line, way_back};
use super::etcd_member::waiting::Waiting;
use super::etcd_member::{Around, data};
use super::{Context, service_control};
use crate::etcd::{here, view};
use wavegate_common::action::EtcdCheckMember;
use wavegate_common::etcd::{ClusterView, EtcdVersion, MemberView, unfit};
use wavegate_common::id::Timestamp;
use wavegate_common::outcome::StepError;

/// Looks until the member is back and has stayed so.
///
/// # Errors
/// [`StepError`] at once if it came back as another member, in another cluster or without its data; that says what is missing
/// when the time is up.
pub fn verify(action: &EtcdCheckMember, cx: &mut Context<'_>) -> Result<String, StepError> {
    let found = here(cx.host, cx.os, cx.etcd).map_err(|error| unknown(&error))?;
    let Some(here) = found else {
        return Err(unknown(&anyhow::anyhow!("no etcd is found on this node, whose member is to be back")));
    };
    let around = Around::of(&here.unit, cx)?;
    let version = installed(&around, cx)?;
    let mut waiting = Waiting::new(action.within_s, cx);
    let mut well_since: Option<Timestamp> = None;
    let mut last_seen = None;
    loop {
        let why = match look(&around, version, action.max_lag, cx)? {
            Ok(open) => {
                let since = *well_since.get_or_insert(cx.host.now());
                let settled = cx.host.now().millis_since(since) >= action.settle_s.saturating_mul(1000);
                if settled {
                    Note::forget(&here.unit, cx)?;
                    return Ok(evidence(action, &open, version));
                }
                last_seen = Some(open.view);
                format!("it is back, and is watched for {} s", action.settle_s)
            }
            Err((why, view)) => {
                if well_since.take().is_some() {
                    (cx.output)(&format!("it was well and is no more, so the watch begins anew: {why}"));
                }
                last_seen = view.or(last_seen);
                why
            }
        };
        if !waiting.goes_on(&why, cx) {
            return Err(not_back(action, &around, version, &why, last_seen.as_ref(), cx));
        }
    }
}

/// A look: the member as it is back, or what is missing.
type Look = Result<Open, (String, Option<ClusterView>)>;

fn look(around: &Around, version: EtcdVersion, max_lag: u64, cx: &Context<'_>) -> Result<Look, StepError> {
    let here = &around.here;
    let noted = noted(around, cx);
    if let Some(member) = noted {
        refuse_lost(member, cx)?;
    }
    let asked = identify(here, cx).and_then(|me| Ok((me, view(cx.host, &[endpoint(here)])?)));
    let (me, view) = match asked {
        Ok(both) => both,
        Err(error) => return Ok(Err((error.to_string(), None))),
    };
    refuse_other_than_planned(&view, me, cx)?;
    if let Some(noted) = noted
        && (noted.id, noted.cluster) != (me, view.id)
    {
        let why = format!(
            "it is now member {me} of cluster {}, and was {} of {}",
            view.id, noted.id, noted.cluster
        );
        return Err(StepError {
            what: format!("{} came back as another member: {why}", noted.name),
            ..data::lost(noted, &why)
        });
    }
    let unfit = unfit(&view, None, max_lag);
    if !unfit.is_empty() {
        let why = unfit.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        return Ok(Err((why, Some(view))));
    }
    let runs = view.member(me).and_then(MemberView::status).map(|status| status.version);
    if runs != Some(version) {
        let runs = runs.map_or_else(|| "a version that it does not tell".to_owned(), |runs| runs.to_string());
        return Ok(Err((format!("it runs {runs}, and {version} is installed"), Some(view))));
    }
    if let Some(behind) = cluster_is_behind(&view, version) {
        return Ok(Err((behind, Some(view))));
    }
    Ok(Ok(Open { view, me }))
}

/// The member as it was before this rollout stopped it. What an earlier one noted says nothing of this one: it may have been
/// added anew since, as its operators were told.
fn noted<'a>(around: &'a Around, cx: &Context<'_>) -> Option<&'a Member> {
    around.note.as_ref().filter(|note| note.is_ours(cx))?.member.as_ref()
}

/// The data of a member that runs: if it is other than it was, it came back as a new one.
fn refuse_lost(member: &Member, cx: &Context<'_>) -> Result<(), StepError> {
    data::refuse_other(member, cx).map_err(|error| StepError {
        what: error.what.replace(", and so it is not started", ", and it was started on that"),
        next: format!("stop it on the node at once; {}", error.next),
        ..error
    })
}

/// Where every member runs the new version, the cluster must speak it.
fn cluster_is_behind(view: &ClusterView, version: EtcdVersion) -> Option<String> {
    let newer =
        |member: &MemberView| member.status().is_some_and(|status| status.version.line() >= version.line());
    let spoken = view.version.filter(|_| view.members.iter().all(newer))?;
    (spoken.line() < version.line()).then(|| {
        format!(
            "every member runs {}.{}, and the cluster still speaks {}.{}",
            version.major, version.minor, spoken.major, spoken.minor
        )
    })
}

fn evidence(action: &EtcdCheckMember, open: &Open, version: EtcdVersion) -> String {
    let older =
        |member: &&MemberView| member.status().is_some_and(|status| status.version.line() < version.line());
    let left: Vec<String> = open.view.members.iter().filter(older).map(MemberView::called).collect();
    let then = match open.view.version {
        Some(spoken) if !left.is_empty() => {
            format!(
                "; the cluster speaks {}.{} until {} is upgraded",
                spoken.major,
                spoken.minor,
                left.join(", ")
            )
        }
        Some(_) | None => String::new(),
    };
    format!(
        "{} is back with its data and was well for {} s; {}{then}",
        open.name(),
        action.settle_s,
        in_a_line(&open.view)
    )
}

fn not_back(
    action: &EtcdCheckMember,
    around: &Around,
    version: EtcdVersion,
    why: &str,
    seen: Option<&ClusterView>,
    cx: &Context<'_>,
) -> StepError {
    let name = noted(around, cx).map(|member| member.name.clone());
    let name = name.unwrap_or_else(|| format!("the member of {}", around.here.unit));
    let what = format!("{name} is not back within {} s: {why}", action.within_s);
    let error = StepError { what, output: Vec::new(), next: String::new() };
    let error = service_control::with_log(cx, &around.here.unit, error);
    let back = seen.map_or_else(String::new, |view| format!("; {}", way_back(view, version)));
    StepError { next: format!("no other member is touched meanwhile; {}{back}", error.next), ..error }
}

#[cfg(test)]
mod tests;
