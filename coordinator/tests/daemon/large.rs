//! A large fleet before a production engine: a plan, a rollout, and what operators are told of it.

use super::fleet::{CONTROL, Fleet};
use super::support::by_itself::joined;
use super::support::eventually;
use std::sync::atomic::AtomicBool;
use wavegate_common::id::RolloutId;
use wavegate_common::platform::{Role, Stage};
use wavegate_common::rollout::{Event, TaskState};
use wavegate_coordinator::engine::{About, Input};
use wavegate_coordinator::status::nodes::Wanted;
use wavegate_coordinator::status::view::{Detail, NodeStatus, RolloutStatus};
use wavegate_coordinator::store::Store;

const NODES: usize = 400;
/// More than twice as many as are given an order in a turn.
const MANY: usize = 1200;
const OFFLINE: usize = 80;
/// Bytes of a document that people read on a screen.
const SCREEN: usize = 48 << 10;

fn written<T: serde::Serialize>(document: &T) -> usize {
    serde_json::to_vec(document).expect("JSON").len()
}

fn status(fleet: &Fleet, detail: Detail) -> RolloutStatus {
    fleet.engine.look().status(&fleet.store, None, detail).expect("a status")
}

#[test]
fn what_is_told_of_hundreds_fits_on_a_screen() {
    let mut fleet = Fleet::new(NODES);
    let (view, told) = fleet.plan();
    assert_eq!(view.plan.body.problems, []);
    assert!((100..=112).contains(&told.len()), "it was told {} times how far the plan is", told.len());
    let named: Vec<usize> = told.iter().rev().take(11).map(Vec::len).collect();
    assert_eq!(named, (0..=10).collect::<Vec<_>>(), "the last ones are named one by one: {told:?}");
    fleet.start(&view.plan.id).expect("started");
    assert_eq!(fleet.work(usize::MAX), 1, "the canary");
    let ended = fleet.work(10);
    assert!(ended > NODES / 4, "{ended} ended");
    fleet.lose(OFFLINE);

    let all = status(&fleet, Detail::Full);
    let brief = status(&fleet, Detail::Brief);
    assert!(written(&brief) < SCREEN && written(&all) > 5 * SCREEN, "{} {}", written(&brief), written(&all));
    for (stage, whole) in brief.stages.iter().zip(&all.stages) {
        assert_eq!(stage.counts, whole.counts);
        assert_eq!(whole.left_out.total(), 0);
        assert_eq!(stage.tasks.len() + stage.left_out.total() as usize, whole.tasks.len(), "{}", stage.stage);
        for task in &stage.tasks {
            assert!(whole.tasks.contains(task), "{task:?}");
        }
    }
    let compute = brief.stages.iter().find(|stage| stage.stage == Stage::Compute).expect("a stage");
    assert!(compute.tasks.iter().any(|task| !task.link.is_online() && task.state == TaskState::Applying));
    assert!(compute.tasks.iter().all(|task| task.state != TaskState::Finished), "done is done");
    let control = brief.stages.iter().find(|stage| stage.stage == Stage::Control).expect("a stage");
    assert_eq!(control.tasks.len(), CONTROL, "a small stage is told whole");

    let mut cut = all.clone();
    wavegate_coordinator::status::brief::cut(&mut cut);
    assert_eq!(cut, brief, "what an older coordinator tells is cut to the same");
}

#[tokio::test]
async fn thousands_of_orders_are_given_out_over_several_turns_and_need_no_tick() {
    let mut fleet = Fleet::new(MANY);
    let (view, _) = fleet.plan();
    fleet.start(&view.plan.id).expect("started");
    let started = |store: &Store| {
        let entries = store.events(&RolloutId::new("r1").expect("an id"), 0, usize::MAX).expect("events");
        entries.iter().filter(|entry| matches!(entry.event, Event::TaskStarted { .. })).count()
    };
    assert_eq!(fleet.work(usize::MAX), 1, "the canary");
    let at_first = started(&fleet.store);
    assert!(fleet.engine.has_more() && (400..=501).contains(&at_first), "{at_first}");
    let Fleet { engine, store, .. } = fleet;
    let (port, inputs) = engine.port();
    // It begins with a tick; what that leaves nobody asks for.
    let run = std::thread::spawn(move || engine.run(inputs, &AtomicBool::new(false)));
    eventually("every order to be given out", || async { started(&store) == MANY - CONTROL }).await;
    port.send(Input::Shutdown).await.expect("taken");
    joined(run).await;
}

