//! What an agent does before it is enrolled, decided from what it sees: it goes on, enrols, refuses a token file, or waits, and
//! then says what for. It looks at nothing itself and knows no clock.

use super::token_file::{Found, Seen};
use crate::config::Address;
use crate::link::Backoff;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;
use wavegate_common::id::NodeId;
use wavegate_proto::token::JoinToken;

/// What an agent sees when it looks.
pub(super) struct Look {
    /// The coordinator that the configuration names.
    pub(super) coordinator: Option<Address>,
    /// Where it could be named.
    pub(super) drop_ins: PathBuf,
    /// Whether there are credentials, or why that can't be told.
    pub(super) enrolled: Result<bool, String>,
    /// The node's name, or why it has none yet.
    pub(super) node: Result<NodeId, String>,
    /// The token file.
    pub(super) file: PathBuf,
    /// What is in its place.
    pub(super) token: Found,
}

/// What an agent is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It is enrolled and knows its coordinator: begin.
    Begin,
    /// Enrol; what came of it is wanted.
    Enrol(Request),
    /// Put the token file away.
    Refuse(Seen, String),
    /// Look again later; what for, if it is news.
    Wait(Option<WaitingFor>),
}

/// An enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// By this token.
    pub(super) token: JoinToken,
    /// At this coordinator.
    pub(super) coordinator: Address,
    /// With this name.
    pub(super) node: NodeId,
    /// The file that the token is from.
    pub(super) seen: Seen,
}

/// What an agent that does not begin waits for, as people are told it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WaitingFor {
    /// The configuration can't be used.
    #[error("the configuration cannot be used: {why}; waiting for it to be mended")]
    Configuration {
        /// Where it is wrong, and what would be right.
        why: String,
    },
    /// No coordinator is set.
    #[error(
        "waiting for the coordinator's address: write coordinator = \"HOST:PORT\" into a file in {} whose name ends in .toml",
        drop_ins.display()
    )]
    Coordinator {
        /// The directory of the drop-ins.
        drop_ins: PathBuf,
    },
    /// There is neither a token nor a certificate.
    #[error(
        "not enrolled: waiting for a join token (`wavegate token create` on the coordinator) in {}, or for \
         `wavegate-agent enrol` here{}", file.display(), of_the_last(last.as_deref())
    )]
    Token {
        /// The token file.
        file: PathBuf,
        /// Why the last one was refused, if there was one.
        last: Option<String>,
    },
    /// The token file can't be looked at.
    #[error("not enrolled: the join token in {} cannot be read: {reason}", file.display())]
    Reading {
        /// The token file.
        file: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// A refused token can't be put away.
    #[error("not enrolled: the join token in {} was refused ({why}); waiting for another one there", file.display())]
    Another {
        /// The token file.
        file: PathBuf,
        /// Why it was refused.
        why: String,
    },
    /// Whether there are credentials can't be told.
    #[error("waiting until the node's credentials can be looked at: {reason}")]
    Credentials {
        /// The system's reason.
        reason: String,
    },
    /// The node has no name that it could have in a fleet.
    #[error("not enrolled: waiting for a name for this node: {why}")]
    Name {
        /// What is wrong with the one it has.
        why: String,
    },
    /// Enrolment did not come about, and may the next time.
    #[error("not enrolled, trying again: {why}")]
    Enrolment {
        /// What happened.
        why: String,
    },
}

fn of_the_last(refused: Option<&str>) -> String {
    refused.map(|why| format!("; the last one was refused: {why}")).unwrap_or_default()
}

/// What is remembered between two looks.
pub(super) struct Admission {
    backoff: Backoff,
    waiting: Option<WaitingFor>,
    /// What was wrong with the configuration at the last look: perhaps it was being written.
    wrong: Option<String>,
    /// Unfit at the last look: perhaps it was being written.
    unfit: Option<Seen>,
    /// The token file that was refused last, which may still be there, and why.
    refused: Option<(Seen, String)>,
    failed: Option<Failed>,
}

/// How soon an enrolment that did not come about is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Soon, then later and later.
    Short,
    /// After a long while from the first time on: a person must do something before.
    Long,
}

/// The last enrolment that did not come about.
struct Failed {
    request: Request,
    why: String,
    again_at: Instant,
}

