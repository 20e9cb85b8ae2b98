//! Archives that actions install from: fetched, their digest compared, unpacked into the agent's own state.

use super::{Context, exit_failed, failed};
use crate::host::Command;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wavegate_common::action::Sha256;
use wavegate_common::outcome::StepError;

/// Fetches and unpacks an archive, and returns the directory. Both is done for a preview too: nothing outside the agent's
/// own state changes, and an archive that can't be had is known before the window.
///
/// # Errors
/// [`StepError`] if it can't be fetched, has another digest or can't be unpacked.
pub(super) fn unpacked(url: &str, sha256: &Sha256, cx: &mut Context<'_>) -> Result<PathBuf, StepError> {
    (cx.output)(&format!("fetching {url}"));
    let next =
        "see that the node reaches this address, or put the archive where it does and plan with that url";
    let fetched = cx.host.fetch(url, sha256.as_str(), cx.timeout).map_err(|error| failed(&error, next))?;
    if fetched.sha256 != sha256.as_str() {
        return Err(StepError {
            what: format!(
                "{url} has SHA-256 {}, not {}: it is not installed",
                fetched.sha256,
                sha256.as_str()
            ),
            output: Vec::new(),
            next:
                "find out which of the two is right; do not take the digest of a file that nobody vouches for"
                    .to_owned(),
        });
    }
    let archive = fetched.path.display().to_string();
    let directory = format!("{archive}.unpacked");
    run(&Command::new(["mkdir", "-p", &directory]), cx)?;
    // Again at every look: what an unpacking that was cut off left is overwritten.
    let tar = Command::new(["tar", "-xzf", &archive, "-C", &directory, "--no-same-owner"]);
    run(&tar.timeout(Duration::from_secs(300)), cx)?;
    Ok(directory.into())
}

/// The file of that name in the archive's top directory, or one below it.
///
/// # Errors
/// [`StepError`] if the archive has none.
pub(super) fn find(directory: &Path, name: &str, url: &str, cx: &Context<'_>) -> Result<PathBuf, StepError> {
    let below = cx.host.list(directory).into_iter().map(|top| directory.join(top).join(name));
    let mut found = std::iter::once(directory.join(name)).chain(below).filter(|path| cx.host.exists(path));
    found.next().ok_or_else(|| StepError {
        what: format!("{url} holds no {name}"),
        output: Vec::new(),
        next: "see what the archive holds (tar -tzf), and plan with the right one".to_owned(),
    })
}

fn run(command: &Command, cx: &Context<'_>) -> Result<(), StepError> {
    const NEXT: &str = "see that the disk of the agent's state directory has room and that the archive is a gzipped tar file";
    let exit = cx.host.run(command).map_err(|error| failed(&error, NEXT))?;
    if exit.code == 0 {
        return Ok(());
    }
    Err(exit_failed(format!("'{}' failed with exit code {}", command.argv.join(" "), exit.code), &exit, NEXT))
}
