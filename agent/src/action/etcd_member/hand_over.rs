//! Leadership is handed to another member before the leader is stopped, so that nobody waits for an election.

use super::Stopping;
use super::gate::{Open, endpoint};
use super::waiting::Waiting;
use crate::action::Context;
use crate::etcd::Here;
use crate::host::etcd::EtcdError;
use std::time::Duration;
use wavegate_common::etcd::{MemberId, MemberView};
use wavegate_common::outcome::StepError;

/// The first version with a call for it (`Maintenance.MoveLeader`).
const MOVES_LEADER: (u32, u32) = (3, 3);

/// How often to look whether it has moved.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// What became of leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// The member does not lead.
    Elsewhere,
    /// It led until now: the cluster is to be looked at again.
    Moved,
    /// It leads, and there is no way to hand that over.
    Stays,
}

/// Hands leadership over if the member of this node has it.
///
/// # Errors
/// [`StepError`] if it could be handed over and was not, when the time is up.
pub fn hand_over(
    here: &Here,
    open: &Open,
    stopping: &Stopping<'_>,
    waiting: &mut Waiting,
    cx: &mut Context<'_>,
) -> Result<Leadership, StepError> {
    if open.view.leader() != Some(open.me) {
        return Ok(Leadership::Elsewhere);
    }
    let Some((to, called)) = heir(open, stopping) else { return Ok(Leadership::Stays) };
    let name = open.name();
    let older =
        open.member().and_then(MemberView::status).is_none_or(|status| status.version.line() < MOVES_LEADER);
    if older {
        (cx.output)(&format!(
            "{name} leads, and its version can't hand that over: the others elect a leader when it stops"
        ));
        return Ok(Leadership::Stays);
    }
    (cx.output)(&format!("handing leadership from {name} to {called}"));
    let why = match cx.host.etcd(&endpoint(here)).move_leader(to) {
        Ok(()) => match moved(here, open.me, cx) {
            true => return Ok(Leadership::Moved),
            false => "it still leads".to_owned(),
        },
        Err(EtcdError::Unsupported { reason, .. }) => {
            (cx.output)(&format!(
                "leadership can't be handed over ({reason}): the others elect a leader when it stops"
            ));
            return Ok(Leadership::Stays);
        }
        Err(error) => error.to_string(),
    };
    if waiting.goes_on(&format!("{name} leads, and could not hand that over to {called}: {why}"), cx) {
        return Ok(Leadership::Moved);
    }
    Err(StepError {
        what: format!("{name} leads the cluster and could not hand that over to {called}: {why}"),
        output: Vec::new(),
        next: format!(
            "move it by hand ('ETCDCTL_API=3 etcdctl --endpoints={} move-leader {to}'), then retry; nothing was stopped on this \
             node",
            here.local
        ),
    })
}

/// Who is to lead: rather a member that still runs an older version than this one will, which leads for longer then.
fn heir(open: &Open, stopping: &Stopping<'_>) -> Option<(MemberId, String)> {
    let others = open.view.members.iter().filter(|member| member.id != open.me && !member.learner);
    let able = others.filter(|member| member.status().is_some_and(|status| status.healthy));
    let upgraded = |member: &MemberView| {
        let version = member.status().map(|status| status.version);
        stopping.to.is_some_and(|to| version.is_some_and(|version| version >= to))
    };
    let heir = able.min_by_key(|member| (upgraded(member), member.id))?;
    Some((heir.id, heir.called()))
}

/// Whether another member leads, as this one knows it.
fn moved(here: &Here, me: MemberId, cx: &Context<'_>) -> bool {
    for _ in 0..LOOKS {
        let leader = cx.host.etcd(&endpoint(here)).status().ok().and_then(|status| status.leader);
        if leader.is_some_and(|leader| leader != me) {
            return true;
        }
        cx.host.sleep(PAUSE);
    }
    false
}