impl Admission {
    pub(super) const fn new(backoff: Backoff) -> Self {
        Self { backoff, waiting: None, wrong: None, unfit: None, refused: None, failed: None }
    }

    /// What to do with a configuration that can't be used: nothing, since what was read before need not hold any more.
    pub(super) fn misconfigured(&mut self, why: String) -> Next {
        if self.wrong.as_ref() == Some(&why) {
            return self.wait(WaitingFor::Configuration { why });
        }
        // Whoever writes it may be in the middle of that.
        self.wrong = Some(why);
        Next::Wait(None)
    }

    /// What to do with a configuration that can be used.
    pub(super) fn next(&mut self, look: Look, now: Instant) -> Next {
        self.wrong = None;
        let unfit = self.unfit.take();
        let Look { coordinator, drop_ins, enrolled, node, file, token } = look;
        let enrolled = match enrolled {
            Ok(enrolled) => enrolled,
            Err(reason) => return self.wait(WaitingFor::Credentials { reason }),
        };
        let waiting = match (token, coordinator) {
            (_, Some(_)) if enrolled => return Next::Begin,
            (Found::Token(seen, _) | Found::Unfit(seen, _), _) if !enrolled && self.was_refused(&seen) => {
                WaitingFor::Another { file, why: self.why_the_last().unwrap_or_default() }
            }
            (Found::Unfit(seen, why), _) if !enrolled => {
                if unfit.as_ref() == Some(&seen) {
                    return Next::Refuse(seen, why);
                }
                self.unfit = Some(seen);
                // Whoever writes it may be in the middle of that.
                return Next::Wait(None);
            }
            (_, None) => WaitingFor::Coordinator { drop_ins },
            (Found::Token(seen, token), Some(coordinator)) => match node {
                Ok(node) => {
                    let request = Request { token, coordinator, node, seen };
                    match self
                        .failed
                        .as_ref()
                        .filter(|failed| failed.request == request && now < failed.again_at)
                    {
                        Some(failed) => WaitingFor::Enrolment { why: failed.why.clone() },
                        None => return Next::Enrol(request),
                    }
                }
                Err(why) => WaitingFor::Name { why },
            },
            (Found::Unknown(reason), Some(_)) => WaitingFor::Reading { file, reason },
            (Found::Nothing | Found::Unfit(..), Some(_)) => {
                WaitingFor::Token { file, last: self.why_the_last() }
            }
        };
        self.wait(waiting)
    }

    fn wait(&mut self, waiting: WaitingFor) -> Next {
        if self.waiting.as_ref() == Some(&waiting) {
            return Next::Wait(None);
        }
        self.waiting = Some(waiting.clone());
        Next::Wait(Some(waiting))
    }

    /// An enrolment did not come about, and may the next time.
    pub(super) fn failed(&mut self, request: Request, why: String, patience: Patience, now: Instant) {
        if self.failed.as_ref().is_none_or(|failed| failed.request != request) {
            self.backoff.reset();
        }
        let delay = match patience {
            Patience::Short => self.backoff.next_delay(),
            Patience::Long => self.backoff.long_delay(),
        };
        let again_at = now + delay;
        self.failed = Some(Failed { request, why, again_at });
    }

    /// A token file was refused: if it can't be put away, it is not tried again unless it changes.
    pub(super) fn refused(&mut self, seen: Seen, why: String) {
        self.refused = Some((seen, why));
    }

    /// How long to wait before the next look: `every`, or less if an enrolment is to be tried before.
    pub(super) fn look_again_in(&self, every: Duration, now: Instant) -> Duration {
        let due = self.failed.as_ref().map(|failed| failed.again_at).filter(|at| *at > now);
        due.map_or(every, |at| every.min(at - now))
    }

    fn why_the_last(&self) -> Option<String> {
        self.refused.as_ref().map(|(_, why)| why.clone())
    }

    fn was_refused(&self, seen: &Seen) -> bool {
        self.refused.as_ref().is_some_and(|(refused, _)| refused == seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::token_file;
    use std::path::Path;

    /// A moment, so many seconds after the first.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }
    }

    fn begun() -> (Admission, Clock) {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(20));
        (Admission::new(Backoff::new(min, max, 1)), Clock(Instant::now()))
    }

