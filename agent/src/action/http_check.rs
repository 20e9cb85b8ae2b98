//! `http.check`: evidence that a server on the node answers. Changes nothing.

use super::Context;
use std::time::Duration;
use wavegate_common::action::HttpCheck;
use wavegate_common::outcome::StepError;

/// How long one answer may take.
const ONE_ANSWER: Duration = Duration::from_secs(5);

/// How long to wait between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks until the answer is right or the time is up.
///
/// # Errors
/// [`StepError`] with the last answer.
pub fn verify(action: &HttpCheck, cx: &mut Context<'_>) -> Result<String, StepError> {
    let deadline = cx.host.now().0.saturating_add(action.within_s.saturating_mul(1000));
    loop {
        let wrong = match cx.host.http_get(&action.url, ONE_ANSWER) {
            Ok(answer) if answer.status >= 500 => format!("it answers with status {}", answer.status),
            Ok(answer) if !answer.body.contains(&action.contains) => {
                format!("its answer with status {} does not hold '{}'", answer.status, action.contains)
            }
            Ok(answer) => return Ok(format!("{} answers with status {}", action.url, answer.status)),
            Err(error) => super::failed(&error, "").what,
        };
        if cx.host.now().0 >= deadline {
            return Err(StepError {
                what: format!("{} is not as it must be after {} s: {wrong}", action.url, action.within_s),
                output: Vec::new(),
                next: "read the log of the server that listens there on the node, then retry".to_owned(),
            });
        }
        cx.host.sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use crate::action::bench::{Bench, shown};
    use crate::host::Host;
    use crate::host::fake::FakeMachine;
    use crate::os::systemd;
    use wavegate_common::action::{Action, HttpCheck};

    const URL: &str = "http://127.0.0.1:9696/";

    fn check(contains: &str) -> Action {
        Action::HttpCheck(HttpCheck { url: URL.to_owned(), contains: contains.to_owned(), within_s: 20 })
    }

    #[test]
    fn a_server_that_answers_is_evidence() {
        let bench = Bench::new(FakeMachine::debian_control());
        assert_eq!(bench.already_so(&check("v2.0")), "http://127.0.0.1:9696/ answers with status 200");
        let set_status = |status| bench.machine().http.get_mut(URL).expect("a server").answer.status = status;
        set_status(401);
        bench.already_so(&check(""));
        set_status(503);
        let error = bench.check(&check("")).expect_err("no good answer");
        assert_eq!(error.what, format!("{URL} is not as it must be after 20 s: it answers with status 503"));
    }

    #[test]
    fn one_that_does_not_is_asked_until_the_time_is_up() {
        let bench = Bench::new(FakeMachine::debian_control());
        let error = bench.check(&check("v3.0")).expect_err("another answer");
        assert!(error.what.ends_with("its answer with status 200 does not hold 'v3.0'"), "{error}");
        bench.host.run(&systemd::stop("neutron-server")).expect("it stops");
        let before = bench.machine().now;
        let error = bench.check(&check("")).expect_err("no answer");
        insta::assert_snapshot!(shown(&error), @r"
        http://127.0.0.1:9696/ is not as it must be after 20 s: cannot fetch http://127.0.0.1:9696/: nothing answered within 5 s
        next: read the log of the server that listens there on the node, then retry
        ");
        assert!(bench.machine().now.millis_since(before) >= 20_000);
    }
}
