//! What only the whole world can tell to be broken: what the nodes really do beside what the coordinator believes.

use crate::entry::NodeEntry;
use crate::fleet::Fleet;
use crate::invariant::{Broken, Invariant};
use crate::node::effect;
use crate::shape::StageShape;
use crate::world::World;
use wavegate_common::platform::Stage;

impl Fleet {
    /// What is broken in a world: by its parts, and by what only the whole can tell.
    pub(crate) fn checked(&self, mut world: World) -> World {
        let coordinator = self.coordinators.get(world.coordinator);
        let mut broken = world.broken.and(coordinator.broken);
        let mut unavailable = coordinator.unavailable;
        let finished = coordinator.coordinator.finished();
        for number in 0..self.shape.nodes() {
            let node = self.nodes.get(world.nodes[number]);
            broken = broken.and(node.broken);
            if let Some(stage) = node.at_work {
                unavailable[stage] |= 1 << number;
            }
            let waived = coordinator.waived & (1 << number) != 0;
            broken.unless(!finished || waived || self.all_done(&node, number, 3), Invariant::I4);
        }
        for (stage, shape) in self.shape.stages.iter().enumerate() {
            let counted = (unavailable[stage] & !coordinator.was_waived).count_ones();
            broken.unless(counted <= shape.limits.max_unavailable, Invariant::I2);
        }
        let members = unavailable[0] & self.shape.members();
        broken.unless(members.count_ones() <= 1, Invariant::I3);
        world.broken = broken;
        world
    }

    /// Whether every step of the first so many stages has taken effect on a node.
    fn all_done(&self, node: &NodeEntry, number: usize, stages: usize) -> bool {
        let planned = Stage::ALL.iter().zip(&self.shape.stages).take(stages);
        let mut steps = planned
            .filter(|(_, shape)| shape.nodes().any(|node| node == number))
            .flat_map(|(stage, _)| (0..self.shape.steps).map(move |step| effect(*stage, step)));
        steps.all(|bit| node.node.effects() & bit != 0)
    }

    /// What is broken in a world in which a task of a stage has just been given out. Waived nodes do not count, but one
    /// whose waiver has ended does.
    pub(crate) fn given_out(&self, world: &World, stage: usize) -> Broken {
        let (mut broken, entry) = (Broken::default(), self.coordinators.get(world.coordinator));
        let (mut unavailable, mut busy) = (entry.unavailable[stage], entry.busy[stage]);
        for number in 0..self.shape.nodes() {
            let node = self.nodes.get(world.nodes[number]);
            let waived = entry.waived & (1 << number) != 0;
            broken.unless(waived || self.all_done(&node, number, stage), Invariant::I1);
            if node.at_work == Some(stage) {
                unavailable |= 1 << number;
                busy |= 1 << number;
            }
        }
        let StageShape { limits, grouped, .. } = &self.shape.stages[stage];
        let counted = (unavailable & !entry.waived).count_ones();
        broken.unless(counted <= limits.max_unavailable, Invariant::I2);
        let with_member = stage == 0 && unavailable & self.shape.members() != 0;
        broken.unless(!with_member || (unavailable & !entry.waived).count_ones() <= 1, Invariant::I3);
        // Each node is a group of its own.
        broken.unless(!grouped || (busy & !entry.waived).count_ones() <= 1, Invariant::I2);
        broken
    }
}
