//! The places for connections over TCP: how many there are of each kind, and who has one. Agents, operators and strangers have
//! places of their own, so that none of them keeps the others out; a node has few, so that it keeps no other node out. It knows no
//! sockets, and no clock: the moment is an argument.

use super::peer::{Shown, TurnedAway};
use super::serve::Over;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use wavegate_common::id::NodeId;

/// Connections of operators, and of whoever else of the fleet is no agent.
pub const OPERATORS: usize = 256;
/// Connections without a certificate.
pub const STRANGERS: usize = 256;
/// Connections of agents for which there is no room, as long as it takes to tell them.
pub const TURNED_AWAY: usize = 256;
/// Connections of one node: one that it works with, one that it has given up and that does not know yet, and one more.
const OF_A_NODE: usize = 3;
/// How often a node may connect within [`WINDOW`].
const VISITS: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// So many nodes with no connection are remembered for their last visits before those that are long ago are forgotten.
const REMEMBERED: usize = 1024;

/// The places.
#[derive(Clone)]
pub struct Places {
    agents: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// Every connection that has a place, and how to tell it that it is to end.
    open: HashMap<u64, oneshot::Sender<Over>>,
    agents: usize,
    operators: usize,
    /// Oldest first.
    strangers: VecDeque<u64>,
    turned_away: usize,
    /// Agents for which there was no room, and those that came too often: neither hides the other.
    full: Untold,
    too_often: Untold,
    nodes: HashMap<NodeId, Visits>,
    forget_at: usize,
    closed: bool,
}

/// What is told once in a while.
#[derive(Default)]
struct Untold {
    told: Option<Instant>,
    /// How often it came since then.
    count: u64,
}

/// A node's connections, oldest first, and how often it came lately.
struct Visits {
    open: VecDeque<u64>,
    since: Instant,
    count: u32,
}

impl Visits {
    fn is_forgotten(&self, now: Instant) -> bool {
        self.open.is_empty() && now.duration_since(self.since) >= WINDOW
    }
}

/// Why somebody has no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// An agent, for which there is no room now; it is told, if there is a place for that.
    #[error(transparent)]
    TurnedAway(#[from] TurnedAway),
    /// There are so many of its kind already.
    #[error(
        "there are {most} connections of {kind} already, and there may be no more; try again when one has ended"
    )]
    Full {
        /// Whose.
        kind: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// So many are being turned away that this one can't even be told.
    #[error("there is no room to say that there is no room")]
    Untold,
    /// No more connections are wanted.
    #[error("the coordinator ends")]
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    Node(NodeId),
    Operator,
    Stranger,
    TurnedAway,
}

/// A connection's place. Dropping it gives the place back.
pub struct Place {
    places: Places,
    number: u64,
    whose: Whose,
    leave: oneshot::Receiver<Over>,
}

impl Places {
    /// Places for so many agents, and for the others as many as there always are.
    #[must_use]
    pub fn new(agents: usize) -> Self {
        let taken = Taken { forget_at: REMEMBERED, ..Taken::default() };
        Self { agents, taken: Arc::new(Mutex::new(taken)) }
    }

