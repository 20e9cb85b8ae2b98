//! The operators: willing ones, who have a plan made, start it, and while nothing goes wrong any more bring it to its end; and,
//! as long as things go wrong, others who pause, resume, retry, release and stop for no reason.

use super::chance::Chance;
use super::check::Violation;
use super::fleet;
use super::settings::Plant;
use super::world::{Event, World};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use wavegate_agent::host::fake::FakeHost;
use wavegate_common::id::{Actor, NodeId, PlanId};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Mode, Status};
use wavegate_common::waves::{Amount, WaveOverride};
use wavegate_coordinator::engine::{Answer, Command, Engine, Input, MakePlan, PlanUpdate, RequestError};
use wavegate_coordinator::store::AuditRecord;

/// How often they look at how things are.
const LOOK_EVERY_MS: u64 = 5000;
/// After how many stopped rollouts nobody stops one again.
const STOPS: u64 = 2;

type Updates = mpsc::UnboundedReceiver<Result<PlanUpdate, RequestError>>;

/// Those who look after the fleet.
pub struct Operators {
    chance: Chance,
    planning: Option<Updates>,
    /// What is to be started, and the warnings that they know of.
    plan: Option<(PlanId, Vec<String>)>,
    stops: u64,
    next_verb_at: u64,
}

impl Operators {
    /// Who have not done anything yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed, "operators"), planning: None, plan: None, stops: 0, next_verb_at: 0 }
    }
}

fn operator() -> Actor {
    Actor("operator".to_owned())
}

