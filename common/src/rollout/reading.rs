//! Reading an entry of the log fast: the events that a log is full of are read in one pass. What an entry looks like is said in
//! `event`, whose own reading puts every value aside three times on its way through tagged and flattened parts; it reads
//! all that is anything else here, and says what is wrong.

use super::event::{Entry, Event, TaskRef, TaskResult};
use crate::id::{Generation, NodeId, StepId, Timestamp};
use crate::outcome::{Change, Outcome};
use crate::platform::Stage;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

impl Entry {
    /// Reads an entry from JSON: the same that deserializing it reads, several times as fast.
    ///
    /// # Errors
    /// As deserializing it.
    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let frequent = serde_json::from_slice::<Object<Frequent<'_>>>(json).ok();
        match frequent.and_then(|Object(frequent)| frequent.entry()) {
            Some(entry) => Ok(entry),
            None => serde_json::from_slice(json),
        }
    }
}

/// An entry of a frequent event, with all that one of them may have and nothing else: what would be passed over is not
/// looked at as closely as where it is put aside.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frequent<'a> {
    seq: u64,
    at: Timestamp,
    generation: Generation,
    event: &'a str,
    stage: Stage,
    node: NodeId,
    attempt: u32,
    step: Option<StepId>,
    ended_at: Option<Timestamp>,
    #[serde(borrow)]
    outcome: Option<Object<Frequently<'a>>>,
    result: Option<TaskResult>,
}

impl Frequent<'_> {
    /// `None` if it is none of the frequent events, or not whole.
    fn entry(self) -> Option<Entry> {
        let Self { seq, at, generation, event, stage, node, attempt, step, ended_at, outcome, result } = self;
        let task = TaskRef { stage, node, attempt };
        let event = match event {
            "task_started" => Event::TaskStarted { task },
            "task_accepted" => Event::TaskAccepted { task },
            "step_ended" => {
                let Object(outcome) = outcome?;
                Event::StepEnded { task, step: step?, ended_at: ended_at?, outcome: outcome.outcome()? }
            }
            "task_ended" => Event::TaskEnded { task, result: result? },
            _ => return None,
        };
        Some(Entry { seq, at, generation, event })
    }
}

/// What came of a step that did not fail.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frequently<'a> {
    outcome: &'a str,
    changes: Option<Vec<Change>>,
    evidence: Option<String>,
    reason: Option<String>,
}

impl Frequently<'_> {
    fn outcome(self) -> Option<Outcome> {
        let Self { outcome, changes, evidence, reason } = self;
        Some(match outcome {
            "changed" => Outcome::Changed { changes: changes?, evidence: evidence? },
            "already_so" => Outcome::AlreadySo { evidence: evidence? },
            "skipped" => Outcome::Skipped { reason: reason? },
            _ => return None,
        })
    }
}

/// Something that is written as an object. By itself a struct is read from a list of its fields as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Object<T>, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

#[cfg(test)]
mod tests;