    fn saw(token: Found) -> Look {
        Look {
            coordinator: Some("c:1".parse().expect("an address")),
            drop_ins: "/etc/wavegate/agent.d".into(),
            enrolled: Ok(false),
            node: Ok(NodeId::new("n1").expect("a name")),
            file: "/etc/wavegate/join-token".into(),
            token,
        }
    }

    /// A file as it is when this was written into it.
    fn seen(text: &str) -> Seen {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x");
        std::fs::write(&path, text).expect("written");
        match token_file::look(&path) {
            Found::Unfit(seen, _) => seen,
            other => panic!("{other:?}"),
        }
    }

    fn token(digit: &str) -> Found {
        let text = format!("wg1.{}.{}.{}", digit.repeat(16), "5a".repeat(32), "c4".repeat(32));
        Found::Token(seen(digit), text.parse().expect("a token"))
    }

    fn unfit(seen: &Seen) -> Found {
        Found::Unfit(seen.clone(), "others can read it".to_owned())
    }

    fn news(next: Next) -> String {
        match next {
            Next::Wait(Some(waiting)) => waiting.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn request(next: Next) -> Request {
        match next {
            Next::Enrol(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_waited_for_is_said_once_for_every_change() {
        let (mut admission, clock) = begun();
        let unset = || Look { coordinator: None, ..saw(Found::Nothing) };
        insta::assert_snapshot!(news(admission.next(unset(), clock.at(0))), @r#"waiting for the coordinator's address: write coordinator = "HOST:PORT" into a file in /etc/wavegate/agent.d whose name ends in .toml"#);
        assert_eq!(admission.next(unset(), clock.at(3)), Next::Wait(None));
        insta::assert_snapshot!(news(admission.next(saw(Found::Nothing), clock.at(6))), @"not enrolled: waiting for a join token (`wavegate token create` on the coordinator) in /etc/wavegate/join-token, or for `wavegate-agent enrol` here");
        assert_eq!(admission.next(saw(Found::Nothing), clock.at(9)), Next::Wait(None));
        let unknown = Found::Unknown("Input/output error".to_owned());
        insta::assert_snapshot!(news(admission.next(saw(unknown), clock.at(12))), @"not enrolled: the join token in /etc/wavegate/join-token cannot be read: Input/output error");
        let nameless = Look { node: Err("the host name is 'localhost'".to_owned()), ..saw(token("0")) };
        insta::assert_snapshot!(news(admission.next(nameless, clock.at(15))), @"not enrolled: waiting for a name for this node: the host name is 'localhost'");
        assert!(news(admission.next(unset(), clock.at(18))).contains("agent.d"), "again, since it changed");
        let untold =
            || Look { enrolled: Err("cannot read /x/key.pem: I/O error".to_owned()), ..saw(token("0")) };
        insta::assert_snapshot!(news(admission.next(untold(), clock.at(21))), @"waiting until the node's credentials can be looked at: cannot read /x/key.pem: I/O error");
        assert_eq!(admission.next(untold(), clock.at(24)), Next::Wait(None));
        request(admission.next(saw(token("0")), clock.at(27)));
    }

    #[test]
    fn an_enrolled_agent_asks_for_nothing_but_its_coordinator() {
        let (mut admission, clock) = begun();
        let enrolled = |token, coordinator| Look { enrolled: Ok(true), coordinator, ..saw(token) };
        let said = news(admission.next(enrolled(token("0"), None), clock.at(0)));
        assert!(said.contains("coordinator = "), "{said}");
        let coordinator = saw(Found::Nothing).coordinator;
        for found in [Found::Nothing, token("0"), unfit(&seen("x"))] {
            assert_eq!(admission.next(enrolled(found, coordinator.clone()), clock.at(3)), Next::Begin);
        }
    }

    #[test]
    fn a_configuration_that_stays_wrong_is_waited_for() {
        let (mut admission, clock) = begun();
        let typo = || "/etc/wavegate/agent.d/site.toml: unknown field `cordinator`".to_owned();
        assert_eq!(admission.misconfigured("half written".to_owned()), Next::Wait(None));
        assert_eq!(admission.misconfigured(typo()), Next::Wait(None));
        insta::assert_snapshot!(news(admission.misconfigured(typo())), @"the configuration cannot be used: /etc/wavegate/agent.d/site.toml: unknown field `cordinator`; waiting for it to be mended");
        assert_eq!(admission.misconfigured(typo()), Next::Wait(None));
        assert!(news(admission.next(saw(Found::Nothing), clock.at(12))).contains("a join token"));
        assert_eq!(admission.misconfigured(typo()), Next::Wait(None), "at one look since");
        request(admission.next(saw(token("0")), clock.at(18)));
    }

    #[test]
    fn a_token_that_is_being_written_is_not_refused() {
        let (mut admission, clock) = begun();
        let (half, more) = (seen("wg1"), seen("wg1."));
        assert_eq!(admission.next(saw(unfit(&half)), clock.at(0)), Next::Wait(None));
        assert_eq!(admission.next(saw(unfit(&more)), clock.at(3)), Next::Wait(None), "it grows");
        assert_eq!(request(admission.next(saw(token("0")), clock.at(6))).node.as_str(), "n1");
        assert_eq!(admission.next(saw(unfit(&more)), clock.at(9)), Next::Wait(None));
        let refused = admission.next(saw(unfit(&more)), clock.at(12));
        assert_eq!(refused, Next::Refuse(more.clone(), "others can read it".to_owned()));
        admission.refused(more.clone(), "others can read it".to_owned());
        insta::assert_snapshot!(news(admission.next(saw(unfit(&more)), clock.at(15))), @"not enrolled: the join token in /etc/wavegate/join-token was refused (others can read it); waiting for another one there");
        assert_eq!(admission.next(saw(unfit(&more)), clock.at(18)), Next::Wait(None));
        insta::assert_snapshot!(news(admission.next(saw(Found::Nothing), clock.at(19))), @"not enrolled: waiting for a join token (`wavegate token create` on the coordinator) in /etc/wavegate/join-token, or for `wavegate-agent enrol` here; the last one was refused: others can read it");
        assert_eq!(admission.next(saw(Found::Nothing), clock.at(20)), Next::Wait(None));
        request(admission.next(saw(token("1")), clock.at(21)));
    }

    #[test]
    fn an_enrolment_is_tried_again_after_a_while_and_at_once_when_something_changed() {
        let (mut admission, clock) = begun();
        let look = token("0");
        let every = Duration::from_secs(60);
        let mut now = clock.at(0);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let asked = request(admission.next(saw(look.clone()), now));
            admission.failed(asked, "cannot reach the coordinator".to_owned(), Patience::Short, now);
            let wait = admission.look_again_in(every, now);
            if !wait.is_zero() && wait < every {
                let before = admission.next(saw(look.clone()), now);
                assert!(matches!(before, Next::Wait(_)), "{before:?}");
            }
            waits.push(wait);
            now += wait;
        }
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(20)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(5)), "they grow: {waits:?}");
        let asked = request(admission.next(saw(look.clone()), now));
        admission.failed(asked, "cannot reach the coordinator".to_owned(), Patience::Short, now);
        let elsewhere = Look { coordinator: "d:2".parse().ok(), ..saw(look) };
        let asked = request(admission.next(elsewhere, now));
        assert_eq!(asked.coordinator.as_str(), "d:2");
        admission.failed(asked, "cannot reach the coordinator".to_owned(), Patience::Short, now);
        assert!(
            admission.look_again_in(every, now) <= Duration::from_secs(1),
            "the first wait is short again"
        );
        let other = request(admission.next(saw(token("2")), now));
        admission.failed(other, "not declared yet".to_owned(), Patience::Long, now);
        let wait = admission.look_again_in(every, now);
        assert!(wait >= Duration::from_secs(10), "a person must do something first: {wait:?}");
        request(admission.next(saw(token("1")), now));
    }

    #[test]
    fn a_file_that_can_be_looked_at_is_looked_at_again_after_the_usual_time() {
        let (admission, clock) = begun();
        let every = Duration::from_secs(3);
        assert_eq!(admission.look_again_in(every, clock.at(0)), every);
        assert_eq!(token_file::look(Path::new("/nonexistent/join-token")), Found::Nothing);
    }
}
