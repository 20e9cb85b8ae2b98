//! `etcd.back_up`: a copy of what the cluster holds, taken from the member of this node. What is taken of which
//! API is in `etcd_back_up/copies`, where it goes in `etcd_back_up/place`.
//!
//! A rollout takes one on each member that it changes. What a crash left half done is removed and taken anew; what is complete is
//! not taken twice.

mod copies;
mod place;

use super::etcd_member::gate::{endpoint, identify, refuse_other_than_planned, unanswered, unknown};
use super::etcd_member::note::rollout;
use super::{Applied, Check, Context, etcd_install_archive, etcd_install_packages, failed};
use crate::etcd::{Here, here, view};
use place::Place;
use serde::{Deserialize, Serialize};
use std::path::Path;
use wavegate_common::action::{Action, EtcdBackUp};
use wavegate_common::etcd::{ClusterView, EtcdVersion, MemberId, MemberView, Part};
use wavegate_common::order::Work;
use wavegate_common::outcome::{Change, StepError};

/// The note's name.
const NOTE: &str = "etcd.back_up";

/// The name of the note of a rollout that took no copy here, because nothing of etcd was to change.
const DECLINED: &str = "etcd.back_up:declined";

/// What to do about notes.
const UNREADABLE: &str = "see why the notes in the agent's state directory can't be read, then retry";
const NO_ROOM: &str = "make room in the agent's state directory, then retry";

/// A copy that is being taken, or was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The rollout that it is for.
    rollout: String,
    /// Its directory.
    directory: String,
    /// What it holds, once it is complete.
    evidence: Option<String>,
}

/// Whom a copy is taken from.
pub(super) struct Source {
    here: Here,
    view: ClusterView,
    me: MemberId,
    name: String,
    version: EtcdVersion,
    db_bytes: u64,
}

/// Looks whether this rollout has its copy or needs none, and whether one could be taken.
///
/// # Errors
/// [`StepError`] if no member answers here, or the directory is on a RAM disk or has no room.
pub fn check(action: &EtcdBackUp, cx: &mut Context<'_>) -> Result<Check, StepError> {
    if let Some(evidence) = complete(action, cx)? {
        return Ok(Check::AlreadySo { evidence });
    }
    if !is_needed(cx) {
        // A preview decides nothing.
        if cx.node.is_some() {
            note_declined(Some(&rollout(cx)), cx)?;
        }
        let evidence = "no copy is taken: what follows would change nothing of etcd here".to_owned();
        return Ok(Check::AlreadySo { evidence });
    }
    let source = source(cx)?;
    let needed = place::refuse_unfit(action, &source, cx)?;
    let what =
        format!("a copy of what {} holds would be taken below it, up to {} MiB", source.name, needed >> 20);
    Ok(Check::WouldChange { changes: vec![Change::File { path: action.directory.clone(), what }] })
}

/// Takes the copy.
///
/// # Errors
/// As [`check`]; and if something can't be taken or written, or is not what was sent.
pub fn apply(action: &EtcdBackUp, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    if let Some(evidence) = complete(action, cx)? {
        return Ok(Applied { changes: Vec::new(), evidence });
    }
    if declined(cx)?.is_some() {
        note_declined(None, cx)?;
    }
    // One that was not completed is of no use to anybody, whichever rollout began it.
    let is_left = |note: &Note| note.evidence.is_none() || note.rollout == rollout(cx);
    if let Some(left) = note(cx)?.filter(|note| is_left(note) && is_below(note, action)) {
        (cx.output)(&format!("removing a copy that was not completed: {}", left.directory));
        place::remove(&left.directory, cx)?;
    }
    let source = source(cx)?;
    place::refuse_unfit(action, &source, cx)?;
    let place = Place::new(action, &source, cx);
    let began = Note { rollout: rollout(cx), directory: place.directory(), evidence: None };
    write(&began, cx)?;
    place.make(cx)?;
    let evidence = copies::take(&place, &source, cx)?;
    write(&Note { evidence: Some(evidence.clone()), ..began }, cx)?;
    let change = Change::File { path: place.directory(), what: "a copy of etcd's data was taken".to_owned() };
    Ok(Applied { changes: vec![change], evidence })
}

