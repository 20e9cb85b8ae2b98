//! Where the time comes from: the machine's clocks, made steady, or a test's.
//!
//! The coordinator's time never goes back while it runs, and never before the last event of its log after a restart: what
//! is recorded later has the later time. It follows the machine's clock when that is set forward. When that is set back,
//! it goes on from where it was at the pace of the monotonic clock until the coordinator is restarted, or until the
//! machine's clock has come past it. Either is in the log.
//!
//! What a clock that is set forward does: soak times, join tokens and waivers count by the time that people see, so they end earlier by as much, and a task may be called overdue. Silence and absence are measured by the
//! monotonic clock: no session is closed, and no node taken for lost, because a clock was set. (A rollout that is being
//! stopped gives an order that was not confirmed up earlier.) What one that is set back does: nothing, but the times that
//! are told differ from the machine's until the restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use wavegate_common::id::Timestamp;

/// Less than this is not a clock that was set, but one that is kept right.
const SET_US: u64 = 1_000_000;

/// Tells the time.
#[derive(Debug, Clone)]
pub enum Clock {
    /// A machine's clocks, made steady.
    Steady(Arc<Steady>),
    /// One that is set by hand and always right; milliseconds since the epoch.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// This machine's.
    #[must_use]
    pub fn system() -> Self {
        Self::of(Readings::Machine(Instant::now()))
    }

    /// A machine's whose clocks are set by hand.
    #[must_use]
    pub fn by_hands(hands: Arc<Hands>) -> Self {
        Self::of(Readings::Hands(hands))
    }

    fn of(readings: Readings) -> Self {
        Self::Steady(Arc::new(Steady {
            readings,
            ahead_us: AtomicU64::new(0),
            set_back: AtomicBool::new(false),
        }))
    }

