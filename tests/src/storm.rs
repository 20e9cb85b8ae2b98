//! A storm over a fleet in which a rollout runs: at random moments processes of wavegate's are killed with SIGKILL and cables
//! are pulled. A seed decides what strikes whom and after how long; the rest is the machine's.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::deploy::Wavegate;
use crate::lab::Node;

/// Milliseconds between two blows.
const BETWEEN: RangeInclusive<u64> = 300..=5700;
/// Milliseconds for which a cable is out: sometimes too short to be noticed, sometimes so long that a node is lost.
const CUT: RangeInclusive<u64> = 500..=12_000;
/// How often the storm looks whether the rollout has ended.
const LOOK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);

/// What can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// SIGKILL for the coordinator.
    KillCoordinator,
    /// SIGKILL for the agent of some node.
    KillAgent,
    /// The cable of some node is out for a while.
    CutNode,
    /// The coordinator's cable is out for a while. The package repositories are on the same host.
    CutCoordinator,
}

/// Each kind strikes once first, and from then on as often as it stands here.
const BLOWS: [Blow; 8] = [
    Blow::KillAgent,
    Blow::KillCoordinator,
    Blow::CutNode,
    Blow::CutCoordinator,
    Blow::KillAgent,
    Blow::KillCoordinator,
    Blow::CutNode,
    Blow::KillAgent,
];
const KINDS: usize = 4;

/// A storm.
pub struct Storm<'a> {
    wavegate: &'a Wavegate<'a>,
    chance: ChaCha8Rng,
    began: Instant,
    /// Cables that are out, and when they are plugged in again.
    out: Vec<(&'a Node, Instant)>,
    struck: BTreeMap<Blow, u32>,
}

impl<'a> Storm<'a> {
    /// The storm of a seed.
    #[must_use]
    pub fn new(wavegate: &'a Wavegate<'a>, seed: u64) -> Self {
        let chance = ChaCha8Rng::seed_from_u64(seed);
        Self { wavegate, chance, began: Instant::now(), out: Vec::new(), struck: BTreeMap::new() }
    }

    /// Strikes so often, or until the rollout has finished; then every cable is in. Says how often what has struck.
    ///
    /// # Errors
    ///
    /// When the rollout pauses or stops, or something can't be done to a node.
    pub fn rage(mut self, blows: usize) -> Result<BTreeMap<Blow, u32>> {
        let mut blow = 0;
        let (mut next, mut look) = (Instant::now(), Instant::now());
        while blow < blows {
            self.plug_in()?;
            if look <= Instant::now() {
                if self.is_over()? {
                    break;
                }
                look = Instant::now() + LOOK;
            }
            if next <= Instant::now() {
                let which = if blow < KINDS { blow } else { self.chance.random_range(0..BLOWS.len()) };
                self.strike(BLOWS[which])?;
                blow += 1;
                next = Instant::now() + self.millis(BETWEEN);
            }
            std::thread::sleep(POLL);
        }
        while !self.out.is_empty() {
            self.plug_in()?;
            std::thread::sleep(POLL);
        }
        Ok(self.struck)
    }

    fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.chance.random_range(range))
    }

    /// Whether the rollout has finished; a coordinator that is down right now is no answer.
    fn is_over(&self) -> Result<bool> {
        let Ok(status) = self.wavegate.status() else { return Ok(false) };
        let now = status["status"].as_str().unwrap_or_default();
        ensure!(
            !matches!(now, "paused" | "stopped"),
            "the rollout is {now}:\n{}",
            self.wavegate.cli(&["status"])?
        );
        Ok(now == "finished")
    }

    fn strike(&mut self, blow: Blow) -> Result<()> {
        let nodes: Vec<&'a Node> = self.wavegate.managed().collect();
        let node = nodes[self.chance.random_range(0..nodes.len())];
        let struck = match blow {
            Blow::KillCoordinator => self.kill(self.wavegate.coordinator(), "wavegate-coordinator")?,
            Blow::KillAgent => self.kill(node, "wavegate-agent")?,
            Blow::CutNode => self.cut(node)?,
            Blow::CutCoordinator => self.cut(self.wavegate.coordinator())?,
        };
        if struck {
            *self.struck.entry(blow).or_default() += 1;
        }
        Ok(())
    }

    /// Kills a service's main process; false if there is none right now.
    fn kill(&self, node: &Node, unit: &str) -> Result<bool> {
        let Some(pid) = node.unit(unit)?.main_pid else { return Ok(false) };
        // It may end by itself in between; its service manager starts it again either way.
        let killed = node.output(&["kill", "-9", &pid.to_string()])?.status.success();
        self.say(&format!("{unit} of {}: killed", node.name()));
        Ok(killed)
    }

    /// Pulls a cable; false if it is out already.
    fn cut(&mut self, node: &'a Node) -> Result<bool> {
        if self.out.iter().any(|(out, _)| out.name() == node.name()) {
            return Ok(false);
        }
        let length = self.millis(CUT);
        node.cut_link()?;
        self.out.push((node, Instant::now() + length));
        self.say(&format!("{}: its cable is out for {:.1} s", node.name(), length.as_secs_f64()));
        Ok(true)
    }

    /// Plugs in the cables whose time has come.
    fn plug_in(&mut self) -> Result<()> {
        let now = Instant::now();
        let (due, out): (Vec<_>, Vec<_>) = self.out.iter().partition(|(_, until)| *until <= now);
        self.out = out;
        due.into_iter().try_for_each(|(node, _)| node.restore_link())
    }

    fn say(&self, what: &str) {
        println!("storm {:6.1}s  {what}", self.began.elapsed().as_secs_f64());
    }
}
