//! What a simulation is like: all of it follows from a seed.

use super::chance::Chance;
use wavegate_common::rollout::Mode;

/// A wrong behaviour that is planted to see that the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// The coordinator sends an order that it has not decided, nor written down.
    OrderNotDecided,
    /// The log says that a task of a later stage was given out while an earlier stage is worked on.
    EventForged,
    /// A member of etcd is stopped while another one is down, as by an agent that does not ask how the others are.
    StoppedBeside,
    /// A node's machine does what it has done once more.
    EffectTwice,
    /// A machine ends with another version of a package.
    MachineDiffers,
    /// A node obeys an order that its journal must refuse: of an old generation.
    OldOrderObeyed,
    /// The coordinator forgets the end of its log.
    LogCut,
    /// The end of libvirt's dnsmasq.
    BystanderKilled,
    /// Operators never do anything.
    NobodyWilling,
}

/// What a simulation is like.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What decides everything.
    pub seed: u64,
    /// Nodes of the fleet, roughly.
    pub nodes: usize,
    /// Mean milliseconds between faults; `None` for none at all.
    pub fault_every_ms: Option<u64>,
    /// When faults end, in milliseconds after the rollout began.
    pub faults_for_ms: u64,
    /// Whether faults come from the first moment on, not only when the rollout has begun.
    pub faults_at_once: bool,
    /// Whether the coordinator's store fails too, and where.
    pub store_faults: bool,
    /// Whether plans are made as an operator would have them made, with previews of every agent.
    pub asks_agents: bool,
    /// Who lets waves begin.
    pub mode: Mode,
    /// Seconds that waves rest.
    pub soak_s: u64,
    /// Mean milliseconds between what operators do for no reason; `None` if they do nothing.
    pub verb_every_ms: Option<u64>,
    /// Whether they may stop the rollout.
    pub may_stop: bool,
    /// Seconds between heartbeats.
    pub heartbeat_s: u32,
    /// Whether every line of the trace is printed.
    pub aloud: bool,
    /// A wrong behaviour.
    pub plant: Option<Plant>,
}

impl Settings {
    /// Of a seed, for a fleet of so many nodes or of as many as the seed says.
    #[must_use]
    pub fn of(seed: u64, nodes: Option<usize>) -> Self {
        let mut chance = Chance::new(seed, "settings");
        let nodes = nodes.unwrap_or(usize::try_from(chance.within(6..=15)).unwrap_or(6));
        let large = nodes >= 100;
        let minutes = |minutes: u64| minutes * 60_000;
        Self {
            seed,
            nodes,
            fault_every_ms: Some(chance.within(if large { 500..=4000 } else { 3000..=30_000 })),
            faults_for_ms: minutes(chance.within(3..=25)),
            faults_at_once: chance.one_in(4),
            store_faults: chance.one_in(2),
            asks_agents: chance.one_in(3),
            mode: if chance.one_in(5) { Mode::Manual } else { Mode::Auto },
            soak_s: if chance.one_in(3) { chance.within(1..=60) } else { 0 },
            verb_every_ms: (!chance.one_in(3)).then(|| chance.within(15_000..=180_000)),
            may_stop: chance.one_in(3),
            heartbeat_s: if large { 30 } else { 10 },
            aloud: false,
            plant: None,
        }
    }

    /// A calm one: nothing goes wrong, and operators do what must be done.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        Self {
            fault_every_ms: None,
            faults_at_once: false,
            store_faults: false,
            asks_agents: true,
            mode: Mode::Auto,
            soak_s: 0,
            verb_every_ms: None,
            may_stop: false,
            ..Self::of(seed, None)
        }
    }
}