    /// Now. Never earlier than it was.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Steady(steady) => steady.now(),
            Self::Manual(millis) => Timestamp(millis.load(Ordering::SeqCst)),
        }
    }

    /// What the machine's clock says, right or wrong and also if it was set back: for certificates, which others judge by
    /// clocks of their own.
    #[must_use]
    pub fn machine(&self) -> Timestamp {
        match self {
            Self::Steady(steady) => Timestamp(steady.readings.wall_us() / 1000),
            Self::Manual(millis) => Timestamp(millis.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds since some moment, whatever clocks are set to: for measuring how long something takes.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        match self {
            Self::Steady(steady) => steady.readings.elapsed_us() / 1000,
            Self::Manual(millis) => millis.load(Ordering::SeqCst),
        }
    }

    /// Goes on from this moment, if the machine's clock is behind it.
    pub fn not_before(&self, moment: Timestamp) {
        match self {
            Self::Steady(steady) => steady.not_before(moment),
            Self::Manual(millis) => drop(millis.fetch_max(moment.0, Ordering::SeqCst)),
        }
    }
}

/// The two clocks of a machine, as a test sets them; milliseconds.
#[derive(Debug, Default)]
pub struct Hands {
    /// What people see and set, since the epoch.
    pub wall: AtomicU64,
    /// What only goes forward.
    pub elapsed: AtomicU64,
}

#[derive(Debug)]
enum Readings {
    Machine(Instant),
    Hands(Arc<Hands>),
}

impl Readings {
    /// Microseconds since the epoch, by the clock that can be set.
    fn wall_us(&self) -> u64 {
        match self {
            Self::Machine(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
            }
            Self::Hands(hands) => hands.wall.load(Ordering::SeqCst).saturating_mul(1000),
        }
    }

    fn elapsed_us(&self) -> u64 {
        match self {
            Self::Machine(begin) => u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
            Self::Hands(hands) => hands.elapsed.load(Ordering::SeqCst).saturating_mul(1000),
        }
    }
}

/// A machine's clocks, made steady.
#[derive(Debug)]
pub struct Steady {
    readings: Readings,
    /// How far the time is ahead of the monotonic clock, in microseconds: it only grows, so the time never goes back.
    ahead_us: AtomicU64,
    /// The machine's clock was found behind the time; said once.
    set_back: AtomicBool,
}

impl Steady {
    fn now(&self) -> Timestamp {
        // The wall clock first: whatever comes between the two readings makes the time a little early, and never late.
        let wall = self.readings.wall_us();
        let elapsed = self.readings.elapsed_us();
        let ahead = wall.saturating_sub(elapsed);
        let before = self.ahead_us.fetch_max(ahead, Ordering::SeqCst);
        if before > 0 {
            self.notice(before, ahead);
        }
        Timestamp(before.max(ahead).saturating_add(elapsed) / 1000)
    }

    fn notice(&self, before: u64, ahead: u64) {
        if ahead > before.saturating_add(SET_US) {
            tracing::warn!(
                by_s = (ahead - before) / 1_000_000,
                "the machine's clock was set forward, and is followed: soak times and tokens end earlier by as much"
            );
        }
        let behind = before.saturating_sub(ahead);
        if behind <= SET_US {
            self.set_back.store(false, Ordering::SeqCst);
        } else if !self.set_back.swap(true, Ordering::SeqCst) {
            tracing::warn!(
                by_s = behind / 1_000_000,
                "the machine's clock is behind the coordinator's time, which never goes back: it goes on from where it \
                 was; if the machine's clock is right now, restart the coordinator when it is past the last event"
            );
        }
    }

    fn not_before(&self, moment: Timestamp) {
        // The machine's clock first: that time has passed since that moment is no clock that was set.
        self.now();
        let elapsed = self.readings.elapsed_us();
        let ahead = moment.0.saturating_mul(1000).saturating_sub(elapsed);
        self.ahead_us.fetch_max(ahead, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(hands: &Hands, wall: u64, elapsed: u64) {
        hands.wall.store(wall, Ordering::SeqCst);
        hands.elapsed.store(elapsed, Ordering::SeqCst);
    }

    /// What the clock tells at each pair of readings.
    fn told(clock: &Clock, hands: &Hands, readings: &[(u64, u64)]) -> Vec<u64> {
        let tell = |(wall, elapsed): &(u64, u64)| {
            set(hands, *wall, *elapsed);
            clock.now().0
        };
        readings.iter().map(tell).collect()
    }

    #[test]
    fn time_that_passed_while_no_coordinator_ran_is_no_clock_that_was_set() {
        let (clock, hands) = by_hands();
        set(&hands, 60_000, 0);
        clock.not_before(Timestamp(10_000));
        let Clock::Steady(steady) = &clock else { panic!("made of hands") };
        assert_eq!(steady.ahead_us.load(Ordering::SeqCst), 60_000_000, "nothing is left to be followed");
        clock.not_before(Timestamp(90_000));
        assert_eq!(clock.now(), Timestamp(90_000), "the last event is ahead of the machine's clock");
    }

    fn by_hands() -> (Clock, Arc<Hands>) {
        let hands = Arc::new(Hands::default());
        (Clock::by_hands(hands.clone()), hands)
    }

    #[test]
    fn a_clock_set_forward_is_followed_and_one_set_back_is_not() {
        let (clock, hands) = by_hands();
        let readings = [
            (1_000_000, 0),
            (1_005_000, 5_000),
            // Set forward by an hour.
            (4_606_000, 6_000),
            // Set back to what it was: the time goes on at the pace of the other clock.
            (1_007_000, 7_000),
            (1_017_000, 17_000),
            // The machine's clock has come past it.
            (4_700_000, 18_000),
        ];
        let expected = [1_000_000, 1_005_000, 4_606_000, 4_607_000, 4_617_000, 4_700_000];
        assert_eq!(told(&clock, &hands, &readings), expected);
        assert_eq!(clock.elapsed_ms(), 18_000);
        set(&hands, 1_018_000, 18_000);
        assert_eq!((clock.now().0, clock.machine().0), (4_700_000, 1_018_000));
    }

    #[test]
    fn a_clock_before_1970_or_at_the_end_of_its_range_still_goes_forward() {
        let (clock, hands) = by_hands();
        assert_eq!(told(&clock, &hands, &[(0, 5_000), (0, 6_000), (8_000, 6_000)]), [5_000, 6_000, 8_000]);
        set(&hands, u64::MAX, 7_000);
        let last = clock.now();
        assert_eq!(told(&clock, &hands, &[(9_000, 8_000)]), [last.0]);
    }

    #[test]
    fn the_time_after_a_restart_is_not_before_the_last_event() {
        let (clock, hands) = by_hands();
        set(&hands, 1_000_000, 100);
        clock.not_before(Timestamp(1_500_000));
        assert_eq!(clock.now(), Timestamp(1_500_000));
        assert_eq!(told(&clock, &hands, &[(1_000_900, 1_000), (2_000_000, 2_000)]), [1_500_900, 2_000_000]);
        clock.not_before(Timestamp(1_500_000));
        assert_eq!(clock.now(), Timestamp(2_000_000), "it was past that");
    }

    #[test]
    fn the_machines_own_time_is_the_machines_and_never_goes_back() {
        let clock = Clock::system();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        assert!(u128::from(clock.now().0).abs_diff(wall) < 60_000);
        let told: Vec<u64> = (0..10_000).map(|_| clock.now().0).collect();
        assert!(told.is_sorted());
    }

    proptest::proptest! {
        #[test]
        fn the_time_never_goes_back_and_is_never_behind_the_machines(
            steps in proptest::collection::vec((0u64..10_000_000, 0u64..10_000), 1..50),
        ) {
            let (clock, hands) = by_hands();
            let (mut last, mut elapsed) = (0, 0);
            for (wall, passed) in steps {
                elapsed += passed;
                set(&hands, wall, elapsed);
                let now = clock.now().0;
                let at_least = if last > 0 { last + passed } else { 0 };
                proptest::prop_assert!(now >= at_least);
                proptest::prop_assert!(now >= wall);
                last = now;
            }
        }
    }
}