impl World<'_> {
    /// They look at how things are, and do something about it.
    pub(super) fn operate(&mut self) -> Result<(), Violation> {
        self.scheduler.after(LOOK_EVERY_MS, Event::Operators);
        let Some(engine) = &self.coordinator.engine else { return Ok(()) };
        let status = engine.rollout().map(|rollout| rollout.status().0);
        match status {
            Some(Status::Finished) if !self.some_were_waived() => self.reached_the_end(),
            None | Some(Status::Stopped | Status::Finished) => return self.begin_a_rollout(status.is_some()),
            Some(Status::Ready | Status::Running | Status::Paused | Status::Stopping) => {
                self.operators.plan = None;
                if self.faults.calm_since.is_none() {
                    self.faults_begin();
                    self.whim()?;
                }
                self.grow()?;
                self.be_willing()?;
            }
        }
        Ok(())
    }

    /// Whether the rollout came to its end without nodes that did not count.
    fn some_were_waived(&self) -> bool {
        let rollout = self.coordinator.engine.as_ref().and_then(Engine::rollout);
        rollout.is_some_and(|rollout| Stage::ALL.iter().any(|stage| rollout.counts(*stage).waived > 0))
    }

    fn begin_a_rollout(&mut self, again: bool) -> Result<(), Violation> {
        if let Some((plan, acknowledge)) = self.operators.plan.clone() {
            let mode = self.settings.mode;
            let answer = self.command("start", Command::Start { plan: Some(plan), mode, acknowledge })?;
            if answer.is_none() {
                self.operators.plan = None;
            }
            return Ok(());
        }
        if let Some(mut updates) = self.operators.planning.take() {
            return self.wait_for_plan(&mut updates).map(|goes_on| {
                self.operators.planning = goes_on.then_some(updates);
            });
        }
        // What nodes do for a rollout that has ended is known to their agents alone.
        if self.settings.asks_agents || again { self.ask_for_plan() } else { self.put_plan() }
    }

    fn waves(&mut self) -> BTreeMap<Stage, WaveOverride> {
        let large = self.nodes.len() >= 100;
        let chance = &mut self.operators.chance;
        let mut waves = BTreeMap::new();
        for stage in Stage::ALL {
            let unavailable = if large { chance.within(12..=24) } else { chance.within(1..=4) };
            let count = |number: u64| u32::try_from(number).unwrap_or(1);
            let wave = WaveOverride {
                canary: Some(if *stage == Stage::Compute { count(chance.within(1..=2)) } else { 1 }),
                max_unavailable: Some(Amount::Count(count(unavailable))),
                errors_allowed: Some(Amount::Count(count(chance.within(0..=1)))),
                soak_s: Some(self.settings.soak_s),
                ..WaveOverride::default()
            };
            waves.insert(*stage, wave);
        }
        waves
    }

    /// Plans as `wavegate plan` does.
    fn ask_for_plan(&mut self) -> Result<(), Violation> {
        let Ok((file, text)) = fleet::procedure() else { return Ok(()) };
        let waves = self.waves();
        let settings = self.with_hosts(fleet::settings);
        let (updates, receive) = mpsc::unbounded_channel();
        let request = MakePlan {
            by: operator(),
            procedure: text.to_owned(),
            procedure_file: file.to_owned(),
            parameters: None,
            settings,
            waves,
            updates,
        };
        self.operators.planning = Some(receive);
        self.turn(Input::MakePlan(Box::new(request)))
    }

    /// Whether it is still being made.
    fn wait_for_plan(&mut self, updates: &mut Updates) -> Result<bool, Violation> {
        loop {
            match updates.try_recv() {
                Ok(Ok(PlanUpdate::Progress { .. })) => {}
                Ok(Ok(PlanUpdate::Done(plan))) => {
                    let problems = plan.plan.body.problems.len();
                    self.note(format_args!("plan {} is made, with {problems} problems", plan.plan.id));
                    let known = plan.plan.body.warnings.iter().map(|warning| warning.id.clone()).collect();
                    self.operators.plan = (problems == 0).then(|| (plan.plan.id.clone(), known));
                    return Ok(false);
                }
                Ok(Err(error)) => {
                    self.note(format_args!("no plan: {error}"));
                    return Ok(false);
                }
                Err(mpsc::error::TryRecvError::Empty) => return Ok(true),
                Err(mpsc::error::TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    /// Puts a plan into the store that was made without asking the agents, which takes much less time.
    fn put_plan(&mut self) -> Result<(), Violation> {
        let waves = self.waves();
        let now = self.clock(0);
        for node in &self.nodes {
            node.host.machine().now = now;
        }
        let Some(store) = self.coordinator.store.clone() else { return Ok(()) };
        let made = self.with_hosts(|hosts| fleet::plan(hosts, waves, now, operator()));
        let audit = AuditRecord {
            at: now,
            who: "operator".to_owned(),
            what: "plan".to_owned(),
            result: "done".to_owned(),
        };
        match made {
            Ok(plan) => {
                let put = store.put_plan(&plan, &audit).is_ok();
                self.operators.plan = put.then_some((plan.id, Vec::new()));
            }
            Err(error) => self.note(format_args!("no plan: {error:#}")),
        }
        if self.coordinator.disk.has_stopped() {
            return self.coordinator_dies(self.coordinator.stop_is_power_cut);
        }
        Ok(())
    }

    fn with_hosts<T>(&self, work: impl FnOnce(&BTreeMap<NodeId, &FakeHost>) -> T) -> T {
        work(&self.nodes.iter().map(|node| (node.name.clone(), &*node.host)).collect())
    }

    fn command(&mut self, verb: &'static str, command: Command) -> Result<Option<Answer>, Violation> {
        let answer = self.asked(|reply| Input::Command { by: operator(), command, reply })?;
        let answer = answer.and_then(|answer| match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.note(format_args!("{verb} is refused: {error}"));
                None
            }
        });
        if let Some(answer) = &answer {
            self.note(format_args!("{verb}: {}", answer.text));
            if answer.changed {
                *self.figures.verbs.entry(verb).or_default() += 1;
            }
        }
        Ok(answer)
    }

    /// Something for no reason.
    fn whim(&mut self) -> Result<(), Violation> {
        let now = self.scheduler.now();
        let Some(every) = self.settings.verb_every_ms else { return Ok(()) };
        if now < self.operators.next_verb_at {
            return Ok(());
        }
        self.operators.next_verb_at = now + self.operators.chance.interval(every);
        let may_stop = self.settings.may_stop && self.operators.stops < STOPS;
        let verbs = [
            (6, "pause"),
            (3, "resume"),
            (3, "retry"),
            (3, "wave next"),
            (3, "waive"),
            (2, "withdraw"),
            (u64::from(may_stop) * 2, "stop"),
        ];
        match self.operators.chance.weighed(&verbs) {
            "pause" => self.command("pause", Command::Pause(None))?,
            "resume" => self.command("resume", Command::Resume(None))?,
            "retry" => self.retry()?,
            "wave next" => self.command("wave next", Command::NextWave(None))?,
            "waive" => self.waive()?,
            "withdraw" => self.withdraw()?,
            _ => {
                self.operators.stops += 1;
                self.command("stop", Command::Stop(None))?
            }
        };
        Ok(())
    }

    /// Some node is not to count for a while.
    fn waive(&mut self) -> Result<Option<Answer>, Violation> {
        let node = self.operators.chance.below(self.nodes.len());
        let for_s = self.operators.chance.within(20..=600);
        let (node, reason) = (self.nodes[node].name.clone(), "its disk is being replaced".to_owned());
        self.command("waive", Command::Waive { rollout: None, node, reason, for_s })
    }

    /// A node that does not count is to count again.
    fn withdraw(&mut self) -> Result<Option<Answer>, Violation> {
        let rollout = self.coordinator.engine.as_ref().and_then(Engine::rollout);
        let waivers = rollout.map(|rollout| rollout.waivers().to_vec()).unwrap_or_default();
        let waived: Vec<NodeId> =
            waivers.into_iter().filter(|waiver| waiver.in_force()).map(|waiver| waiver.node).collect();
        let Some(node) = self.operators.chance.pick(&waived).cloned() else { return Ok(None) };
        self.command("withdraw", Command::WithdrawWaiver { rollout: None, node })
    }

    fn retry(&mut self) -> Result<Option<Answer>, Violation> {
        self.command("retry", Command::Retry { rollout: None, nodes: Vec::new(), all_failed: true })
    }

    /// What brings a rollout to its end: what failed is tried again, what waits is let go. While things go wrong they take
    /// their time.
    fn be_willing(&mut self) -> Result<(), Violation> {
        if self.settings.plant == Some(Plant::NobodyWilling) {
            return Ok(());
        }
        if self.faults.calm_since.is_none() && !self.operators.chance.one_in(6) {
            return Ok(());
        }
        let Some(rollout) = self.coordinator.engine.as_ref().and_then(Engine::rollout) else {
            return Ok(());
        };
        let status = rollout.status().0;
        let failed: u32 = Stage::ALL.iter().map(|stage| rollout.counts(*stage).failed).sum();
        let now = self.clock(self.coordinator.clock_wrong_by_ms);
        let manual = rollout.mode() == Mode::Manual && rollout.wave_to_release(now).is_some();
        if failed > 0 && status != Status::Stopping {
            self.retry()?;
        }
        if status == Status::Paused {
            self.command("resume", Command::Resume(None))?;
        }
        if manual && status == Status::Running {
            self.command("wave next", Command::NextWave(None))?;
        }
        Ok(())
    }
}
