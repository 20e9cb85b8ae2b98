//! What is around every change of etcd's programs on a node: a member is stopped only while every other member is well, with its
//! leadership handed over, and started again only on the data that it had. What is changed meanwhile is the actions' business.
//!
//! Everything that is needed to go on after a crash is noted before the stop. From then on nothing is protected by the gate
//! any more: whoever comes next goes on with the work and starts the member.

pub mod data;
pub mod gate;
mod hand_over;
pub mod note;
pub mod texts;
pub mod waiting;

use super::{Context, StepError};
use super::{etcd_back_up, service_control};
use crate::etcd::{Here, configured, of_service};
use crate::host::etcd::EtcdError;
use crate::os::service::{KeptDown, ServiceState};
use gate::Open;
use hand_over::{Leadership, hand_over};
use note::{Configured, Member, Note, rollout};
use std::time::Duration;
use waiting::Waiting;
use wavegate_common::etcd::{EtcdVersion, Part};
use wavegate_common::outcome::Change;

/// What etcd is stopped for.
#[derive(Debug, Clone, Copy)]
pub struct Stopping<'a> {
    /// The service, without `.service`.
    pub unit: &'a str,
    /// How long the other members are waited for to be well, in seconds.
    pub within_s: u64,
    /// How many entries of the raft log another member may be behind.
    pub max_lag: u64,
    /// The version that will run; `None` if nothing of it is to change.
    pub to: Option<EtcdVersion>,
}

/// The etcd of a service, and what is known of it beforehand.
pub struct Around {
    /// How it is run here.
    pub here: Here,
    /// Its service.
    pub state: ServiceState,
    /// What was noted of it.
    pub note: Option<Note>,
    /// Whether it is down: stopped, or started by this rollout and answering nobody, however its service manager calls that. One
    /// that ends after every start is `activating` for ever.
    pub down: bool,
}

/// How often a member that this rollout started is asked before it counts as down, and how long to wait in between: half a minute
/// of one that refuses, and of one that lets who asks wait so many answers.
const ASKED: u32 = 150;
const ANSWERS: u32 = 30;
const ASKED_MS: u64 = 30_000;
const PAUSE: Duration = Duration::from_millis(200);

impl Around {
    /// Looks at the etcd that a service runs.
    ///
    /// # Errors
    /// [`StepError`] if it can't be found out, or there is none.
    pub fn of(unit: &str, cx: &Context<'_>) -> Result<Self, StepError> {
        let state = cx.os.service(cx.host, unit)?;
        if !state.installed {
            return Err(super::service_restart::absent(unit));
        }
        let note = Note::of(unit, cx)?;
        // What keeps it down for the time of a transaction of ours is taken away by whoever ends that.
        if state.kept_down == KeptDown::ForGood || (state.is_kept_down() && note.is_none()) {
            super::service_restart::refuse_kept_down(unit, &state, cx)?;
        }
        let here = run_by(unit, state.main_pid, cx)?;
        let down =
            state.is_down() || (note.as_ref().is_some_and(|note| note.is_ours(cx)) && is_mute(&here, cx));
        Ok(Self { here, state, note, down })
    }

    /// Whether the service is down because of us.
    #[must_use]
    pub fn stopped_by_us(&self, cx: &Context<'_>) -> bool {
        self.down && self.note.as_ref().is_some_and(|note| note.explains_down(cx))
    }

    /// Takes away what was noted of a proxy or gateway that runs again: an agent that was killed right after its start left it. That
    /// of a member stays until it is seen to be back. A preview takes nothing away.
    ///
    /// # Errors
    /// [`StepError`] if the note can't be removed.
    pub fn settle(&self, unit: &str, cx: &Context<'_>) -> Result<(), StepError> {
        let over = self.here.part != Part::Member && !self.down && self.note.is_some();
        if over && cx.node.is_some() { Note::forget(unit, cx) } else { Ok(()) }
    }

