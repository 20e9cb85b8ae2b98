//! The gate: a member is taken down only while all the others are well, and only for a version that the cluster can go to.

use super::Stopping;
use super::texts::{seen_from_here, the_others};
use super::waiting::Waiting;
use crate::action::{Context, failed};
use crate::etcd::{Here, member, view};
use crate::host::etcd::{Endpoint, EtcdError};
use std::time::Duration;
use wavegate_common::etcd::path::judge;
use wavegate_common::etcd::{ClusterView, EtcdVersion, MemberId, MemberView, unfit};
use wavegate_common::outcome::StepError;
use wavegate_common::plan::PlannedEtcd;

/// How long one server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The etcd of this node, as somebody asks it.
#[must_use]
pub fn endpoint(here: &Here) -> Endpoint {
    Endpoint { url: here.local.clone(), access: here.access.clone(), timeout: ANSWER }
}

/// What the plan saw of etcd on this node.
#[must_use]
pub fn planned<'a>(cx: &Context<'a>) -> Option<&'a PlannedEtcd> {
    cx.planned.and_then(|node| node.etcd.as_ref())
}

/// A cluster in which the member of this node may be stopped now.
pub struct Open {
    /// The cluster.
    pub view: ClusterView,
    /// The member.
    pub me: MemberId,
}

impl Open {
    /// The member of this node, as the cluster tells it.
    #[must_use]
    pub fn member(&self) -> Option<&MemberView> {
        self.view.member(self.me)
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> String {
        self.member().map_or_else(|| format!("member {}", self.me), MemberView::called)
    }
}

/// Waits until the cluster can do without the member of this node.
///
/// # Errors
/// [`StepError`] that names the members that are not well when the time is up; at once if the cluster or the member is not the
/// planned one, or the cluster can't go to the version that would run.
pub fn pass(
    here: &Here,
    stopping: &Stopping<'_>,
    waiting: &mut Waiting,
    cx: &mut Context<'_>,
) -> Result<Open, StepError> {
    let mut name = "the member of this node".to_owned();
    loop {
        let why = match look(here, stopping, cx)? {
            Looked::Open(open) => return Ok(open),
            Looked::Closed(called, why) => {
                name = called.unwrap_or(name);
                why
            }
        };
        if !waiting.goes_on(&why.join("; "), cx) {
            return Err(StepError {
                what: format!(
                    "{name} can't be taken down within {} s: {}",
                    stopping.within_s,
                    why.join("; ")
                ),
                output: Vec::new(),
                next:
                    "bring what is named here to health first, then retry; nothing was stopped on this node"
                        .to_owned(),
            });
        }
    }
}

enum Looked {
    Open(Open),
    /// The member, as people call it, and why it must go on.
    Closed(Option<String>, Vec<String>),
}

fn look(here: &Here, stopping: &Stopping<'_>, cx: &Context<'_>) -> Result<Looked, StepError> {
    let asked = identify(here, cx).and_then(|me| Ok((me, view(cx.host, &[endpoint(here)])?)));
    let (me, view) = match asked {
        Ok(both) => both,
        Err(error) => return Ok(Looked::Closed(None, vec![error.to_string()])),
    };
    refuse_other_than_planned(&view, me, cx)?;
    if let Some(to) = stopping.to {
        refuse_version(&view, to)?;
    }
    let unfit = unfit(&view, Some(me), stopping.max_lag);
    if unfit.is_empty() {
        return Ok(Looked::Open(Open { view, me }));
    }
    Ok(Looked::Closed(view.member(me).map(MemberView::called), seen_from_here(&view, me, &unfit)))
}

/// The member that runs here, as it says itself.
///
/// # Errors
/// [`EtcdError`] if it does not answer.
pub fn identify(here: &Here, cx: &Context<'_>) -> Result<MemberId, EtcdError> {
    let endpoint = endpoint(here);
    member(&*cx.host.etcd(&endpoint), &endpoint.url)
}

/// Refuses another cluster or member than the one that the plan saw.
///
/// # Errors
/// [`StepError`] that names both.
pub fn refuse_other_than_planned(
    view: &ClusterView,
    me: MemberId,
    cx: &Context<'_>,
) -> Result<(), StepError> {
    let Some(planned) = planned(cx) else { return Ok(()) };
    let what = if view.id != planned.cluster {
        format!("etcd on this node is of cluster {}, and the plan saw it in {}", view.id, planned.cluster)
    } else if planned.member.is_some_and(|member| member != me) {
        let member = planned.member.map(|member| member.to_string()).unwrap_or_default();
        format!("etcd on this node is member {me}, and the plan saw it as {member}")
    } else {
        return Ok(());
    };
    let next = format!(
        "find out on the node whether it started without its data or with another configuration: {}; then plan again",
        the_others(view, me)
    );
    Err(StepError { what, output: Vec::new(), next })
}

fn refuse_version(view: &ClusterView, to: EtcdVersion) -> Result<(), StepError> {
    let Some(first) = judge(view, to).into_iter().next() else { return Ok(()) };
    let next = format!("{}; nothing was stopped on this node", first.next);
    Err(StepError { what: format!("the cluster can't go to {to}: {}", first.what), output: Vec::new(), next })
}

/// That this node's etcd can't be found or asked.
#[must_use]
pub fn unknown(error: &anyhow::Error) -> StepError {
    let next =
        "see what 'wavegate-agent facts' says of etcd on this node, and [etcd] of its agent.toml, then retry";
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    StepError { what: chain.join(": "), output: Vec::new(), next: next.to_owned() }
}

/// That etcd did not do what it was asked.
#[must_use]
pub fn unanswered(error: &EtcdError) -> StepError {
    failed(
        error,
        "see that etcd runs on the node and that [etcd] of its agent.toml says how to ask it, then retry",
    )
}
