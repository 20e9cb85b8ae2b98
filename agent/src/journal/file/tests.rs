//! Tests of the journal on disk: cut anywhere, full, locked, rewritten.

use super::*;
use crate::host::fake::AgentKilled;
use crate::journal::medium::fake::{FakeMedium, Operation, Unsynced, When};
use std::panic::{AssertUnwindSafe, catch_unwind};
use wavegate_common::action::{Action, ServiceCheck};
use wavegate_common::id::{Generation, NodeId, PlanId, RolloutId, StepId, Timestamp};
use wavegate_common::journal::Next;
use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder, Work};
use wavegate_common::outcome::Outcome;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::TaskResult;

fn order(attempt: u32, steps: &[&str]) -> TaskOrder {
    let (rollout, node) = (RolloutId::new("r1").expect("an id"), NodeId::new("n1").expect("a name"));
    let step = |name: &&str| PlannedStep {
        id: StepId::new(*name).expect("an id"),
        title: format!("Do {name}"),
        work: Work::Skip { reason: "nothing to do".to_owned() },
    };
    let plan = PlanId::new("p1").expect("an id");
    TaskOrder {
        key: TaskKey { rollout, plan, stage: Stage::Compute, node, attempt },
        generation: Generation(u64::from(attempt)),
        planned: None,
        steps: steps.iter().map(step).collect(),
    }
}

