//! Waits for other package managers, and tells for whom. Whose lock is in the way is looked up in `os::locks`; no lock is
//! ever removed, and nobody is ended.

use crate::action::{Context, exit_failed};
use crate::host::Exit;
use crate::os::locks::{LockHolder, Need};
use std::time::Duration;
use wavegate_common::id::Timestamp;
use wavegate_common::outcome::StepError;

/// How long to wait before it is looked again.
const PAUSE: Duration = Duration::from_secs(5);

/// How often the same holder is told again.
const AGAIN_MS: u64 = 60_000;

/// How long a preview waits: most package managers that do not install anything are done by then.
const PREVIEW: Duration = Duration::from_secs(10);

/// How long a step still waits for locks, and what it said of that.
#[derive(Debug)]
pub(super) struct Wait {
    limit: Duration,
    until: Timestamp,
    told: Option<(String, Timestamp)>,
}

impl Wait {
    /// For as long as the step may take; a preview waits for moments alone.
    pub(super) fn new(cx: &Context<'_>) -> Self {
        let limit = if cx.patience.is_zero() { PREVIEW.min(cx.timeout) } else { cx.timeout };
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Self { limit, until: Timestamp(cx.host.now().0.saturating_add(millis)), told: None }
    }

    /// Waits until nobody holds a lock that is needed.
    ///
    /// # Errors
    /// [`StepError`] that names who still does when the time is up.
    pub(super) fn until_free(&mut self, need: Need, cx: &mut Context<'_>) -> Result<(), StepError> {
        while let Some(holder) = cx.os.lock_holder(cx.host, need) {
            if cx.host.now() >= self.until {
                return Err(self.held(&holder));
            }
            self.tell(&holder.to_string(), cx);
            cx.host.sleep(PAUSE);
        }
        Ok(())
    }

    /// Whether a program that ended badly says that it found a lock; waits then, so that it can be tried again.
    ///
    /// # Errors
    /// [`StepError`] as [`Wait::until_free`] if the time is up.
    pub(super) fn found_locked(
        &mut self,
        exit: &Exit,
        need: Need,
        cx: &mut Context<'_>,
    ) -> Result<bool, StepError> {
        let says = |line: &&str| cx.os.locked(line);
        let line = exit.stdout.lines().chain(exit.stderr.lines()).find(says);
        let (Some(line), true) = (line, exit.code != 0) else { return Ok(false) };
        let holder = cx.os.lock_holder(cx.host, need);
        if cx.host.now() >= self.until {
            return Err(match holder {
                Some(holder) => self.held(&holder),
                None => self.held_by_somebody(line, exit),
            });
        }
        let who =
            holder.map_or_else(|| format!("another package manager: {}", line.trim()), |it| it.to_string());
        self.tell(&who, cx);
        cx.host.sleep(PAUSE);
        Ok(true)
    }

    fn tell(&mut self, who: &str, cx: &mut Context<'_>) {
        let now = cx.host.now();
        let lately = |(told, at): &(String, Timestamp)| told == who && now.millis_since(*at) < AGAIN_MS;
        if !self.told.as_ref().is_some_and(lately) {
            (cx.output)(&format!("waiting for {who}"));
            self.told = Some((who.to_owned(), now));
        }
    }

    fn held(&self, holder: &LockHolder) -> StepError {
        let LockHolder { pid, name, file, by_pid } = holder;
        let mut next = format!(
            "see what it does on the node ('ps -fp {pid}') and let it end, then retry; do not take its lock away"
        );
        if *by_pid {
            next += &format!(
                "; if process {pid} is no package manager, one that was killed left {file} behind: then remove it"
            );
        }
        let what = format!(
            "{name} (pid {pid}) holds {file}, and did not let go of it within {} s",
            self.limit.as_secs()
        );
        StepError { what, output: Vec::new(), next }
    }

    fn held_by_somebody(&self, line: &str, exit: &Exit) -> StepError {
        let what = format!(
            "another package manager holds a lock, and did not let go of it within {} s: {}",
            self.limit.as_secs(),
            line.trim()
        );
        let next = "see on the node which package manager runs ('fuser -v' on the file named above) and let it end, then retry";
        exit_failed(what, exit, next)
    }
}