#[test]
fn who_is_lost_is_found_with_the_next_tick_however_many_they_are() {
    let mut fleet = Fleet::new(MANY);
    let (view, _) = fleet.plan();
    fleet.start(&view.plan.id).expect("started");
    assert_eq!(fleet.work(usize::MAX), 1, "the canary");
    let settle = |fleet: &mut Fleet, input: Input| {
        fleet.engine.take(input);
        while fleet.engine.has_more() {
            fleet.engine.take(Input::Look);
        }
        status(fleet, Detail::Brief).stages.iter().map(|stage| stage.counts.unknown).sum::<u32>()
    };
    assert_eq!(settle(&mut fleet, Input::Look), 0);
    fleet.lose(MANY);
    fleet.pass(60_000);
    assert_eq!(settle(&mut fleet, Input::Look), 0, "that time has passed is what a tick tells");
    assert_eq!(settle(&mut fleet, Input::Tick) as usize, MANY - CONTROL - 1);
}

#[test]
fn why_hundreds_wait_is_said_in_a_few_words() {
    let mut fleet = Fleet::new(NODES);
    let (view, _) = fleet.plan();
    fleet.start(&view.plan.id).expect("started");
    fleet.work(usize::MAX);
    fleet.work(2);
    fleet.lose(OFFLINE);
    let look = fleet.engine.look();
    let about = |stage, wave| About { node: None, stage, wave };
    for about in [about(None, None), about(Some(Stage::Compute), None), about(Some(Stage::Compute), Some(1))]
    {
        let reasons = look.why(&fleet.store, None, &about).expect("reasons");
        assert!((2..=4).contains(&reasons.len()), "{about:?}: {reasons:#?}");
        let offline = reasons.iter().find(|reason| reason.why.contains("went offline")).expect("who left");
        assert!(offline.nodes.len() > OFFLINE / 4, "{}", offline.nodes.len());
        let words = format!("{} nodes (", offline.nodes.len());
        assert!(offline.why.starts_with(&words) && offline.why.len() < 200, "{}", offline.why);
        assert!(offline.unblock.starts_with("switch them on"), "{}", offline.unblock);
    }
}

#[test]
fn nodes_are_found_by_what_they_are() {
    let mut fleet = Fleet::new(NODES);
    fleet.lose(7);
    let look = fleet.engine.look();
    let found = |wanted: Wanted| look.nodes(&wanted).iter().count();
    assert_eq!(found(Wanted::default()), NODES);
    assert_eq!(found(Wanted { role: Some(Role::Control), ..Wanted::default() }), CONTROL);
    assert_eq!(found(Wanted { offline: true, ..Wanted::default() }), 7);
    assert_eq!(found(Wanted { offline: true, role: Some(Role::Control), ..Wanted::default() }), CONTROL);
    assert_eq!(found(Wanted { trouble: true, ..Wanted::default() }), 0);
    assert_eq!(found(Wanted { node: "compute-00099".parse().ok(), ..Wanted::default() }), 1);
}

#[test]
fn nodes_are_written_one_by_one_as_the_list_that_they_are() {
    let mut fleet = Fleet::new(NODES);
    fleet.lose(7);
    let look = fleet.engine.look();
    let json = |wanted: &Wanted| serde_json::to_string(&look.nodes(wanted)).expect("JSON");
    let offline = Wanted { offline: true, ..Wanted::default() };
    for (wanted, number) in [(Wanted::default(), NODES), (offline, 7)] {
        let written = json(&wanted);
        let read: Vec<NodeStatus<'_>> = serde_json::from_str(&written).expect("a list");
        assert_eq!(read.len(), number);
        assert_eq!(read, look.nodes(&wanted).iter().collect::<Vec<_>>());
        assert_eq!(serde_json::to_string(&read).expect("JSON"), written);
    }
    assert_eq!(json(&Wanted { trouble: true, ..Wanted::default() }), "[]");
}
