//! I9: from a world a willing operator and working nodes reach the end. It is not asked whether they must, but whether one
//! fair course does: the operator starts, retries, resumes and lets waves begin; every node is there and answers; no step
//! fails, and time passes. It is asked from every world that is explored, one by one; a course that comes where another one was, and
//! got to its end, is at its end.

use crate::coordinator::Verb;
use crate::entry::{CoordinatorEntry, Input};
use crate::fleet::Fleet;
use crate::shape::NODES;
use crate::world::World;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use wavegate_common::rollout::TaskState;

/// Rounds in which a course must be at its end: several times what the largest shape needs.
const ROUNDS: usize = 400;
const PARTS: usize = 64;

/// What of a world a willing course depends on. What is on its way is not: the course sends anew what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    coordinator: u32,
    generation: u8,
    nodes: [u32; NODES],
}

/// Places from which the end was reached.
#[derive(Debug)]
pub struct Known([Mutex<HashSet<Place>>; PARTS]);

impl Default for Known {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Known {
    fn part(&self, place: &Place) -> &Mutex<HashSet<Place>> {
        let mut hasher = DefaultHasher::new();
        place.hash(&mut hasher);
        &self.0[hasher.finish() as usize % PARTS]
    }

    fn has(&self, place: &Place) -> bool {
        self.part(place).lock().unwrap_or_else(PoisonError::into_inner).contains(place)
    }

    fn add(&self, place: Place) {
        self.part(&place).lock().unwrap_or_else(PoisonError::into_inner).insert(place);
    }
}

impl Fleet {
    /// Whether the end can be reached from a world.
    #[must_use]
    pub fn can_end(&self, world: &World) -> bool {
        let World { coordinator, generation, nodes, .. } = *world;
        let mut place = Place { coordinator, generation, nodes };
        let mut course = Vec::new();
        for _ in 0..ROUNDS {
            if self.coordinators.get(place.coordinator).coordinator.rollout().ended()
                || self.known.has(&place)
            {
                course.into_iter().for_each(|place| self.known.add(place));
                return true;
            }
            course.push(place);
            self.round(&mut place);
        }
        false
    }

    fn round(&self, place: &mut Place) {
        place.coordinator = self.at_best(place.coordinator);
        let coordinator = self.coordinators.get(place.coordinator);
        for order in self.orders(&coordinator) {
            let Some(number) = crate::shape::node_number(&order.key.node) else { continue };
            self.happens(place, number, Input::Welcome(place.generation));
            if let Some(at) = self.order_place(order, place.generation) {
                self.happens(place, number, Input::Order(at));
            }
        }
        for number in 0..self.shape.nodes() {
            self.happens(place, number, Input::Work);
            self.speaks(place, number);
        }
    }

    fn happens(&self, place: &mut Place, number: usize, input: Input) {
        let entry = self.nodes.get(place.nodes[number]);
        place.nodes[number] = self.after(&entry, input).unwrap_or(place.nodes[number]);
    }

    /// The node says what it has not heard the coordinator to have, and hears that it has it.
    fn speaks(&self, place: &mut Place, number: usize) {
        let entry = self.nodes.get(place.nodes[number]);
        for report in self.says(&entry).iter().copied() {
            let coordinator = self.coordinators.get(place.coordinator);
            let (to, acknowledged) = self.told(&coordinator, report);
            place.coordinator = to.unwrap_or(place.coordinator);
            if acknowledged {
                self.happens(place, number, Input::Acknowledged(report));
            }
        }
    }

    /// The coordinator after a willing operator, and after one decision with every node there.
    fn at_best(&self, number: u32) -> u32 {
        let entry = self.coordinators.get(number);
        *entry.willing.get_or_init(|| self.willing(&entry).unwrap_or(number))
    }

    fn willing(&self, entry: &CoordinatorEntry) -> Option<u32> {
        let mut coordinator = entry.coordinator.later();
        for verb in coordinator.verbs() {
            let wanted = match &verb {
                Verb::Start | Verb::Resume | Verb::Release(..) => true,
                Verb::Pause | Verb::Stop | Verb::Waive(_) | Verb::Withdraw(_) => false,
                Verb::Retry(stage, node) => {
                    let task = coordinator.rollout().task(*stage, node);
                    task.is_some_and(|task| task.progress == TaskState::Failed)
                }
            };
            if wanted && let Some(after) = coordinator.commanded(&verb, self.shape.mode) {
                coordinator = after;
            }
        }
        let after = coordinator.decides_at_best().unwrap_or(coordinator);
        Some(self.coordinator_number(after))
    }
}
