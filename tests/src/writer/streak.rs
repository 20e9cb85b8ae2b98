//! Failed attempts in a row through one endpoint, told once each: a member that is down for a minute fails hundreds of them.

use std::time::Duration;

/// What fails through each endpoint at the moment. Those that have not ended are told when this is dropped.
pub struct Streaks<T: FnMut(&str)> {
    urls: Vec<String>,
    now: Vec<Option<Streak>>,
    tell: T,
}

/// Attempts in a row that failed alike.
struct Streak {
    error: String,
    /// The write that the first of them was for.
    number: u64,
    attempts: u64,
    began: Duration,
    last: Duration,
}

impl<T: FnMut(&str)> Streaks<T> {
    /// None yet, through endpoints with these URLs.
    pub fn new(urls: &[String], tell: T) -> Self {
        Self { urls: urls.to_vec(), now: urls.iter().map(|_| None).collect(), tell }
    }

    /// An attempt at a write failed, so long after the writer began.
    pub fn failed(&mut self, endpoint: usize, number: u64, error: &str, at: Duration) {
        if let Some(streak) = &mut self.now[endpoint]
            && streak.error == error
        {
            streak.attempts += 1;
            streak.last = at;
            return;
        }
        self.end(endpoint, at);
        let error = error.to_owned();
        self.now[endpoint] = Some(Streak { error, number, attempts: 1, began: at, last: at });
    }

    /// A write was acknowledged, so long after the writer began.
    pub fn went_well(&mut self, endpoint: usize, at: Duration) {
        self.end(endpoint, at);
    }

    fn end(&mut self, endpoint: usize, at: Duration) {
        let Some(Streak { error, number, attempts, began, .. }) = self.now[endpoint].take() else { return };
        let (url, from, long) =
            (&self.urls[endpoint], began.as_secs_f64(), at.saturating_sub(began).as_secs_f64());
        let times = if attempts == 1 { "once".to_owned() } else { format!("{attempts} times") };
        (self.tell)(&format!(
            "{url} failed {times}, from write {number} on, {from:.1} s after the first, for {long:.1} s: {error}"
        ));
    }
}

impl<T: FnMut(&str)> Drop for Streaks<T> {
    fn drop(&mut self) {
        for endpoint in 0..self.now.len() {
            if let Some(last) = self.now[endpoint].as_ref().map(|streak| streak.last) {
                self.end(endpoint, last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_with_how_many_and_how_long() {
        let mut told = Vec::new();
        let mut streaks =
            Streaks::new(&["http://a", "http://b"].map(str::to_owned), |line| told.push(line.to_owned()));
        let at = Duration::from_millis;
        for (n, ms) in (0..30).zip((1000_u64..).step_by(100)) {
            streaks.failed(0, 7 + n, "connection refused", at(ms));
            streaks.went_well(1, at(ms + 50));
        }
        streaks.failed(0, 40, "no leader", at(4000));
        streaks.went_well(0, at(4200));
        streaks.failed(1, 50, "no leader", at(9000));
        streaks.failed(1, 51, "no leader", at(9500));
        drop(streaks);
        assert_eq!(
            told,
            [
                "http://a failed 30 times, from write 7 on, 1.0 s after the first, for 3.0 s: connection refused",
                "http://a failed once, from write 40 on, 4.0 s after the first, for 0.2 s: no leader",
                "http://b failed 2 times, from write 50 on, 9.0 s after the first, for 0.5 s: no leader",
            ]
        );
    }
}