    /// A place for a connection that has just passed its handshake. Where a node has too many already, or there is no room but what
    /// it has itself, it loses its oldest for it: whoever dials has given that one up, and perhaps nobody has told us. Strangers
    /// lose their oldest likewise, so that those who only sit there keep nobody from enrolling.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn enter(&self, shown: Option<&Shown>, now: Instant) -> Result<Place, NoPlace> {
        let mut taken = self.taken();
        if taken.closed {
            return Err(NoPlace::Closed);
        }
        let whose = match shown {
            None => Whose::Stranger,
            Some(shown) => shown.node().cloned().map_or(Whose::Operator, Whose::Node),
        };
        match &whose {
            Whose::Node(node) => taken.visit(node, self.agents, now)?,
            Whose::Operator if taken.operators >= OPERATORS => {
                return Err(NoPlace::Full { kind: "operators", most: OPERATORS });
            }
            Whose::Stranger if taken.strangers.len() >= STRANGERS => {
                let oldest = taken.strangers.pop_front();
                taken.cut(oldest);
            }
            Whose::Operator | Whose::Stranger | Whose::TurnedAway => {}
        }
        Ok(self.give(&mut taken, whose))
    }

    /// How many agents were turned away for such a reason since this last told, this one among them; `None` if that is not a
    /// minute ago: the log is not to fill with them.
    #[must_use]
    pub fn to_tell(&self, why: &TurnedAway, now: Instant) -> Option<u64> {
        let mut taken = self.taken();
        let untold = match why {
            TurnedAway::Full { .. } => &mut taken.full,
            TurnedAway::TooOften { .. } => &mut taken.too_often,
        };
        untold.count += 1;
        if untold.told.is_some_and(|told| now.duration_since(told) < WINDOW) {
            return None;
        }
        untold.told = Some(now);
        Some(std::mem::take(&mut untold.count))
    }

    /// A place for as long as it takes to tell an agent that there is no room.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn turn_away(&self) -> Result<Place, NoPlace> {
        let mut taken = self.taken();
        if taken.closed {
            return Err(NoPlace::Closed);
        }
        if taken.turned_away >= TURNED_AWAY {
            return Err(NoPlace::Untold);
        }
        Ok(self.give(&mut taken, Whose::TurnedAway))
    }

    /// Gives no more places, and tells every connection to end.
    pub fn close(&self) {
        let mut taken = self.taken();
        taken.closed = true;
        taken.open.clear();
    }

    fn give(&self, taken: &mut Taken, whose: Whose) -> Place {
        let number = taken.next;
        taken.next += 1;
        taken.note(&whose, number);
        let (tell, leave) = oneshot::channel();
        taken.open.insert(number, tell);
        Place { places: self.clone(), number, whose, leave }
    }

    /// Whoever panicked with it left it whole: no step in between could.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn note(&mut self, whose: &Whose, number: u64) {
        match whose {
            Whose::Node(node) => {
                self.agents += 1;
                if let Some(visits) = self.nodes.get_mut(node) {
                    visits.open.push_back(number);
                }
            }
            Whose::Operator => self.operators += 1,
            Whose::Stranger => self.strangers.push_back(number),
            Whose::TurnedAway => self.turned_away += 1,
        }
    }

    fn forget(&mut self, whose: &Whose, number: u64) {
        self.open.remove(&number);
        match whose {
            Whose::Node(node) => {
                self.agents = self.agents.saturating_sub(1);
                if let Some(visits) = self.nodes.get_mut(node) {
                    visits.open.retain(|known| *known != number);
                }
            }
            Whose::Operator => self.operators = self.operators.saturating_sub(1),
            Whose::Stranger => self.strangers.retain(|known| *known != number),
            Whose::TurnedAway => self.turned_away = self.turned_away.saturating_sub(1),
        }
    }

    /// Ends a connection at once: its place is another's.
    fn cut(&mut self, number: Option<u64>) {
        if let Some(tell) = number.and_then(|number| self.open.remove(&number)) {
            // One that is gone already need not be told.
            let _ = tell.send(Over::Late);
        }
    }

    /// Notes that a node has come; its oldest connection is told to end if it has too many.
    fn visit(&mut self, node: &NodeId, most: usize, now: Instant) -> Result<(), TurnedAway> {
        if self.nodes.len() >= self.forget_at {
            self.nodes.retain(|_, visits| !visits.is_forgotten(now));
            self.forget_at = (self.nodes.len() * 2).max(REMEMBERED);
        }
        let fresh = || Visits { open: VecDeque::new(), since: now, count: 0 };
        let visits = self.nodes.entry(node.clone()).or_insert_with(fresh);
        if now.duration_since(visits.since) >= WINDOW {
            (visits.since, visits.count) = (now, 0);
        }
        visits.count = visits.count.saturating_add(1);
        if visits.count > VISITS {
            return Err(TurnedAway::TooOften { node: node.clone(), most: VISITS });
        }
        // A node that has a place already takes none from others: its oldest makes room.
        let oldest = (visits.open.len() >= OF_A_NODE || self.agents >= most).then(|| visits.open.pop_front());
        match oldest.flatten() {
            None if self.agents >= most => Err(TurnedAway::Full { most }),
            oldest => {
                self.cut(oldest);
                Ok(())
            }
        }
    }
}

impl Place {
    /// Whether it is one of an agent.
    #[must_use]
    pub const fn is_an_agents(&self) -> bool {
        matches!(self.whose, Whose::Node(_))
    }

