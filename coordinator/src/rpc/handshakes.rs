//! Handshakes that are under way: how many there are at a time, and which of them makes room when somebody only holds one up. It knows
//! no sockets, and no clock: the moment is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Handshakes at a time; the others wait their turn. So many take a tenth of a second of a core, which is what everybody else waits
/// for at most when a whole fleet comes back.
pub const HANDSHAKES: usize = 256;
/// A handshake that has taken so long waits for the other end, not for us: it may have to make room.
const HELD_UP: Duration = Duration::from_secs(4);

/// The handshakes that are under way, oldest first.
#[derive(Default)]
pub(super) struct Handshakes {
    begun: VecDeque<(Instant, oneshot::Sender<()>)>,
}

/// A handshake that is under way. It is done when this is dropped.
pub(super) struct Handshake(oneshot::Receiver<()>);

impl Handshakes {
    /// Whether there is room for one more. If there is none, those are told to end that are held up.
    pub(super) fn have_room(&mut self, now: Instant) -> bool {
        if self.begun.len() >= HANDSHAKES {
            self.begun.retain(|(_, tell)| !tell.is_closed());
        }
        if self.begun.len() >= HANDSHAKES {
            self.begun.retain(|(begun, _)| now.duration_since(*begun) < HELD_UP);
        }
        self.begun.len() < HANDSHAKES
    }

    /// Begins one.
    pub(super) fn begin(&mut self, now: Instant) -> Handshake {
        let (tell, told) = oneshot::channel();
        self.begun.push_back((now, tell));
        Handshake(told)
    }
}

impl Handshake {
    /// Is done when it is to make room.
    pub(super) async fn told_to_end(&mut self) {
        // Nothing is ever sent: the sender is dropped.
        drop((&mut self.0).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_told(handshake: &mut Handshake) -> bool {
        !matches!(handshake.0.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    #[test]
    fn a_handshake_that_is_done_makes_room() {
        let (mut handshakes, now) = (Handshakes::default(), Instant::now());
        let mut under_way: Vec<_> = (0..HANDSHAKES).map(|_| handshakes.begin(now)).collect();
        assert!(!handshakes.have_room(now));
        under_way.pop();
        assert!(handshakes.have_room(now), "one is done");
        under_way.push(handshakes.begin(now));
        assert!(!handshakes.have_room(now));
        assert!(!under_way.iter_mut().any(is_told));
    }

    #[test]
    fn who_holds_handshakes_up_keeps_nobody_out() {
        let (mut handshakes, now) = (Handshakes::default(), Instant::now());
        let mut silent: Vec<_> = (1..HANDSHAKES).map(|_| handshakes.begin(now)).collect();
        let mut young = handshakes.begin(now + HELD_UP / 2);
        assert!(!handshakes.have_room(now + HELD_UP / 2));
        assert!(handshakes.have_room(now + HELD_UP));
        assert!(silent.iter_mut().all(is_told) && !is_told(&mut young));
    }
}
