//! `http.check`: evidence that a server on the node answers. Changes nothing.

use super::Context;
use std::time::Duration;
use wavegate_common::action::HttpCheck;
use wavegate_common::outcome::StepError;

/// How long one answer may take.
const ONE_ANSWER: Duration = Duration::from_secs(5);

/// How long to wait between two questions.
const PAUSE: Duration = Duration::from_secs(1);

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
