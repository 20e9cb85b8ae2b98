//! The invariants, over random fleets, failures, losses, duplicates, restarts and operators.

use super::world::{World, node, plan_of, with_members};
use proptest::prelude::*;
use wavegate_common::id::StepId;
use wavegate_common::plan::Limits;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Mode, Status, TaskState};

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Act {
    Work(usize),
    CrashAgent(usize),
    Break(usize),
    Mend(usize),
    LoseJournal(usize),
    Off(usize),
    On(usize),
    Deliver(usize),
    Replay(usize),
    Report,
    Orders,
    Decide,
    RestartCoordinator,
    Pause,
    Resume,
    Stop,
    Retry,
    NextWave,
    Waive(usize, u64),
    Withdraw(usize),
    Wait(u64),
}

pub fn acts() -> impl Strategy<Value = Vec<Act>> {
    let any = 0..8usize;
    let act = prop_oneof![
        12 => any.clone().prop_map(Act::Work),
        2 => any.clone().prop_map(Act::CrashAgent),
        1 => any.clone().prop_map(Act::Break),
        1 => any.clone().prop_map(Act::Mend),
        1 => any.clone().prop_map(Act::LoseJournal),
        1 => any.clone().prop_map(Act::Off),
        2 => any.clone().prop_map(Act::On),
        6 => (0..100usize).prop_map(Act::Deliver),
        1 => (0..100usize).prop_map(Act::Replay),
        6 => Just(Act::Report),
        6 => Just(Act::Orders),
        6 => Just(Act::Decide),
        1 => Just(Act::RestartCoordinator),
        1 => Just(Act::Pause),
        2 => Just(Act::Resume),
        1 => Just(Act::Retry),
        2 => Just(Act::NextWave),
        1 => (any.clone(), 1..30u64).prop_map(|(index, millis)| Act::Waive(index, millis)),
        1 => any.clone().prop_map(Act::Withdraw),
        2 => prop_oneof![Just(1000u64), Just(2_000_000)].prop_map(Act::Wait),
    ];
    let stop = prop_oneof![9 => Just(None), 1 => Just(Some(Act::Stop))];
    (prop::collection::vec(act, 0..300), stop).prop_map(|(mut acts, stop)| {
        let middle = acts.len() / 2;
        acts.splice(middle..middle, stop);
        acts
    })
}

pub fn stages(machines: usize) -> impl Strategy<Value = Vec<(Vec<usize>, Limits)>> {
    let limits = (1..3u32, 1..4u32, 0..2u32, 0..2u64, prop::bool::weighted(0.2));
    let limits = limits.prop_map(|(canary, max_unavailable, errors_allowed, soak_s, manual)| Limits {
        canary: canary.min(max_unavailable),
        max_unavailable,
        errors_allowed,
        soak_s,
        start: if manual { Mode::Manual } else { Mode::Auto },
    });
    prop::collection::vec((nodes(machines), limits), 3)
}

pub fn nodes(machines: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::sample::subsequence((0..machines).collect::<Vec<_>>(), 0..=machines)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(400),
        ..ProptestConfig::default()
    })]

    #[test]
    fn invariants_hold_whatever_happens(
        (machines, stages, members) in (1..6usize).prop_flat_map(|n| (Just(n), stages(n), nodes(n))),
        steps in 1..4usize,
        manual in any::<bool>(),
        groups in 1..3usize,
        acts in acts(),
    ) {
        let mode = if manual { Mode::Manual } else { Mode::Auto };
        let mut world = World::new(with_members(&plan_of(&stages, steps, groups), &members), machines, mode);
        for act in &acts {
            world.act(act);
            world.check()?;
        }
        let stop_asked = world.log.iter().any(|entry| matches!(entry.event, Event::StopRequested { .. }));
        world.finish()?;
        let expected = if stop_asked { Status::Stopped } else { Status::Finished };
        prop_assert_eq!(world.rollout.status().0, expected);
        if expected == Status::Finished {
            for (stage, (nodes, _)) in Stage::ALL.iter().zip(&stages) {
                for index in nodes {
                    let task = world.rollout.task(*stage, &node(*index)).expect("a task");
                    if task.state() == TaskState::Waived {
                        continue;
                    }
                    for s in 0..steps {
                        let what = (*stage, StepId::new(format!("s{s}")).expect("a step"));
                        prop_assert_eq!(world.machines[*index].effects.get(&what), Some(&1), "each step, once");
                    }
                }
            }
        }
    }
}