    /// The version that its process runs, as it says itself; `None` if it does not.
    #[must_use]
    pub fn running(&self, cx: &Context<'_>) -> Option<EtcdVersion> {
        match self.here.part {
            // What these answer is what the members say.
            Part::Proxy | Part::Gateway | Part::Client => None,
            Part::Member => {
                let asked = cx.host.etcd(&gate::endpoint(&self.here)).version();
                asked.ok().map(|running| running.server)
            }
        }
    }
}

/// Whether a member answers nobody, also after a while: one that was started a moment ago needs some.
fn is_mute(here: &Here, cx: &Context<'_>) -> bool {
    if here.part != Part::Member {
        return false;
    }
    let began = cx.host.now();
    for asked in 1..=ASKED {
        if !matches!(cx.host.etcd(&gate::endpoint(here)).version(), Err(EtcdError::Unreachable { .. })) {
            return false;
        }
        cx.host.sleep(PAUSE);
        if asked >= ANSWERS && cx.host.now().millis_since(began) >= ASKED_MS {
            break;
        }
    }
    true
}

/// The etcd that a service runs, or would run. Another one of this node says nothing of it.
fn run_by(unit: &str, main_pid: Option<u32>, cx: &Context<'_>) -> Result<Here, StepError> {
    of_service(cx.host, cx.etcd, unit, main_pid).map_err(|error| gate::unknown(&error))
}

/// How the service would run etcd now.
fn as_configured(unit: &str, cx: &Context<'_>) -> Result<Configured, StepError> {
    let here = configured(cx.host, cx.etcd, unit).map_err(|error| gate::unknown(&error))?;
    Ok(Configured { part: here.part, name: here.name, data_dir: here.data_dir, wal_dir: here.wal_dir })
}

