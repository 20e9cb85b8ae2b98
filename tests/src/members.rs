//! What the members of an etcd cluster wrote into their own hosts' journals: when each was down, who led when, and whether one
//! began anew. For suites; nothing here changes anything or asks etcd.

use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::{Node, Role};

/// etcd's words for the beginning of its end, 3.3 to 3.5.
const STOPS: &str = "shutting down";
/// For the end of its start.
const SERVES: &str = "ready to serve client requests";
/// For a member that was elected.
const LEADS: &str = "became leader at term";
/// For a member without data, up to 3.4 and from 3.5 on: one that has them is "restarting".
const BEGINS: [&str; 2] = ["starting member", "starting local member"];

/// A line of a member's.
#[derive(Debug, Clone)]
struct Line {
    /// Microseconds since 1970.
    at: u64,
    member: String,
    text: String,
}

/// A time in which a member did not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Its host.
    pub member: String,
    /// When it was told to end, in microseconds since 1970.
    pub from: u64,
    /// When it served again; none if it has not.
    pub to: Option<u64>,
    /// Who led when it was told to.
    pub leader: Option<String>,
}

/// The journals of all members since a moment, merged.
pub struct Annals {
    since: u64,
    lines: Vec<Line>,
}

/// Now, as the journals count.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

impl Annals {
    /// Reads the journals of the members among these nodes; what is asked for below counts from `since` on.
    ///
    /// # Errors
    ///
    /// When one is off, or its journal can't be understood.
    pub fn read<'a>(nodes: impl Iterator<Item = &'a Node>, since: u64) -> Result<Self> {
        let mut lines = Vec::new();
        for node in nodes.filter(|node| node.role() == Role::Etcd) {
            let journal = node.run(&["journalctl", "--no-pager", "-o", "json", "_COMM=etcd"])?;
            for entry in journal.lines() {
                lines.push(line(node.name(), entry).with_context(|| format!("{}: {entry}", node.name()))?);
            }
        }
        lines.sort_by_key(|line| line.at);
        Ok(Self { since, lines })
    }

    fn saying(&self, words: &str) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.text.contains(words))
    }

    /// Who led at a moment, by who was elected last before it.
    #[must_use]
    pub fn leader_at(&self, at: u64) -> Option<String> {
        self.saying(LEADS).take_while(|line| line.at < at).last().map(|line| line.member.clone())
    }

    /// Every outage, in order.
    #[must_use]
    pub fn outages(&self) -> Vec<Outage> {
        let stops = self.saying(STOPS).filter(|line| line.at >= self.since);
        let outage = |stop: &Line| Outage {
            member: stop.member.clone(),
            from: stop.at,
            to: self
                .saying(SERVES)
                .find(|line| line.member == stop.member && line.at > stop.at)
                .map(|line| line.at),
            leader: self.leader_at(stop.at),
        };
        stops.map(outage).collect()
    }

    /// Each of these members was down once and is back, none while another was, none while it led, and last was the one
    /// that led when this began. Returns how long each was down, in order.
    ///
    /// # Errors
    ///
    /// Says what was not so.
    pub fn one_by_one_and_the_leader_last(&self, members: &[&str]) -> Result<Vec<(String, u64)>> {
        let outages = self.outages();
        let mut down: Vec<&str> = outages.iter().map(|outage| outage.member.as_str()).collect();
        down.sort_unstable();
        ensure!(down == members, "not each member was down once: {outages:?}");
        for pair in outages.windows(2) {
            let back = pair[0].to.is_some_and(|back| back <= pair[1].from);
            ensure!(back, "two members were down at once: {pair:?}");
        }
        for outage in &outages {
            ensure!(outage.to.is_some(), "a member is not back: {outage:?}");
            ensure!(
                outage.leader.as_ref() != Some(&outage.member),
                "a member was stopped while it led: {outage:?}"
            );
        }
        let (led, last) = (self.leader_at(self.since), outages.last().map(|outage| outage.member.clone()));
        ensure!(led.is_some() && led == last, "{led:?} led, but last was {last:?}");
        Ok(outages
            .into_iter()
            .map(|outage| (outage.member, outage.to.unwrap_or(outage.from) - outage.from))
            .collect())
    }

    /// No member began without data since.
    ///
    /// # Errors
    ///
    /// Shows the line of one that did.
    pub fn nobody_began_anew(&self) -> Result<()> {
        let begins = |line: &&Line| {
            BEGINS
                .iter()
                .any(|words| line.text.split_once(words).is_some_and(|(before, _)| !before.ends_with("re")))
        };
        let (before, anew): (Vec<&Line>, Vec<&Line>) =
            self.lines.iter().filter(begins).partition(|line| line.at < self.since);
        ensure!(anew.is_empty(), "a member began without its data: {anew:?}");
        // That these are its words is shown by the beginning of the cluster.
        ensure!(!before.is_empty(), "no member ever said '{}'", BEGINS[0]);
        Ok(())
    }
}

fn line(member: &str, entry: &str) -> Result<Line> {
    let entry: Value = serde_json::from_str(entry).context("no JSON")?;
    let at = entry["__REALTIME_TIMESTAMP"].as_str().and_then(|at| at.parse().ok()).context("no time")?;
    // A message with bytes that are no text is a list of them.
    let text = match &entry["MESSAGE"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Ok(Line { at, member: member.to_owned(), text })
}
