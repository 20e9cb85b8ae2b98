//! Steps that are alike are kept once, read once and written once: in a plan of ten thousand nodes there are a few kinds of
//! nodes. What a plan's document looks like does not depend on it.

use crate::id::NodeId;
use crate::order::Steps;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// So many kinds are remembered: enough for the platforms, roles and releases of a fleet, and few enough to look at all.
const KINDS: usize = 16;

/// The lists of steps that came last, without repetition.
#[derive(Default)]
pub(super) struct Alike(VecDeque<Steps>);

impl Alike {
    /// These steps, shared with the same ones that came before.
    pub(super) fn shared(&mut self, steps: Steps) -> Steps {
        if let Some(known) = self.0.iter().find(|known| **known == steps) {
            return known.clone();
        }
        remember(&mut self.0, steps.clone());
        steps
    }
}

/// The lists of steps that were read last, each as it was written.
#[derive(Default)]
struct Written(VecDeque<(Box<RawValue>, Steps)>);

impl Written {
    /// The steps that are written so. What was written the same before is not read again.
    fn read(&mut self, written: Box<RawValue>) -> serde_json::Result<Steps> {
        if let Some((_, steps)) = self.0.iter().find(|(known, _)| known.get() == written.get()) {
            return Ok(steps.clone());
        }
        let steps: Steps = serde_json::from_str(written.get())?;
        remember(&mut self.0, (written, steps.clone()));
        Ok(steps)
    }
}

/// The lists of steps that were written last, each with its JSON.
#[derive(Default)]
struct Shared<'a>(VecDeque<(&'a Steps, Arc<RawValue>)>);

impl<'a> Shared<'a> {
    /// How these steps are written. Those that are shared with another node are not written again.
    fn write(&mut self, steps: &'a Steps) -> serde_json::Result<Arc<RawValue>> {
        if let Some((_, written)) = self.0.iter().find(|(known, _)| known.as_ptr() == steps.as_ptr()) {
            return Ok(written.clone());
        }
        let written: Arc<RawValue> = to_raw_value(steps)?.into();
        remember(&mut self.0, (steps, written.clone()));
        Ok(written)
    }
}

fn remember<T>(known: &mut VecDeque<T>, new: T) {
    if known.len() == KINDS {
        known.pop_front();
    }
    known.push_back(new);
}

/// Reads the steps of each node, of a JSON document.
pub(super) fn tasks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<NodeId, Steps>, D::Error> {
    struct Tasks;
    impl<'de> Visitor<'de> for Tasks {
        type Value = BTreeMap<NodeId, Steps>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the steps of each node")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let (mut tasks, mut known) = (BTreeMap::new(), Written::default());
            while let Some((node, written)) = map.next_entry::<NodeId, Box<RawValue>>()? {
                let steps = known.read(written);
                let steps =
                    steps.map_err(|error| M::Error::custom(format!("the steps of {node}: {error}")))?;
                tasks.insert(node, steps);
            }
            Ok(tasks)
        }
    }
    deserializer.deserialize_map(Tasks)
}

/// Writes the steps of each node, into a JSON document.
pub(super) fn write<S: Serializer>(
    tasks: &BTreeMap<NodeId, Steps>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let (mut map, mut known) = (serializer.serialize_map(Some(tasks.len()))?, Shared::default());
    for (node, steps) in tasks {
        let written = known.write(steps).map_err(S::Error::custom)?;
        map.serialize_entry(node, &*written)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StepId;
    use crate::order::{PlannedStep, Work};

    fn steps(title: usize) -> Steps {
        let (id, work) = (StepId::new("a").expect("an id"), Work::Skip { reason: "test".to_owned() });
        vec![PlannedStep { id, title: title.to_string(), work }].into()
    }

    #[test]
    fn what_is_read_is_what_was_written_and_alike_nodes_share_it() {
        // Two kinds in turn, then more of them than are remembered.
        let kind = |index: usize| if index < 20 { index % 2 } else { index };
        let node = |index| NodeId::new(format!("n{index:02}")).expect("a name");
        let written: BTreeMap<NodeId, Steps> =
            (0..60).map(|index| (node(index), steps(kind(index)))).collect();
        let json = serde_json::to_string(&written).expect("JSON");
        let read = tasks(&mut serde_json::Deserializer::from_str(&json)).expect("tasks");
        assert_eq!(read, written);
        let mut again = Vec::new();
        write(&read, &mut serde_json::Serializer::new(&mut again)).expect("JSON");
        assert_eq!(String::from_utf8(again).expect("text"), json);
        let value = write(&read, serde_json::value::Serializer).expect("a value");
        assert_eq!(value, serde_json::to_value(&written).expect("a value"));
        let shared = |one: usize, other: usize| read[&node(one)].as_ptr() == read[&node(other)].as_ptr();
        assert!(shared(0, 18) && shared(1, 19) && !shared(0, 1));
    }
}
