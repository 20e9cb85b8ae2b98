//! Both readings agree: on every event, in any order of its fields, and on what is damaged.

use super::{Entry, Frequent, Object};
use crate::id::{Actor, Generation, NodeId, StepId, Timestamp};
use crate::outcome::{Change, Outcome, StepError};
use crate::platform::Stage;
use crate::rollout::{Event, Mode, PauseReason, TaskRef, TaskResult};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{0,6}", "(?s).{0,4}"]
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9._-]{0,9}"
}

fn task() -> impl Strategy<Value = TaskRef> {
    let of = |(stage, node, attempt)| TaskRef { stage, node: NodeId::new(node).expect("a name"), attempt };
    (select(Stage::ALL), name(), any::<u32>()).prop_map(of)
}

fn change() -> impl Strategy<Value = Change> {
    let version = || proptest::option::of(text());
    prop_oneof![
        (text(), version(), version()).prop_map(|(name, from, to)| Change::Package { name, from, to }),
        (text(), version(), text()).prop_map(|(of, from, to)| Change::Version { of, from, to }),
        (text(), text()).prop_map(|(unit, what)| Change::Service { unit, what }),
        (any::<u32>(), text(), text()).prop_map(|(pid, program, why)| Change::Process { pid, program, why }),
        (text(), text()).prop_map(|(path, what)| Change::File { path, what }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let changes = proptest::collection::vec(change(), 0..3);
    let output = proptest::collection::vec(text(), 0..3);
    let failed = (text(), output, text()).prop_map(|(what, output, next)| StepError { what, output, next });
    prop_oneof![
        (changes, text()).prop_map(|(changes, evidence)| Outcome::Changed { changes, evidence }),
        text().prop_map(|evidence| Outcome::AlreadySo { evidence }),
        text().prop_map(|reason| Outcome::Skipped { reason }),
        failed.prop_map(|error| Outcome::Failed { error }),
    ]
}

/// The events of a task that goes well, and of one that fails.
fn frequent() -> impl Strategy<Value = Event> {
    let ended = (task(), name(), any::<u64>(), outcome()).prop_map(|(task, step, at, outcome)| {
        let step = StepId::new(step).expect("an id");
        Event::StepEnded { task, step, ended_at: Timestamp(at), outcome }
    });
    let results = select(vec![TaskResult::Finished, TaskResult::Failed]);
    prop_oneof![
        task().prop_map(|task| Event::TaskStarted { task }),
        task().prop_map(|task| Event::TaskAccepted { task }),
        ended,
        (task(), results).prop_map(|(task, result)| Event::TaskEnded { task, result }),
    ]
}

fn other() -> impl Strategy<Value = Event> {
    let by = || text().prop_map(Actor);
    let acknowledged = proptest::collection::vec(text(), 0..2);
    let started = (by(), acknowledged).prop_map(|(by, acknowledged)| Event::Started {
        mode: Mode::Manual,
        approved_by: vec![by.clone()],
        by,
        acknowledged,
    });
    let waived = (task(), text(), any::<u64>(), by()).prop_map(|(task, reason, until, by)| {
        Event::NodeWaived { node: task.node, reason, until: Timestamp(until), by }
    });
    let threshold = (task(), any::<u32>()).prop_map(|(task, failed)| Event::Paused {
        reason: PauseReason::ErrorThreshold { stage: task.stage, failed, allowed: task.attempt },
    });
    prop_oneof![
        started,
        task().prop_map(|task| Event::TaskLost { task }),
        task().prop_map(|task| Event::TaskOverdue { task }),
        task().prop_map(|task| Event::TaskReturned { task }),
        task().prop_map(|task| Event::TaskRestarted { task }),
        (task(), by()).prop_map(|(task, by)| Event::TaskRetried { task, by }),
        (task(), any::<usize>(), by()).prop_map(|(task, wave, by)| Event::WaveReleased {
            stage: task.stage,
            wave,
            by
        }),
        waived,
        (task(), proptest::option::of(by()))
            .prop_map(|(task, by)| Event::WaiverEnded { node: task.node, by }),
        by().prop_map(|by| Event::Paused { reason: PauseReason::Operator { by } }),
        threshold,
        by().prop_map(|by| Event::Resumed { by }),
        by().prop_map(|by| Event::StopRequested { by }),
        Just(Event::Stopped),
        Just(Event::Finished),
    ]
}

fn entry(event: impl Strategy<Value = Event>) -> impl Strategy<Value = Entry> {
    let of = |(seq, at, generation, event)| Entry {
        seq,
        at: Timestamp(at),
        generation: Generation(generation),
        event,
    };
    (any::<u64>(), any::<u64>(), any::<u64>(), event).prop_map(of)
}

/// JSON, its fields in one of many orders. A name or a text that ends in `@` is written without it: so a field can be there
/// twice. A text `@N` is the odd value of that number.
fn written(value: &Value, order: u64) -> String {
    let json = |text: &str| Value::from(text.trim_end_matches('@')).to_string();
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| {
                let mut hasher = DefaultHasher::new();
                (order, name).hash(&mut hasher);
                hasher.finish()
            });
            let fields = fields.into_iter().map(|(name, value)| json(name) + ":" + &written(value, order));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(" ,"))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| written(item, order)).collect();
            format!("[{}]", items.join(","))
        }
        Value::String(text) => {
            let odd = text.strip_prefix('@').and_then(|number| ODD.get(number.parse::<usize>().ok()?));
            odd.map_or_else(|| json(text), |odd| odd.replace("DEEP", &deep()))
        }
        other => other.to_string(),
    }
}

