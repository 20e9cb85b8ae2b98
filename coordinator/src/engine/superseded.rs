//! A coordinator that another one has taken over from, or that works beside another one: how it learns of that, and what
//! it says. It gives no orders from then on, and goes on taking reports; who is right is for people to decide.

use super::{Engine, RequestError};
use crate::store::SupersededRecord;
use wavegate_common::id::{HIGHEST_GENERATION, NodeId, Timestamp};
use wavegate_common::leader::Leader;
use wavegate_common::rollout::{Subject, WaitingOn};

/// Who has taken over, as a node says.
pub(super) struct Superseded {
    node: NodeId,
    by: Leader,
    since: Timestamp,
}

impl From<SupersededRecord> for Superseded {
    fn from(SupersededRecord { node, generation, leader, since }: SupersededRecord) -> Self {
        Self { node, by: Leader { generation, id: leader }, since }
    }
}

impl Engine {
    /// Who this coordinator is.
    pub(super) const fn leader(&self) -> Leader {
        Leader { generation: self.generation, id: Some(self.leader_id) }
    }

    /// Notes whom a node has obeyed. That another coordinator works with it is not forgotten, also by a new start: one of
    /// a higher generation has taken over until somebody raises ours above it by hand. One of our own generation is passed
    /// by our next start.
    pub(super) fn heed(&mut self, node: &NodeId, seen: Leader) {
        let known = self.superseded.as_ref().map(|superseded| superseded.by.generation);
        if seen.generation > HIGHEST_GENERATION {
            let (seen, most) = (seen.generation, HIGHEST_GENERATION);
            let what = format!(
                "its journal says that it has seen generation {seen}, which no coordinator reaches (at most {most}): keep a \
                 copy of /var/lib/wavegate/agent/journal there, move it away and restart its agent"
            );
            return self.complain(node, what);
        }
        if !seen.replaces(self.leader()) || known.is_some_and(|known| known >= seen.generation) {
            return;
        }
        let now = self.clock.now();
        let since = self.superseded.as_ref().map_or(now, |superseded| superseded.since);
        let superseded = Superseded { node: node.clone(), by: seen, since };
        let what = self.what(&superseded);
        tracing::error!(next = next(&superseded), "{what}");
        self.refused(format!("node {node}"), what);
        if seen.generation > self.generation {
            let (generation, leader) = (seen.generation, seen.id);
            let record = SupersededRecord { node: node.clone(), generation, leader, since };
            if let Err(error) = self.write(|store| store.put_superseded(&record)) {
                self.note_trouble(&error);
            }
        }
        self.superseded = Some(superseded);
        self.changed();
    }

    fn what(&self, superseded: &Superseded) -> String {
        let Superseded { node, by, .. } = superseded;
        let until = if by.generation > self.generation {
            "its generation is raised above that"
        } else {
            "it is started again"
        };
        format!(
            "another coordinator ({by}) works with node {node}; this one ({}) gives no orders until {until}",
            self.leader()
        )
    }

    pub(super) fn superseded_reason(&self) -> Option<WaitingOn> {
        let superseded = self.superseded.as_ref()?;
        Some(WaitingOn {
            subject: Subject::Rollout,
            why: self.what(superseded),
            since: superseded.since,
            nodes: vec![superseded.node.clone()],
            unblock: next(superseded),
            by: None,
        })
    }

    /// # Errors
    /// That another coordinator works with our nodes.
    pub(super) fn leads(&self) -> Result<(), RequestError> {
        self.superseded.as_ref().map_or(Ok(()), |superseded| {
            Err(RequestError::NotNow(format!("{}; {}", self.what(superseded), next(superseded))))
        })
    }
}

fn next(superseded: &Superseded) -> String {
    format!(
        "if the other one is right, end this one: systemctl stop wavegate-coordinator. If this one is (its store was \
         restored from a backup), see that no other runs, then here: systemctl stop wavegate-coordinator && \
         wavegate-coordinator raise-generation --above {} && systemctl start wavegate-coordinator. \
         If this node alone says so and there never was another one, its journal is wrong: do the same",
        superseded.by.generation
    )
}
