//! How much an agent may say in a time. One that says more is made to wait: its stream is not read on, so that it stands still in
//! its own queue and takes nothing from the others. The moment is an argument.

use std::time::Duration;
use wavegate_proto::v1::AgentMessage;
use wavegate_proto::v1::agent_message::Message;

/// What an agent may say, on and on. One that works says a few messages a second, and a step's output.
const MESSAGES_PER_S: u64 = 100;
const BYTES_PER_S: u64 = 1 << 20;
/// What it may say at once after it was silent, in microseconds of the above: all that it kept of a task while it was away.
const AT_ONCE_US: u64 = 4_000_000;

/// What one session has said lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Budget {
    /// What it has said and time has not yet paid for, in microseconds.
    owed_us: u64,
    looked_us: u64,
}

impl Budget {
    /// Of a session that began with a message of so many bytes.
    pub(super) fn after(bytes: usize) -> Self {
        let mut budget = Self::default();
        budget.spend(bytes, 0);
        budget
    }

    /// Notes a message of so many bytes that came `now_us` microseconds after the session's beginning; how long to wait before the
    /// next one is read.
    pub(super) fn spend(&mut self, bytes: usize, now_us: u64) -> Option<Duration> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost_us = 1_000_000 / MESSAGES_PER_S + bytes.saturating_mul(1_000_000) / BYTES_PER_S;
        let paid_us = now_us.saturating_sub(self.looked_us);
        self.looked_us = now_us;
        self.owed_us = self.owed_us.saturating_sub(paid_us).saturating_add(cost_us);
        let over = self.owed_us.checked_sub(AT_ONCE_US).filter(|over| *over > 0)?;
        Some(Duration::from_micros(over))
    }
}

/// About how many bytes a message has; what is always short is not counted.
pub(super) fn size(message: &AgentMessage) -> usize {
    let document = |document: &Option<wavegate_proto::v1::Document>| {
        document.as_ref().map_or(0, |document| document.json.len())
    };
    match &message.message {
        None => 0,
        Some(Message::Hello(hello)) => document(&hello.facts),
        Some(Message::Heartbeat(heartbeat)) => heartbeat.stands_still.len(),
        Some(Message::TaskReport(report)) => document(&report.ended_steps),
        Some(Message::OrderRefused(refused)) => refused.reason.len(),
        Some(Message::Output(output)) => output.data.len(),
        Some(Message::PreviewReport(report)) => document(&report.step_previews),
        Some(Message::Facts(facts)) => facts.json.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says messages of so many bytes for a second or longer and waits as told; how many it could say, and how long it took.
    fn say(budget: &mut Budget, bytes: usize, from_us: u64, for_us: u64) -> u64 {
        let (mut now, mut said) = (from_us, 0);
        while now < from_us + for_us {
            said += 1;
            now += budget.spend(bytes, now).map_or(0, |wait| u64::try_from(wait.as_micros()).expect("short"));
        }
        said
    }

    #[test]
    fn a_flood_is_slowed_to_the_rate_and_a_pause_gives_the_rest_back() {
        let mut budget = Budget::default();
        let at_once = AT_ONCE_US / 1_000_000 * MESSAGES_PER_S;
        let said = say(&mut budget, 0, 0, 10_000_000);
        assert!((at_once + 1000..=at_once + 1001).contains(&said), "{said}");
        let said = say(&mut budget, 0, 100_000_000, 10_000_000);
        assert!((at_once + 1000..=at_once + 1001).contains(&said), "after a pause: {said}");
    }

    #[test]
    fn many_bytes_cost_as_much_as_many_messages() {
        let said = say(&mut Budget::default(), 1 << 20, 0, 10_000_000);
        assert!((13..=15).contains(&said), "{said} messages of 1 MiB in 10 s");
        let wait = Budget::default().spend(usize::MAX, 0).expect("a wait");
        assert!(wait > Duration::from_secs(3600));
    }

    #[test]
    fn how_a_session_begins_is_paid_for_too() {
        assert_eq!(Budget::after(64 << 10).spend(0, 0), None);
        let wait = Budget::after(4 << 20).spend(0, 0).expect("that was all that it may say at once");
        assert!(wait < Duration::from_millis(100), "{wait:?}");
    }

    #[test]
    fn who_says_what_agents_say_never_waits() {
        let mut budget = Budget::default();
        for second in 0..1000 {
            for part in 0..20 {
                assert_eq!(budget.spend(32 << 10, second * 1_000_000 + part * 50_000), None);
            }
        }
    }
}