/// Deeper than is read.
fn deep() -> String {
    "[".repeat(200) + &"]".repeat(200)
}

/// What a field may come to hold.
const ODD: [&str; 24] = [
    "null",
    "[]",
    "{}",
    "0",
    "-0",
    "-1",
    "1.0",
    "1e400",
    "4294967296",
    "18446744073709551616",
    "\"\"",
    "\"n 1\"",
    "\"finished\"",
    "\"t\\u0061sk_started\"",
    "\"step_ended\"",
    "\"\\ud800\"",
    "\"\u{1}\"",
    "{\"finished\":null}",
    "{\"compute\":null}",
    "{\"step_ended\":null}",
    "[\"already_so\",\"it is there\"]",
    "[\"already_so\",null,\"it is there\",null]",
    "[{\"kind\":\"file\",\"path\":\"a\",\"what\":\"b\",\"more\":DEEP}]",
    "DEEP",
];

const FIELDS: [&str; 18] = [
    "seq",
    "at",
    "generation",
    "event",
    "stage",
    "node",
    "attempt",
    "step",
    "ended_at",
    "outcome",
    "result",
    "changes",
    "evidence",
    "reason",
    "error",
    "by",
    "of_a_later_version",
    "",
];

/// Something done to one field.
#[derive(Debug, Clone)]
struct Damage {
    field: &'static str,
    /// In what came of the step, if there is that.
    inside: bool,
    /// The field is there twice.
    twice: bool,
    /// Which odd value it is; gone without one.
    odd: Option<usize>,
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let odd = proptest::option::weighted(0.8, 0..ODD.len());
        let of = |(field, inside, twice, odd)| Self { field, inside, twice, odd };
        (select(&FIELDS), any::<bool>(), proptest::bool::weighted(0.2), odd).prop_map(of)
    }

    fn on(&self, fields: &mut Map<String, Value>) {
        if self.inside
            && let Some(Value::Object(inner)) = fields.get_mut("outcome")
        {
            Self { inside: false, ..self.clone() }.on(inner);
            return;
        }
        match (self.odd, fields.get(self.field).cloned()) {
            (None, None) => {}
            (None, Some(same)) if self.twice => drop(fields.insert(format!("{}@", self.field), same)),
            (None, Some(_)) => drop(fields.remove(self.field)),
            (Some(odd), _) => {
                let name = if self.twice { format!("{}@", self.field) } else { self.field.to_owned() };
                fields.insert(name, json!(format!("@{odd}")));
            }
        }
    }
}

fn agree(json: &[u8]) -> Result<(), TestCaseError> {
    let told = |read: serde_json::Result<Entry>| read.map_err(|error| error.to_string());
    let json_text = String::from_utf8_lossy(json);
    prop_assert_eq!(told(Entry::from_json(json)), told(serde_json::from_slice(json)), "{}", json_text);
    Ok(())
}