    /// Is done when the connection is to end, and says how.
    pub async fn told_to_leave(&mut self) -> Over {
        // Where nothing was sent, the sender was dropped.
        (&mut self.leave).await.unwrap_or(Over::Asked)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().forget(&self.whose, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavegate_common::id::FleetId;
    use wavegate_proto::identity::{Identity, Subject};

    fn shown(subject: Subject) -> Shown {
        let fleet = FleetId::new("prod").expect("a name");
        Shown { identity: Ok(Identity { fleet, subject }), fingerprint: String::new() }
    }

    fn node(name: &str) -> Shown {
        shown(Subject::Node(NodeId::new(name).expect("a name")))
    }

    fn is_told_to_leave(place: &mut Place) -> bool {
        !matches!(place.leave.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    #[test]
    fn agents_beyond_the_limit_are_turned_away_until_one_goes_and_others_keep_their_room() {
        let (places, now) = (Places::new(2), Instant::now());
        let first = places.enter(Some(&node("n1")), now).expect("a place");
        let _second = places.enter(Some(&node("n2")), now).expect("a place");
        let full = NoPlace::TurnedAway(TurnedAway::Full { most: 2 });
        assert_eq!(places.enter(Some(&node("n3")), now).err(), Some(full));
        let _told = places.turn_away().expect("it can be told");
        let _operator = places.enter(Some(&shown(Subject::Operator("alice".to_owned()))), now).expect("room");
        let _stranger = places.enter(None, now).expect("room");
        drop(first);
        assert!(places.enter(Some(&node("n3")), now).is_ok(), "one has gone");
    }

    #[test]
    fn it_is_told_once_a_minute_and_for_each_reason_who_is_turned_away() {
        let (places, now) = (Places::new(2), Instant::now());
        let full = TurnedAway::Full { most: 2 };
        let too_often = TurnedAway::TooOften { node: NodeId::new("n1").expect("a name"), most: VISITS };
        let told = |why, at| places.to_tell(why, at);
        assert_eq!([told(&full, now), told(&full, now), told(&full, now)], [Some(1), None, None]);
        assert_eq!(
            [told(&too_often, now), told(&too_often, now)],
            [Some(1), None],
            "neither hides the other"
        );
        assert_eq!([told(&full, now + WINDOW), told(&too_often, now + WINDOW)], [Some(3), Some(2)]);
    }

    #[test]
    fn a_node_is_not_turned_away_for_its_own_connection() {
        let (places, now) = (Places::new(1), Instant::now());
        let mut dead = places.enter(Some(&node("n1")), now).expect("a place");
        let mut back = places.enter(Some(&node("n1")), now).expect("the place is its own");
        assert!(is_told_to_leave(&mut dead) && !is_told_to_leave(&mut back));
        let full = NoPlace::TurnedAway(TurnedAway::Full { most: 1 });
        assert_eq!(places.enter(Some(&node("n2")), now).err(), Some(full.clone()));
        drop(dead);
        assert_eq!(places.enter(Some(&node("n2")), now).err(), Some(full));
        drop(back);
        assert!(places.enter(Some(&node("n2")), now).is_ok());
    }

    #[test]
    fn a_node_has_few_places_and_the_newest_connection_has_one() {
        let (places, now) = (Places::new(100), Instant::now());
        let mut held: Vec<Place> =
            (0..OF_A_NODE).map(|_| places.enter(Some(&node("n1")), now).expect("a place")).collect();
        let mut other = places.enter(Some(&node("n2")), now).expect("a place");
        assert!(!held.iter_mut().any(is_told_to_leave));
        for _ in 0..20 {
            held.push(places.enter(Some(&node("n1")), now).expect("a place"));
        }
        let stays = held.iter_mut().map(is_told_to_leave).filter(|told| !told).count();
        assert_eq!(stays, OF_A_NODE);
        assert!(!is_told_to_leave(held.last_mut().expect("the newest")));
        assert!(!is_told_to_leave(&mut other), "it is nobody else's matter");
    }

    #[test]
    fn a_node_that_comes_too_often_is_turned_away_for_a_while_and_remembered_no_longer() {
        let (places, now) = (Places::new(100), Instant::now());
        let came = (0..VISITS * 2).filter(|_| places.enter(Some(&node("n1")), now).is_ok()).count();
        assert_eq!(came, VISITS as usize);
        assert!(places.enter(Some(&node("n2")), now).is_ok(), "another node");
        let later = now + WINDOW;
        assert!(places.enter(Some(&node("n1")), later).is_ok());
        for name in 0..REMEMBERED * 3 {
            drop(places.enter(Some(&node(&format!("c{name}"))), later + WINDOW * 2 * (name as u32)));
        }
        assert!(places.taken().nodes.len() <= REMEMBERED, "what is long ago is forgotten");
    }

    #[test]
    fn strangers_who_only_sit_there_keep_nobody_from_enrolling() {
        let (places, now) = (Places::new(1), Instant::now());
        let mut strangers: Vec<_> =
            (0..STRANGERS).map(|_| places.enter(None, now).expect("a place")).collect();
        strangers.push(places.enter(None, now).expect("a place"));
        assert_eq!(strangers[0].leave.try_recv(), Ok(Over::Late), "the oldest is cut");
        assert!(!strangers[1..].iter_mut().any(is_told_to_leave));
        strangers.truncate(1);
        assert_eq!(places.taken().strangers.len(), 0);
    }

    #[test]
    fn operators_are_counted_apart_and_all_leave_when_it_is_closed() {
        let (places, now) = (Places::new(1), Instant::now());
        let operator = shown(Subject::Operator("alice".to_owned()));
        let mut all: Vec<_> =
            (0..OPERATORS).map(|_| places.enter(Some(&operator), now).expect("a place")).collect();
        let full = places.enter(Some(&operator), now).err().expect("there are too many").to_string();
        assert_eq!(
            full,
            "there are 256 connections of operators already, and there may be no more; try again when one has ended"
        );
        all.push(places.enter(Some(&node("n1")), now).expect("a place"));
        all.push(places.enter(None, now).expect("a place"));
        places.close();
        assert!(all.iter_mut().all(is_told_to_leave));
        assert_eq!(places.enter(Some(&node("n2")), now).err(), Some(NoPlace::Closed));
        assert_eq!(places.enter(None, now).err(), Some(NoPlace::Closed));
        assert_eq!(places.turn_away().err(), Some(NoPlace::Closed));
    }
}
