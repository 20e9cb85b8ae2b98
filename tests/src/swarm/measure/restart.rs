//! The coordinator killed and started: how long it takes to answer, until every agent is back, and how they spread.

use super::{BOUND, Measuring};
use crate::bench::{Limit, Row, median};
use crate::swarm::{Coordinator, NodeSeen};
use anyhow::Result;
use std::time::{Duration, SystemTime};
use wavegate_common::rollout::Link;

/// A start alone is measured so often.
const STARTS: usize = 3;

/// A second in milliseconds.
const SECOND_MS: u64 = 1000;

/// How agents came back.
pub(super) struct Back {
    /// From the kill to the beginning of the last session.
    pub(super) all: Duration,
    /// Sessions that began in the busiest second.
    pub(super) busiest: usize,
}

impl Measuring {
    /// After a rollout that has finished, with nobody at work.
    pub(super) async fn kill_and_start_idle(&mut self) -> Result<()> {
        let back = self.kill_and_start().await?;
        self.told("all agents back after kill -9 and start", &back);
        Ok(())
    }

    pub(super) fn told(&mut self, what: &str, back: &Back) {
        let row = self.at(Row::new(what, "s", Some(Limit::AtMost(15.0))), back.all.as_secs_f64());
        self.row(row.note(format!("at most {} in a second", back.busiest)));
    }

    /// Kills it, starts it, and waits until every agent is back.
    pub(super) async fn kill_and_start(&mut self) -> Result<Back> {
        self.coordinator.kill()?;
        let from = SystemTime::now();
        self.coordinator.start().await?;
        let nodes = self.swarm.connected(&self.coordinator, BOUND).await?;
        self.reconnect().await?;
        let since = since(&nodes);
        let last = since.last().copied().unwrap_or_default();
        let from =
            u64::try_from(from.duration_since(SystemTime::UNIX_EPOCH)?.as_millis()).unwrap_or(u64::MAX);
        let all = Duration::from_millis(last.saturating_sub(from));
        Ok(Back { all, busiest: busiest(&since) })
    }
}

/// A start of a coordinator that was killed after a rollout, with no agent that dials it meanwhile.
pub(super) async fn start_alone(coordinator: &mut Coordinator, nodes: usize) -> Result<Row> {
    let mut took = Vec::new();
    for _ in 0..STARTS {
        coordinator.kill()?;
        took.push(coordinator.start().await?.as_secs_f64());
    }
    let row = Row::new("coordinator's start on the log of a finished rollout", "s", Some(Limit::AtMost(1.0)));
    let row = row.at(u32::try_from(nodes).unwrap_or(u32::MAX), median(&took));
    Ok(row.note(format!("from exec to an answer on the socket, no agent dials; median of {STARTS}")))
}

/// When sessions began, in milliseconds since the epoch, sorted.
fn since(nodes: &[NodeSeen]) -> Vec<u64> {
    let online = |node: &NodeSeen| match node.link {
        Link::Online { since } => Some(since.0),
        Link::Offline { .. } => None,
    };
    let mut since: Vec<u64> = nodes.iter().filter_map(online).collect();
    since.sort_unstable();
    since
}

/// The most of these moments that lie within one second.
fn busiest(sorted: &[u64]) -> usize {
    let within = |from: usize| sorted[from..].partition_point(|at| *at < sorted[from] + SECOND_MS);
    (0..sorted.len()).map(within).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_is_found_wherever_it_begins() {
        assert_eq!(busiest(&[0, 900, 1001, 1899, 1900, 5000]), 3);
        assert_eq!(busiest(&[0, 500, 999, 1000]), 3);
        assert_eq!(busiest(&[]), 0);
    }
}