proptest! {
    #[test]
    fn what_is_written_is_read(entry in prop_oneof![entry(frequent()), entry(other())], order in any::<u64>()) {
        let json = serde_json::to_vec(&entry).expect("JSON");
        prop_assert_eq!(&Entry::from_json(&json).expect("an entry"), &entry);
        let other_order = written(&serde_json::to_value(&entry).expect("JSON"), order);
        agree(other_order.as_bytes())?;
    }

    #[test]
    fn damaged_fields_are_taken_for_the_same(
        entry in prop_oneof![4 => entry(frequent()), 1 => entry(other())],
        damages in proptest::collection::vec(Damage::any(), 1..3),
        order in any::<u64>(),
    ) {
        let mut value = serde_json::to_value(&entry).expect("JSON");
        let fields = value.as_object_mut().expect("an object");
        damages.iter().for_each(|damage| damage.on(fields));
        agree(written(&value, order).as_bytes())?;
    }

    #[test]
    fn damaged_bytes_are_taken_for_the_same(
        entry in entry(frequent()),
        edits in proptest::collection::vec((any::<Index>(), 0..4_u8, prop_oneof![any::<u8>(), select(b"\"{}[]:,\\0 -e.".as_slice())]), 1..3),
    ) {
        let mut json = serde_json::to_vec(&entry).expect("JSON");
        for (place, what, byte) in edits {
            let place = place.index(json.len() + 1).min(json.len().saturating_sub(1));
            match what {
                0 if !json.is_empty() => json[place] = byte,
                1 if !json.is_empty() => drop(json.remove(place)),
                2 => json.insert(place, byte),
                _ => json.truncate(place),
            }
        }
        agree(&json)?;
    }
}

/// Whether an entry is read in one pass.
fn is_read_at_once(json: &str) -> bool {
    let read = serde_json::from_str::<Object<Frequent<'_>>>(json);
    read.is_ok_and(|Object(frequent)| frequent.entry().is_some())
}

#[test]
fn what_a_log_is_full_of_is_read_at_once() {
    const BEGIN: &str = r#""seq":2,"at":102,"generation":3,"stage":"compute","node":"n1","attempt":1"#;
    let ended =
        |outcome| format!(r#"{{"event":"step_ended",{BEGIN},"step":"a","ended_at":7,"outcome":{outcome}}}"#);
    for frequent in [
        format!(r#"{{"event":"task_started",{BEGIN}}}"#),
        format!(r#"{{"event":"task_accepted",{BEGIN}}}"#),
        ended(r#"{"outcome":"already_so","evidence":"there"}"#),
        ended(r#"{"outcome":"skipped","reason":"not here"}"#),
        ended(
            r#"{"outcome":"changed","changes":[{"kind":"file","path":"/a","what":"made"}],"evidence":"there"}"#,
        ),
        format!(r#"{{"event":"task_ended",{BEGIN},"result":"failed"}}"#),
    ] {
        assert!(is_read_at_once(&frequent), "{frequent}");
        agree(frequent.as_bytes()).expect("the same");
    }
    let seldom = ended(r#"{"outcome":"failed","error":{"what":"a","output":[],"next":"b"}}"#);
    let later = format!(r#"{{"event":"task_started",{BEGIN},"of_a_later_version":1}}"#);
    for other in [seldom, later] {
        assert!(!is_read_at_once(&other), "{other}");
        agree(other.as_bytes()).expect("the same");
        Entry::from_json(other.as_bytes()).expect("an entry all the same");
    }
}

#[test]
fn a_list_is_no_entry() {
    let entry = r#"[2,102,3,"task_started","compute","n1",1,null,null,null,null]"#;
    agree(entry.as_bytes()).expect("the same");
    Entry::from_json(entry.as_bytes()).expect_err("a list");
    let outcome = r#"["already_so",null,"there",null]"#;
    let entry = format!(
        r#"{{"seq":2,"at":102,"generation":3,"event":"step_ended","stage":"compute","node":"n1","attempt":1,"step":"a","ended_at":7,"outcome":{outcome}}}"#
    );
    agree(entry.as_bytes()).expect("the same");
    Entry::from_json(entry.as_bytes()).expect_err("a list");
}
