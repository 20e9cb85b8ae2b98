//! Lines on stderr that say what the lab is doing, with the time since it started.

use std::sync::OnceLock;
use std::time::Instant;

static STARTED: OnceLock<Instant> = OnceLock::new();

/// Prints one line.
pub fn say(text: &str) {
    let elapsed = STARTED.get_or_init(Instant::now).elapsed();
    eprintln!("lab {:6.1}s  {text}", elapsed.as_secs_f64());
}
