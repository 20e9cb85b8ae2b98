//! Reads the package lists of the repositories again.

use super::locks::Wait;
use super::transaction::failure;
use crate::action::{Context, exit_failed, failed};
use crate::os::locks::Need;
use crate::os::packages::SourcesState;
use wavegate_common::outcome::StepError;

/// Package lists that the next question to the package manager is to read again: the sources as they were before that. `None` if
/// they are as new as they must be.
pub(super) type ToRead = Option<SourcesState>;

/// Reads the package lists again, unless this task did so a moment ago and the sources are still the same; or tells that the next
/// question is to do so.
///
/// # Errors
/// [`StepError`] if a list can't be read, or a lock is held for too long.
pub(super) fn refresh(wait: &mut Wait, cx: &mut Context<'_>) -> Result<ToRead, StepError> {
    if cx.memory.has_new_lists(cx.host, cx.os) {
        return Ok(None);
    }
    // Before they are read: what changes meanwhile is a change.
    let sources = cx.os.sources_state(cx.host);
    let Some(command) = cx.os.refresh() else {
        cx.memory.lists_are_to_be_read();
        return Ok(Some(sources));
    };
    let line = command.argv.join(" ");
    let next = "see that every repository of the node answers, or disable the one that does not, then retry";
    (cx.output)(&line);
    let exit = loop {
        wait.until_free(Need::Lists, cx)?;
        let exit = cx.host.run(&command).map_err(|error| failed(&error, next))?;
        if !wait.found_locked(&exit, Need::Lists, cx)? {
            break exit;
        }
    };
    let unread = cx.os.failed_sources(&exit);
    if exit.code != 0 {
        return Err(failure(&line, &exit, next));
    }
    if let Some(first) = unread.first() {
        let what = format!("'{line}' left old package lists in place: {first}");
        return Err(exit_failed(what, &exit, next));
    }
    cx.memory.lists_were_read(cx.host, sources);
    Ok(None)
}
