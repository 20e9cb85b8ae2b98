//! Orders that nobody gave: of an old generation, or from another fleet's coordinator. No node may take one.

use super::network;
use super::world::{Event, World};
use prost::Message;
use wavegate_common::id::Generation;
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_common::platform::Stage;
use wavegate_coordinator::engine::{Engine, ToAgent};
use wavegate_coordinator::rpc::session::to_wire;

impl World<'_> {
    /// A coordinator that was replaced gives a node an order, for a task that the node does not have yet.
    pub(super) fn forged_order(&mut self, node: usize) -> Option<&'static str> {
        let connection = self.nodes[node].connection?;
        let seen = self.nodes[node].generation()?;
        let old = Generation(seen.0.checked_sub(1)?);
        let order = self.order_nobody_gave(node, old)?;
        self.hosts.forged(order.key.clone());
        let bytes = to_wire(ToAgent::Order(Box::new(order))).ok()?.encode_to_vec();
        let after = self.network.latency();
        let arrives = network::Event::Arrives { connection, upward: false, bytes, genuine: false };
        self.scheduler.after(after, Event::Network(arrives));
        Some("orders of replaced coordinators")
    }

    /// An order for the last stage that a node has a task in, and for an attempt that there will not be.
    pub(super) fn order_nobody_gave(&self, node: usize, generation: Generation) -> Option<TaskOrder> {
        let rollout = self.coordinator.engine.as_ref().and_then(Engine::rollout)?;
        let name = &self.nodes[node].name;
        let task = |stage: &&Stage| Some((**stage, rollout.plan().stage(**stage)?.tasks.get(name)?.clone()));
        let (stage, steps) = Stage::ALL.iter().rev().find_map(|stage| task(&stage))?;
        let key = TaskKey {
            rollout: rollout.id().clone(),
            plan: rollout.plan().id.clone(),
            stage,
            node: name.clone(),
            attempt: 1000,
        };
        Some(TaskOrder { key, generation, steps, planned: None })
    }
}
