//! Waiting for a condition, never for a time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(100);

/// Asks `observe` again and again until it gives a value, for at most `bound`.
///
/// # Errors
///
/// When the bound is over: names what was awaited and the last error `observe` returned. An error of `observe` is not
/// the end: the machine may be booting. Use it to say what was seen instead.
pub fn wait_until<T>(
    what: &str,
    bound: Duration,
    mut observe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut last = "nothing yet".to_owned();
    loop {
        match observe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = format!("{error:#}"),
        }
        if started.elapsed() >= bound {
            bail!("waited {:.0?} for {what}; last seen: {last}", started.elapsed());
        }
        std::thread::sleep(POLL);
    }
}

/// Like `wait_until`, for a value that has to satisfy `good`; a timeout shows the last value.
pub fn wait_for<T: Debug>(
    what: &str,
    bound: Duration,
    mut observe: impl FnMut() -> Result<T>,
    good: impl Fn(&T) -> bool,
) -> Result<T> {
    wait_until(what, bound, || {
        let value = observe()?;
        if good(&value) {
            return Ok(Some(value));
        }
        bail!("{value:?}")
    })
}
