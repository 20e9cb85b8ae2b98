//! Wrong behaviours, planted through the simulator's own seams to see that the checks find them.

use super::check::Violation;
use super::disk::Unsynced;
use super::network;
use super::node::Node;
use super::settings::Plant;
use super::world::{Event, World};
use prost::Message;
use wavegate_agent::host::Host;
use wavegate_agent::os::{systemd, upstart};
use wavegate_common::id::{Generation, Timestamp};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Entry, Event as LogEvent, TaskRef};
use wavegate_coordinator::engine::{Engine, ToAgent};
use wavegate_coordinator::rpc::session::to_wire;

impl World<'_> {
    /// Does what is planted, once the rollout has come so far that it can be done.
    pub(super) fn grow(&mut self) -> Result<(), Violation> {
        let Some(plant) = self.settings.plant.filter(|_| !self.grown) else { return Ok(()) };
        self.grown = match plant {
            Plant::OrderNotDecided => self.send_what_nobody_decided(false),
            Plant::OldOrderObeyed => self.send_what_nobody_decided(true),
            Plant::EventForged => return self.forge_event(),
            Plant::StoppedBeside => self.stop_two_members(),
            Plant::EffectTwice => self.on_a_machine_that_is_done(|node| {
                let mut machine = node.host.machine();
                let again = machine
                    .history
                    .iter()
                    .rfind(|line| wavegate_agent::host::fake::has_effect(line))
                    .cloned();
                machine.history.extend(again);
            }),
            Plant::MachineDiffers => self.on_a_machine_that_is_done(|node| {
                let mut machine = node.host.machine();
                if let Some(package) = machine.installed.values_mut().next() {
                    package.version = "0.0.1".to_owned();
                }
            }),
            Plant::BystanderKilled => self.on_a_machine_that_is_done(|node| {
                let pids = node.suffered.bystanders.clone();
                node.host.machine().processes.retain(|pid, _| !pids.contains(pid));
            }),
            Plant::LogCut => self.cut_log()?,
            Plant::NobodyWilling => true,
        };
        Ok(())
    }

    /// An order for the last stage reaches a node that is idle, as from the coordinator of now. `as_old` makes it one that
    /// the checks know to be of one before it, as if the node did not tell them apart.
    fn send_what_nobody_decided(&mut self, as_old: bool) -> bool {
        let Some(node) = self.nodes.iter().position(|node| node.name.as_str().starts_with("control")) else {
            return false;
        };
        let Some(generation) = self.nodes[node].generation().filter(|seen| *seen > Generation(0)) else {
            return false;
        };
        let (Some(connection), Some(order)) =
            (self.nodes[node].connection, self.order_nobody_gave(node, generation))
        else {
            return false;
        };
        if as_old {
            self.hosts.forged(order.key.clone());
        }
        let Ok(message) = to_wire(ToAgent::Order(Box::new(order))) else { return false };
        let bytes = message.encode_to_vec();
        self.scheduler.after(
            1,
            Event::Network(network::Event::Arrives { connection, upward: false, bytes, genuine: false }),
        );
        true
    }

    /// The log says that a control node was given its task while etcd members are worked on.
    fn forge_event(&mut self) -> Result<(), Violation> {
        let Some(rollout) = self.coordinator.engine.as_ref().and_then(Engine::rollout) else { return Ok(()) };
        let plan = rollout.plan().clone();
        let control = plan.stage(Stage::Control).and_then(|stage| stage.tasks.keys().next());
        let Some(node) = control.cloned() else { return Ok(()) };
        let now = self.scheduler.now();
        let log = self.logs.of_plan(&plan);
        let task = TaskRef { stage: Stage::Control, node, attempt: 1 };
        let entry = Entry {
            seq: log.entries().len() as u64 + 1,
            at: Timestamp(now),
            generation: Generation(1),
            event: LogEvent::TaskStarted { task },
        };
        log.read(&entry, now)
    }

    /// Two members of etcd are stopped, one after the other; of one alone there is nothing to see. The checks see it when a machine
    /// of the cluster next does something.
    fn stop_two_members(&mut self) -> bool {
        let of_etcd = |node: &&Node| node.name.as_str().starts_with("etcd");
        let members: Vec<&Node> = self.nodes.iter().filter(of_etcd).take(2).collect();
        let stop = |node: &&Node| {
            let commands = [systemd::stop("etcd"), upstart::stop("etcd")];
            commands.iter().any(|stop| node.host.run(stop).is_ok_and(|exit| exit.code == 0))
        };
        members.len() == 2 && members.iter().filter(|node| stop(node)).count() == 2
    }

    /// Does something to a compute node whose task is finished.
    fn on_a_machine_that_is_done(&mut self, work: impl FnOnce(&mut Node)) -> bool {
        let done = |node: &&mut Node| {
            node.name.as_str().starts_with("compute") && node.tasks() > 0 && node.is_idle()
        };
        self.nodes.iter_mut().find(done).map(work).is_some()
    }

    /// The coordinator comes up on the disk as it was a while ago.
    fn cut_log(&mut self) -> Result<bool, Violation> {
        let Some(rollout) = self.coordinator.engine.as_ref().and_then(Engine::rollout) else {
            return Ok(false);
        };
        match (rollout.last_seq(), self.coordinator.earlier.take()) {
            (3.., None) => {
                self.coordinator.earlier = Some(self.coordinator.disk.copy());
                Ok(false)
            }
            (40.., Some(earlier)) => {
                self.coordinator_dies(false)?;
                self.coordinator.disk = earlier.survivor(Unsynced::Kept);
                Ok(true)
            }
            (_, earlier) => {
                self.coordinator.earlier = earlier;
                Ok(false)
            }
        }
    }
}
