//! Looking on at a rollout until it comes to an end, through restarts of the coordinator. Nothing here moves the rollout.

use super::ending::{Ending, ending};
use super::error::CliError;
use super::output::Output;
use super::render::changes::{Detail, changes};
use super::render::progress::{Titles, progress};
use super::status::brief;
use super::{Invocation, document};
use crate::status::view::RolloutStatus;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::Streaming;
use wavegate_common::id::Timestamp;
use wavegate_proto::v1;

/// How long a coordinator that is away is tried again before the looking on is given up.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(2);
const REDRAW: Duration = Duration::from_millis(500);

/// How the looking on ended.
pub(super) enum Followed {
    /// With the rollout, or with its standing still.
    Ended {
        /// Its last status.
        status: Box<RolloutStatus>,
        /// How it ended.
        ending: Ending,
    },
    /// With Ctrl-C, or since nobody reads the output any more; the rollout goes on.
    Detached,
}

/// Ctrl-C as something to wait for. From now on it no longer ends the program.
///
/// # Errors
/// If the system gives no signal handler.
pub(super) fn interrupted() -> Result<Signal, CliError> {
    use anyhow::Context;
    Ok(signal(SignalKind::interrupt()).context("Ctrl-C cannot be waited for")?)
}

/// Looks on at a rollout until it has an [`Ending`], Ctrl-C is pressed, or nobody reads the output any more.
///
/// # Errors
/// What the coordinator answers; [`CliError::Unreachable`] if it stays away for [`PATIENCE`].
pub(super) async fn follow(
    invocation: &Invocation,
    rollout: &str,
    titles: &Titles<'_>,
    interrupt: &mut Signal,
) -> Result<Followed, CliError> {
    let mut view = View::new(&invocation.output, titles);
    let mut away: Option<Instant> = None;
    loop {
        let error = tokio::select! {
            _ = interrupt.recv() => return Ok(Followed::Detached),
            watched = watch(invocation, rollout, &mut view, &mut away) => match watched {
                Ok(followed) => return Ok(followed),
                Err(error) => error,
            },
        };
        if let CliError::OutputClosed = error {
            // Whoever read along went away (`wavegate upgrade | head`). It has not come to its end, so it is not code 0.
            return Ok(Followed::Detached);
        }
        if !error.is_passing() {
            return Err(error);
        }
        let since = *away.get_or_insert_with(|| {
            view.say("the connection to the coordinator is lost; the rollout goes on; trying again");
            Instant::now()
        });
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        tokio::select! {
            _ = interrupt.recv() => return Ok(Followed::Detached),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// One connection's worth of looking on.
async fn watch(
    invocation: &Invocation,
    rollout: &str,
    view: &mut View<'_>,
    away: &mut Option<Instant>,
) -> Result<Followed, CliError> {
    let request = invocation.status_of(rollout);
    let mut statuses = invocation.connect().await?.watch_status(request).await?.into_inner();
    let mut redraw = tokio::time::interval(REDRAW);
    loop {
        let document = tokio::select! {
            document = next(&mut statuses) => document?,
            _ = redraw.tick() => {
                view.draw();
                continue;
            }
        };
        if away.take().is_some() {
            view.say("the coordinator is back");
        }
        let status = view.show(&document)?;
        if let Some(ending) = ending(&status) {
            return Ok(Followed::Ended { status: Box::new(status), ending });
        }
    }
}

/// The next status. A stream that ends before the rollout has is one whose coordinator goes down.
async fn next(statuses: &mut Streaming<v1::Document>) -> Result<v1::Document, CliError> {
    let gone = || tonic::Status::unavailable("the coordinator ended the connection");
    Ok(statuses.message().await?.ok_or_else(gone)?)
}

/// What is shown meanwhile: lines that are drawn over on a terminal, else a line for everything that happens.
struct View<'v> {
    output: &'v Output,
    titles: &'v Titles<'v>,
    bar: Option<ProgressBar>,
    last: Option<(RolloutStatus, Instant)>,
}

impl<'v> View<'v> {
    fn new(output: &'v Output, titles: &'v Titles<'v>) -> Self {
        let bar = output.live.then(|| {
            let bar = ProgressBar::new_spinner();
            // The template is a constant that indicatif takes; its default would only add a spinner.
            let style =
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            bar.with_style(style)
        });
        Self { output, titles, bar, last: None }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.output.note(text),
        }
    }

    /// Takes in a status and shows what it brings.
    fn show(&mut self, document: &v1::Document) -> Result<RolloutStatus, CliError> {
        if self.output.is_json() {
            self.output.write(&document::line("rollout_status", document)?)?;
            return document::read("rollout_status", document);
        }
        let status = brief(document)?;
        let detail = if self.bar.is_some() { Detail::Tasks } else { Detail::Steps };
        let before = self.last.as_ref().map(|(status, _)| status);
        for line in changes(before, &status, detail, &self.output.look) {
            match &self.bar {
                Some(bar) => bar.println(line),
                None => self.output.write(&format!("{line}\n"))?,
            }
        }
        self.last = Some((status.clone(), Instant::now()));
        self.draw();
        Ok(status)
    }

    /// Draws the lines again: the durations in them grow. The coordinator's clock is taken to go as fast as ours.
    fn draw(&self) {
        let (Some(bar), Some((status, seen))) = (&self.bar, &self.last) else { return };
        let passed = u64::try_from(seen.elapsed().as_millis()).unwrap_or_default();
        let look = super::render::Look { width: super::output::width(), ..self.output.look.clone() };
        bar.set_message(progress(status, Timestamp(status.now.0 + passed), self.titles, &look).join("\n"));
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