/// Stops etcd if it runs, does the work, and starts it again if it ran or was stopped by us. If the work fails it is started
/// with what is there then.
///
/// # Errors
/// [`StepError`] of the gate, before anything is stopped; of the work, after etcd was started again; if its data is not what it
/// was, with etcd left down; if it can't be stopped or started.
pub fn around(
    stopping: &Stopping<'_>,
    found: &Around,
    cx: &mut Context<'_>,
    work: &mut dyn FnMut(&mut Context<'_>) -> Result<Vec<Change>, StepError>,
) -> Result<Vec<Change>, StepError> {
    let Around { here, state, note, down } = Around::of(stopping.unit, cx)?;
    if found.down && !down {
        return Err(came_up(stopping.unit));
    }
    let note = if down {
        if !state.is_down() {
            (cx.output)(&format!("{} is {} and answers nobody: stopping it", stopping.unit, state.words));
            service_control::stop(cx, stopping.unit)?;
        }
        note.filter(|note| note.explains_down(cx))
    } else {
        Some(stop(&here, note, stopping, cx)?)
    };
    let worked = work(cx);
    let Some(note) = note else { return worked };
    let started = start(note, stopping.unit, cx);
    match (worked, started) {
        (Ok(mut changes), Ok(())) => {
            let what = "stopped, and started with what is installed now".to_owned();
            changes.push(Change::Service { unit: stopping.unit.to_owned(), what });
            Ok(changes)
        }
        (Ok(_), Err(error)) => Err(error),
        (Err(mut error), Ok(())) => {
            error.next = format!("{} runs again with what is installed now; {}", stopping.unit, error.next);
            Err(error)
        }
        (Err(mut error), Err(down)) => {
            error.what = format!("{}; and {} is down: {}", error.what, stopping.unit, down.what);
            error.output.extend(down.output);
            error.next = format!("{}; {}", error.next, down.next);
            Err(error)
        }
    }
}

/// Of what was down nothing was prepared for a stop.
fn came_up(unit: &str) -> StepError {
    StepError {
        what: format!("{unit} was down when the step began, and was started by somebody since"),
        output: Vec::new(),
        next: "retry: it is then treated as one that runs; nothing was stopped or changed".to_owned(),
    }
}

/// Stops etcd, once that harms nobody and everything is noted.
fn stop(
    here: &Here,
    before: Option<Note>,
    stopping: &Stopping<'_>,
    cx: &mut Context<'_>,
) -> Result<Note, StepError> {
    let note = match here.part {
        Part::Member => ready(here, before, stopping, cx)?,
        Part::Proxy | Part::Gateway | Part::Client => {
            let was = Some(as_configured(stopping.unit, cx)?);
            let note = Note { rollout: rollout(cx), was, ..Note::default() };
            note.write(stopping.unit, cx)?;
            note
        }
    };
    if let Err(error) = service_control::stop(cx, stopping.unit) {
        if !cx.os.service(cx.host, stopping.unit)?.is_down() {
            return Err(error);
        }
        (cx.output)(&format!("{error}; it is down all the same"));
    }
    Ok(note)
}

/// Brings a member where it can be stopped, and notes who it is. The gate is the last that is asked.
fn ready(
    here: &Here,
    before: Option<Note>,
    stopping: &Stopping<'_>,
    cx: &mut Context<'_>,
) -> Result<Note, StepError> {
    etcd_back_up::refuse_without_copy(cx)?;
    let known = before.filter(|note| note.is_ours(cx)).and_then(|note| note.member);
    if let Some(member) = &known {
        data::refuse_other(member, cx)?;
    }
    let mut waiting = Waiting::new(stopping.within_s, cx);
    let mut noted: Option<Note> = None;
    loop {
        let open = gate::pass(here, stopping, &mut waiting, cx)?;
        if hand_over(here, &open, stopping, &mut waiting, cx)? == Leadership::Moved {
            continue;
        }
        if let Some(note) = noted {
            (cx.output)(&format!("stopping {}: {}", open.name(), texts::in_a_line(&open.view)));
            return Ok(note);
        }
        let was = Some(as_configured(stopping.unit, cx)?);
        let member = Some(member(here, &open, cx)?);
        let note = Note { rollout: rollout(cx), started: false, was, member };
        note.write(stopping.unit, cx)?;
        noted = Some(note);
    }
}

fn member(here: &Here, open: &Open, cx: &Context<'_>) -> Result<Member, StepError> {
    let missing = |what: String| {
        StepError {
        what,
        output: Vec::new(),
        next: "see with which data directory etcd runs on the node (its command line, its environment, its configuration \
               file), then retry; nothing was stopped"
            .to_owned(),
    }
    };
    let name = open.name();
    let Some(data_dir) = here.data_dir.clone() else {
        return Err(missing(format!("where {name} has its data can't be found out")));
    };
    let Some((identity, wal)) = data::identity(&data_dir, here.wal_dir.as_deref(), cx) else {
        return Err(missing(format!("{name} has no data in {data_dir}, where it is configured to have it")));
    };
    let index = open.member().and_then(|member| member.status()).map_or(0, |status| status.index);
    Ok(Member {
        cluster: open.view.id,
        id: open.me,
        name,
        data_dir,
        wal_dir: here.wal_dir.clone(),
        identity,
        boot: data::boot(cx),
        wal,
        index,
    })
}

/// Starts etcd on the data that it had, by the configuration that it had.
fn start(note: Note, unit: &str, cx: &mut Context<'_>) -> Result<(), StepError> {
    if let Some(was) = &note.was {
        data::refuse_other_configuration(was, &as_configured(unit, cx)?, note.member.as_ref(), unit, cx)?;
    }
    if let Some(member) = &note.member {
        data::refuse_other(member, cx)?;
    }
    service_control::reset_failed(cx, unit)?;
    service_control::start(cx, unit)?;
    match note.member {
        // Whether it is back with its data is still to be seen: the note stays until then.
        Some(_) => Note { started: true, ..note }.write(unit, cx),
        None => Note::forget(unit, cx),
    }
}
