//! The event log in format 1, as version 0.1.0 wrote it (`v1/events.jsonl`, an entry a line): every later version reads it and takes
//! it for what it was. Its lines are never changed; a new kind of event gets a line of its own. And a plan that was sealed then
//! (`v1/plan.json`): a coordinator that did not find its seal right would not start with its rollout.

// All of this is test code, also where it is not in a #[test] itself.
#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use wavegate_common::id::{Actor, Generation, NodeId, StepId, Timestamp};
use wavegate_common::outcome::Outcome;
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Entry, Event, Mode, PauseReason, TaskRef, TaskResult};

const PLAN: &str = include_str!("v1/plan.json");
const EVENTS: &str = include_str!("v1/events.jsonl");

fn task() -> TaskRef {
    TaskRef { stage: Stage::Compute, node: NodeId::new("n1").expect("a name"), attempt: 2 }
}

/// An event of every kind.
fn events() -> Vec<Event> {
    let (task, by) = (task(), Actor("ann".to_owned()));
    let (stage, node) = (Stage::Etcd, NodeId::new("n2").expect("a name"));
    let (step, ended_at) = (StepId::new("install").expect("an id"), Timestamp(7));
    let outcome = Outcome::AlreadySo { evidence: "it is there".to_owned() };
    let by_threshold = PauseReason::ErrorThreshold { stage, failed: 2, allowed: 1 };
    vec![
        Event::Started {
            mode: Mode::Manual,
            by: by.clone(),
            approved_by: vec![Actor("bob".to_owned())],
            acknowledged: vec!["etcd-no-spare-member".to_owned()],
        },
        Event::TaskStarted { task: task.clone() },
        Event::TaskAccepted { task: task.clone() },
        Event::StepEnded { task: task.clone(), step, ended_at, outcome },
        Event::TaskEnded { task: task.clone(), result: TaskResult::Finished },
        Event::TaskLost { task: task.clone() },
        Event::TaskOverdue { task: task.clone() },
        Event::TaskReturned { task: task.clone() },
        Event::TaskRestarted { task: task.clone() },
        Event::TaskRetried { task, by: by.clone() },
        Event::WaveReleased { stage, wave: 1, by: by.clone() },
        Event::NodeWaived {
            node: node.clone(),
            reason: "broken".to_owned(),
            until: Timestamp(9),
            by: by.clone(),
        },
        Event::WaiverEnded { node, by: None },
        Event::Paused { reason: PauseReason::Operator { by: by.clone() } },
        Event::Paused { reason: by_threshold },
        Event::Resumed { by: by.clone() },
        Event::StopRequested { by },
        Event::Stopped,
        Event::Finished,
    ]
}

/// Whoever adds a kind is led here by the compiler.
const fn word(event: &Event) -> &'static str {
    match event {
        Event::Started { .. } => "started",
        Event::TaskStarted { .. } => "task_started",
        Event::TaskAccepted { .. } => "task_accepted",
        Event::StepEnded { .. } => "step_ended",
        Event::TaskEnded { .. } => "task_ended",
        Event::TaskLost { .. } => "task_lost",
        Event::TaskOverdue { .. } => "task_overdue",
        Event::TaskReturned { .. } => "task_returned",
        Event::TaskRestarted { .. } => "task_restarted",
        Event::TaskRetried { .. } => "task_retried",
        Event::WaveReleased { .. } => "wave_released",
        Event::NodeWaived { .. } => "node_waived",
        Event::WaiverEnded { .. } => "waiver_ended",
        Event::Paused { .. } => "paused",
        Event::Resumed { .. } => "resumed",
        Event::StopRequested { .. } => "stop_requested",
        Event::Stopped => "stopped",
        Event::Finished => "finished",
    }
}

fn entries() -> Vec<Entry> {
    let entry = |(seq, event)| Entry { seq, at: Timestamp(100 + seq), generation: Generation(3), event };
    (1..).zip(events()).map(entry).collect()
}

fn read() -> Vec<Entry> {
    EVENTS.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect()
}

#[test]
fn every_kind_of_event_means_what_it_meant() {
    assert_eq!(read(), entries());
    let fast: Vec<Entry> =
        EVENTS.lines().map(|line| Entry::from_json(line.as_bytes()).expect("an entry")).collect();
    assert_eq!(fast, entries());
    let kinds: BTreeSet<&str> = read().iter().map(|entry| word(&entry.event)).collect();
    assert_eq!(kinds.len(), 18);
}

/// `cargo test -p wavegate-common --test formats -- --nocapture` prints what today's program writes.
#[test]
fn what_is_written_today_is_read_today() {
    for entry in entries() {
        let line = serde_json::to_string(&entry).expect("JSON");
        println!("{line}");
        assert_eq!(serde_json::from_str::<Entry>(&line).expect("an entry"), entry);
        assert!(line.contains(&format!("\"event\":\"{}\"", word(&entry.event))), "{line}");
    }
}

#[test]
fn what_an_entry_says_beyond_what_is_known_is_ignored_and_an_unknown_event_is_none() {
    for (line, known) in EVENTS.lines().zip(entries()) {
        let more = line.replacen('{', "{\"of_a_later_version\":{\"a\":[1]},", 1);
        assert_eq!(serde_json::from_str::<Entry>(&more).expect("an entry"), known);
        let other =
            line.replacen(&format!("\"event\":\"{}\"", word(&known.event)), "\"event\":\"unheard_of\"", 1);
        let error = serde_json::from_str::<Entry>(&other).expect_err("unknown").to_string();
        assert!(error.contains("unheard_of"), "{error}");
    }
}

/// What is added to a plan is not written where it says nothing new: else every plan that was made before had another seal.
#[test]
fn a_plan_that_was_sealed_has_its_seal() {
    let plan: Plan = serde_json::from_str(PLAN).expect("a plan");
    assert_eq!(serde_json::to_string(&plan).expect("JSON"), PLAN.trim_end());
    plan.verify().expect("its seal");
    let stages = plan.body.stages.iter().map(|stage| (stage.stage, stage.tasks.len()));
    assert_eq!(stages.collect::<Vec<_>>(), [(Stage::Etcd, 3), (Stage::Compute, 1), (Stage::Control, 1)]);
}