/// The records of a task of two steps, from order to acknowledgement.
fn task(attempt: u32, evidence: &str) -> Vec<Record> {
    let order = order(attempt, &["a", "b"]);
    let (key, at) = (order.key.clone(), Timestamp(5));
    let mut records = vec![Record::Accepted { order: order.clone(), at }];
    for step in order.steps.iter().map(|step| step.id.clone()) {
        let outcome = Outcome::Changed { changes: Vec::new(), evidence: evidence.to_owned() };
        records.push(Record::StepStarted { key: key.clone(), step: step.clone(), at });
        records.push(Record::StepEnded { key: key.clone(), step, at, outcome });
    }
    records.push(Record::TaskEnded { key: key.clone(), result: TaskResult::Finished, at });
    records.push(Record::Acknowledged { key });
    records
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn open(state: &Path) -> JournalFile {
    let (file, torn) = JournalFile::open(state).expect("a journal");
    assert_eq!(torn, None);
    file
}

fn fold(records: &[Record]) -> Journal {
    let mut journal = Journal::default();
    records.iter().for_each(|record| journal.apply(record).expect("it fits"));
    journal
}

#[test]
fn what_was_appended_is_there_after_every_record() {
    let state = directory();
    let records = task(1, "e");
    for known in 0..records.len() {
        let mut file = open(state.path());
        assert_eq!(*file.journal(), fold(&records[..known]), "{known} records");
        file.append(&records[known]).expect("appended");
        assert_eq!(*file.journal(), fold(&records[..=known]));
    }
}

#[test]
fn a_last_record_cut_at_any_byte_is_cut_off_and_can_be_written_again() {
    let state = directory();
    let records = task(1, "e");
    for known in 1..=records.len() {
        let text = |records: &[Record]| {
            let lines = records.iter().map(|record| lines::line(record).expect("a line")).collect::<String>();
            format!("{FORMAT}\n{lines}")
        };
        let (kept, whole) = (text(&records[..known - 1]), text(&records[..known]));
        for cut in kept.len() + 1..whole.len() {
            std::fs::write(path_in(state.path()), &whole[..cut]).expect("written");
            let (mut file, torn) = JournalFile::open(state.path()).expect("torn, not damaged");
            assert_eq!(torn, Some(Torn { line: known + 1, bytes: cut - kept.len() }));
            assert_eq!(*file.journal(), fold(&records[..known - 1]));
            file.append(&records[known - 1]).expect("appended again");
            assert_eq!(std::fs::read_to_string(path_in(state.path())).expect("text"), whole);
        }
    }
}

#[test]
fn damage_before_the_last_line_is_refused_and_named() {
    let state = directory();
    let mut file = open(state.path());
    task(1, "evidence").iter().for_each(|record| file.append(record).expect("appended"));
    drop(file);
    let path = path_in(state.path());
    let damaged = std::fs::read_to_string(&path).expect("text").replacen("evidence", "evidenze", 1);
    std::fs::write(&path, &damaged).expect("written");
    let error = JournalFile::open(state.path()).expect_err("damaged");
    assert!(error.to_string().contains("nothing is run on this node"), "{error}");
    let source = std::error::Error::source(&error).expect("a source").to_string();
    assert_eq!(source, "line 4 is damaged: its checksum does not match");
    assert_eq!(std::fs::read_to_string(&path).expect("text"), damaged, "the file is left as it was");
}

#[test]
fn what_a_newer_version_wrote_is_left_alone_and_named() {
    let state = directory();
    drop(open(state.path()));
    let json = r#"{"record":"promised","by":"a newer one"}"#;
    let record = |json: &str| format!("{FORMAT}\n{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
    // An action that this version knows, with an argument that it does not.
    let look = Work::Run { action: Action::ServiceCheck(ServiceCheck::default()), timeout_s: 60 };
    let mut accepted = order(1, &["a"]);
    let mut steps = accepted.steps.to_vec();
    steps[0].work = look;
    accepted.steps = steps.into();
    let accepted = Record::Accepted { order: accepted, at: Timestamp(5) };
    let known = serde_json::to_string(&accepted).expect("a record");
    let unknown = known.replace(r#""action":"service.check""#, r#""action":"service.check","moon":"full""#);
    assert_ne!(known, unknown);
    std::fs::write(path_in(state.path()), record(&known)).expect("written");
    drop(open(state.path()));
    for text in [record(json).as_str(), record(&unknown).as_str(), "wavegate-journal 2\n0 ?\n"] {
        std::fs::write(path_in(state.path()), text).expect("written");
        let error = JournalFile::open(state.path()).expect_err("newer");
        assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains("another version of wavegate-agent") && said.contains("Install that version again"),
            "{said}"
        );
        assert_eq!(std::fs::read_to_string(path_in(state.path())).expect("text"), text);
    }
}

#[test]
fn one_agent_at_a_time() {
    let state = directory();
    let first = open(state.path());
    let error = JournalFile::open(state.path()).expect_err("locked").to_string();
    assert!(error.contains("another agent works with the state in"), "{error}");
    drop(first);
    open(state.path());
}

#[test]
fn a_record_that_does_not_fit_is_not_written() {
    let state = directory();
    let mut file = open(state.path());
    let error = file.append(&task(1, "e")[1]).expect_err("no task is open");
    assert!(matches!(error, AppendError::Unfit(_)), "{error}");
    assert_eq!(std::fs::read_to_string(path_in(state.path())).expect("text"), format!("{FORMAT}\n"));
    assert_eq!(file.journal().next(), Next::Idle);
}

#[test]
fn a_long_journal_is_rewritten_when_a_task_is_over_and_means_the_same() {
    let state = directory();
    let mut file = open(state.path());
    let evidence = "x".repeat(50_000);
    let (mut longest, mut rewritten) = (0, 0);
    for attempt in 1..=40 {
        for record in task(attempt, &evidence) {
            let before = file.length;
            file.append(&record).expect("appended");
            rewritten += u32::from(file.length < before);
            longest = longest.max(file.length);
        }
    }
    // What is remembered is longer than the limit here: the file still does not grow beyond twice of that.
    assert!(rewritten > 0 && longest < 9_000_000, "{rewritten} times, {longest} bytes");
    let at = Timestamp(5);
    let of_step = |journal: &Journal| journal.changed_at(Stage::Compute, &StepId::new("a").expect("an id"));
    let before = file.journal().clone();
    drop(file);
    let after = open(state.path()).journal().clone();
    assert_eq!(after, before);
    assert_eq!((of_step(&after), after.generation()), (Some(at), Generation(40)));
    assert!(after.task(&order(40, &[]).key).expect("the last task").acknowledged);
    assert!(!state.path().join("journal.new").exists());
}

#[test]
fn a_disk_that_is_full_keeps_the_record_out_until_there_is_room() {
    let record = &task(1, "e")[0];
    for room in [0, 1, 40] {
        let medium = FakeMedium::default();
        let mut file = open_on(&medium);
        medium.set_room(Some(room));
        let error = file.append(record).expect_err("full");
        assert!(error.can_be_tried_again() && error.to_string().contains("make room"), "{error}");
        assert_eq!(*file.journal(), Journal::default());
        assert_eq!(medium.read(FILE).expect("read"), Some(format!("{FORMAT}\n").into_bytes()));
        medium.set_room(None);
        file.append(record).expect("there is room now");
        assert_eq!(
            *open_on(&medium.after_power_cut(Unsynced::Lost)).journal(),
            fold(std::slice::from_ref(record))
        );
    }
}

#[test]
fn when_nobody_knows_what_is_on_disk_nothing_more_is_written() {
    let records = task(1, "e");
    for (room, broken) in [(None, Operation::Sync), (Some(10), Operation::Cut)] {
        let medium = FakeMedium::default();
        let mut file = open_on(&medium);
        medium.set_room(room);
        medium.fail_next(broken);
        for _ in 0..2 {
            let error = file.append(&records[0]).expect_err("lost");
            assert!(
                !error.can_be_tried_again() && error.to_string().contains("is lost to this agent"),
                "{error}"
            );
        }
        assert_eq!(*file.journal(), Journal::default());
        drop(file);
        medium.set_room(None);
        // A new start reads what is there, whichever it is, and goes on.
        let (mut file, _) = JournalFile::open_on(Box::new(medium.clone())).expect("a journal");
        if *file.journal() == Journal::default() {
            file.append(&records[0]).expect("appended");
        }
        assert_eq!(*file.journal(), fold(&records[..1]));
    }
}

fn open_on(medium: &FakeMedium) -> JournalFile {
    JournalFile::open_on(Box::new(medium.clone())).expect("a journal").0
}

/// Three tasks, with a journal that is rewritten between them; the number of records that were appended.
fn three_tasks(medium: &FakeMedium, records: &[Record]) -> usize {
    let appended = std::cell::Cell::new(0);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut file = open_on(medium);
        for record in records {
            file.compact_at = 800;
            file.append(record).expect("appended");
            appended.set(appended.get() + 1);
        }
    }));
    assert!(ran.is_ok() || ran.is_err_and(|payload| payload.is::<AgentKilled>()));
    appended.get()
}