/// Refuses to take etcd down where this rollout took no copy because nothing was to change then. A mirror may have got something
/// new since.
///
/// # Errors
/// [`StepError`] that says so, or that the note can't be read.
pub(super) fn refuse_without_copy(cx: &Context<'_>) -> Result<(), StepError> {
    if declined(cx)?.is_none_or(|of| of != rollout(cx)) {
        return Ok(());
    }
    Err(StepError {
        what: "no copy of etcd's data was taken here, because nothing of etcd was to change; something is now: the package \
               repository, or what is installed here, has changed since"
            .to_owned(),
        output: Vec::new(),
        next: "retry: a copy is taken first then; nothing was stopped on this node".to_owned(),
    })
}

/// The rollout that took no copy here last.
fn declined(cx: &Context<'_>) -> Result<Option<String>, StepError> {
    cx.host.note(DECLINED).map_err(|error| failed(&error, UNREADABLE))
}

fn note_declined(of: Option<&str>, cx: &Context<'_>) -> Result<(), StepError> {
    cx.host.set_note(DECLINED, of).map_err(|error| failed(&error, NO_ROOM))
}

/// What this rollout's copy holds, if it is complete and still there.
fn complete(action: &EtcdBackUp, cx: &Context<'_>) -> Result<Option<String>, StepError> {
    let there = |note: &Note| {
        let ours = note.rollout == rollout(cx) && is_below(note, action);
        ours && cx.host.exists(&Path::new(&note.directory).join(copies::MANIFEST))
    };
    Ok(note(cx)?.filter(there).and_then(|note| note.evidence))
}

/// Whether a step that follows would change etcd; where none that could is there, the copy is wanted for itself. One that can't
/// tell may change it.
fn is_needed(cx: &mut Context<'_>) -> bool {
    let mut follows = false;
    for step in cx.to_come {
        let found = match &step.work {
            Work::Run { action: Action::EtcdInstallPackages(action), .. } => {
                etcd_install_packages::check(action, cx)
            }
            Work::Run { action: Action::EtcdInstallArchive(action), .. } => {
                etcd_install_archive::check(action, cx)
            }
            Work::Run { .. } | Work::Skip { .. } => continue,
        };
        if !matches!(found, Ok(Check::AlreadySo { .. })) {
            return true;
        }
        follows = true;
    }
    !follows
}

/// A note that was tampered with must not lead a removal elsewhere.
fn is_below(note: &Note, action: &EtcdBackUp) -> bool {
    Path::new(&note.directory).parent() == Some(Path::new(&action.directory))
}

fn note(cx: &Context<'_>) -> Result<Option<Note>, StepError> {
    let Some(text) = cx.host.note(NOTE).map_err(|error| failed(&error, UNREADABLE))? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| failed(&error, UNREADABLE))
}

fn write(note: &Note, cx: &Context<'_>) -> Result<(), StepError> {
    let text = serde_json::to_string(note).map_err(|error| failed(&error, NO_ROOM))?;
    cx.host.set_note(NOTE, Some(&text)).map_err(|error| failed(&error, NO_ROOM))
}

fn source(cx: &Context<'_>) -> Result<Source, StepError> {
    let found = here(cx.host, cx.os, cx.etcd).map_err(|error| unknown(&error))?;
    let member = found.filter(|here| here.part == Part::Member);
    let Some(here) = member else {
        return Err(unknown(&anyhow::anyhow!(
            "no member of etcd is found on this node, from which a copy could be taken"
        )));
    };
    let me = identify(&here, cx).map_err(|error| unanswered(&error))?;
    let view = view(cx.host, &[endpoint(&here)]).map_err(|error| unanswered(&error))?;
    refuse_other_than_planned(&view, me, cx)?;
    let member = view.member(me);
    let (version, db_bytes) = match member.and_then(MemberView::status) {
        Some(status) => (status.version, status.db_bytes),
        None => {
            let what = format!("member {me} answers on this node, and not where its cluster lists it");
            let next = "see that its advertised client URLs lead to it, then retry".to_owned();
            return Err(StepError { what, output: Vec::new(), next });
        }
    };
    let name = member.map_or_else(|| format!("member {me}"), MemberView::called);
    Ok(Source { here, view, me, name, version, db_bytes })
}

#[cfg(test)]
mod tests;
