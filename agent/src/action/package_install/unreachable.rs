//! Repositories that can't be reached are waited for: a step that gives up in the middle of a task leaves the node between
//! the old and the new, a compute node perhaps with its old DHCP agent stopped and the new one not yet there.

use crate::action::Context;
use std::time::Duration;
use wavegate_common::id::Timestamp;
use wavegate_common::outcome::StepError;

/// How long to wait before they are asked again.
const PAUSE: Duration = Duration::from_secs(15);

/// Does something that needs the repositories; again while they can't be reached, for as long as the context's patience
/// lasts. Nothing was changed by a try that failed so: a package manager fetches everything before it installs anything.
///
/// # Errors
/// Those of `work`.
pub(super) fn waited_for<T>(
    cx: &mut Context<'_>,
    mut work: impl FnMut(&mut Context<'_>) -> Result<T, StepError>,
) -> Result<T, StepError> {
    let patience = u64::try_from(cx.patience.as_millis()).unwrap_or(u64::MAX);
    let deadline = Timestamp(cx.host.now().0.saturating_add(patience));
    loop {
        match work(cx) {
            Err(error) if cx.os.unreachable(&error) && cx.host.now() < deadline => {
                (cx.output)(&error.what);
                (cx.output)("a repository cannot be reached: waiting for it");
                cx.host.sleep(PAUSE);
            }
            done => return done,
        }
    }
}