#[test]
fn whoever_is_killed_at_any_operation_and_whatever_the_disk_keeps_no_record_that_counted_is_lost() {
    let records: Vec<Record> = (1..=3).flat_map(|attempt| task(attempt, "e")).collect();
    let whole = FakeMedium::default();
    assert_eq!(three_tasks(&whole, &records), records.len());
    let operations = whole.operations();
    assert!(operations.iter().filter(|operation| **operation == Operation::Rename).count() > 2, "rewritten");
    // A task that is over may have become one of the earlier ones.
    let meaning = |journal: &Journal| journal.compacted();
    let mut cuts = 0;
    for (number, operation) in operations.iter().enumerate() {
        for when in [When::Before, When::Torn, When::After] {
            if when == When::Torn && !operation.is_divisible() {
                continue;
            }
            let medium = FakeMedium::default();
            medium.stop_at(number, when);
            let counted = three_tasks(&medium, &records);
            let cut = Unsynced::ALL.map(|unsynced| medium.after_power_cut(unsynced));
            for left in cut.into_iter().chain([medium.after_kill()]) {
                let mut file = JournalFile::open_on(Box::new(left.clone())).expect("torn, not damaged").0;
                let what = format!("{when:?} {operation:?}, operation {number}, {counted} records counted");
                let known = (counted..=counted + 1)
                    .find(|known| meaning(&fold(&records[..*known])) == meaning(file.journal()))
                    .unwrap_or_else(|| panic!("{what}: {:?}", file.journal()));
                // What this agent has seen it may tell, and the power may go right then.
                let seen = open_on(&left.after_power_cut(Unsynced::Lost)).journal().clone();
                assert_eq!(seen, *file.journal(), "{what}");
                records[known..].iter().for_each(|record| file.append(record).expect("appended"));
                assert_eq!(meaning(file.journal()), meaning(&fold(&records)), "{what}");
                cuts += 1;
            }
        }
    }
    println!("journal file cuts: {} operations, {cuts} cuts, no record lost", operations.len());
}
