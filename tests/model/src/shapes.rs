//! The shapes that are explored: small ones with every test run, and larger ones when somebody has the time.

use crate::shape::{Shape, StageShape};
use wavegate_common::plan::Limits;
use wavegate_common::rollout::Mode;

const fn stage(waves: &'static [&'static [usize]], max_unavailable: u32, errors_allowed: u32) -> StageShape {
    let limits = Limits { canary: 1, max_unavailable, errors_allowed, soak_s: 0, start: Mode::Auto };
    StageShape { waves, limits, grouped: false }
}

const fn soaking(shape: StageShape) -> StageShape {
    StageShape { limits: Limits { soak_s: 600, ..shape.limits }, ..shape }
}

const fn manual(shape: StageShape) -> StageShape {
    StageShape { limits: Limits { start: Mode::Manual, ..shape.limits }, ..shape }
}

const fn grouped(shape: StageShape) -> StageShape {
    StageShape { grouped: true, ..shape }
}

const NONE: StageShape = stage(&[], 1, 0);

/// One step, one retry of each task, no restart of the coordinator.
const BASE: Shape = Shape {
    name: "",
    stages: [NONE; 3],
    proxies: &[],
    steps: 1,
    mode: Mode::Auto,
    attempts: 2,
    generations: 1,
    waivers: 0,
    time: false,
    acknowledges: false,
    loses_journals: false,
};

/// The shapes that every test run explores, each whole.
pub const QUICK: &[Shape] = &[
    Shape {
        name: "crashes",
        stages: [NONE, stage(&[&[0]], 1, 0), NONE],
        steps: 2,
        generations: 2,
        acknowledges: true,
        ..BASE
    },
    Shape {
        name: "lost-journal",
        stages: [NONE, stage(&[&[0]], 1, 0), NONE],
        steps: 2,
        loses_journals: true,
        ..BASE
    },
    Shape { name: "etcd", stages: [stage(&[&[0], &[1]], 1, 1), NONE, NONE], generations: 2, ..BASE },
    Shape { name: "etcd-careless", stages: [stage(&[&[0, 1]], 2, 2), NONE, NONE], ..BASE },
    Shape { name: "etcd-mixed", stages: [stage(&[&[0, 1]], 2, 2), NONE, NONE], proxies: &[0], ..BASE },
    Shape {
        name: "etcd-proxies",
        stages: [stage(&[&[0], &[1]], 2, 1), NONE, NONE],
        proxies: &[1],
        waivers: 1,
        ..BASE
    },
    Shape { name: "one-at-a-time", stages: [NONE, stage(&[&[0, 1]], 1, 1), NONE], ..BASE },
    Shape { name: "wave", stages: [NONE, stage(&[&[0, 1]], 2, 1), NONE], ..BASE },
    Shape { name: "groups", stages: [NONE, grouped(stage(&[&[0, 1]], 2, 1)), NONE], ..BASE },
    Shape { name: "barrier", stages: [stage(&[&[0]], 1, 0), stage(&[&[0], &[1]], 1, 0), NONE], ..BASE },
    Shape {
        name: "three-stages",
        stages: [stage(&[&[0]], 1, 0), stage(&[&[0]], 1, 0), stage(&[&[0]], 1, 0)],
        ..BASE
    },
    Shape {
        name: "manual",
        stages: [NONE, stage(&[&[0], &[1]], 1, 1), manual(stage(&[&[0]], 1, 0))],
        mode: Mode::Manual,
        attempts: 1,
        ..BASE
    },
    Shape {
        name: "soak",
        stages: [soaking(stage(&[&[0]], 1, 0)), soaking(stage(&[&[1], &[0]], 1, 0)), NONE],
        attempts: 1,
        time: true,
        ..BASE
    },
    Shape {
        name: "waivers",
        stages: [NONE, stage(&[&[0]], 1, 0), stage(&[&[1]], 1, 0)],
        attempts: 1,
        waivers: 1,
        ..BASE
    },
    Shape {
        name: "etcd-waived",
        stages: [stage(&[&[0], &[1]], 1, 1), NONE, NONE],
        attempts: 1,
        waivers: 1,
        ..BASE
    },
    Shape { name: "rest", stages: [NONE, stage(&[&[0]], 1, 0), NONE], waivers: 1, time: true, ..BASE },
];

/// Larger shapes.
pub const FULL: &[Shape] = &[
    Shape { name: "three-groups", stages: [NONE, grouped(stage(&[&[0], &[1], &[2]], 2, 1)), NONE], ..BASE },
    Shape {
        name: "wave-restarts",
        stages: [NONE, stage(&[&[0, 1]], 2, 1), NONE],
        attempts: 1,
        generations: 2,
        ..BASE
    },
    Shape { name: "three-nodes", stages: [NONE, stage(&[&[0], &[1, 2]], 2, 1), NONE], ..BASE },
    Shape { name: "three-etcd", stages: [stage(&[&[0], &[1], &[2]], 1, 1), NONE, NONE], ..BASE },
    Shape {
        name: "member-and-proxies",
        stages: [stage(&[&[0], &[1], &[2]], 2, 2), NONE, NONE],
        proxies: &[1, 2],
        ..BASE
    },
    Shape {
        name: "members-and-proxy",
        stages: [stage(&[&[0], &[1], &[2]], 2, 2), NONE, NONE],
        proxies: &[2],
        attempts: 1,
        ..BASE
    },
    Shape {
        name: "all-stages",
        stages: [stage(&[&[0], &[1]], 1, 0), stage(&[&[0], &[1]], 1, 0), stage(&[&[0], &[1]], 1, 0)],
        attempts: 1,
        generations: 2,
        ..BASE
    },
    Shape {
        name: "steps",
        stages: [stage(&[&[0]], 1, 0), stage(&[&[0, 1]], 2, 1), NONE],
        steps: 2,
        attempts: 1,
        ..BASE
    },
    Shape {
        name: "waivers-all",
        stages: [stage(&[&[0]], 1, 0), stage(&[&[1], &[0]], 1, 1), NONE],
        attempts: 1,
        waivers: 1,
        time: true,
        ..BASE
    },
];
