//! Python on a node: its interpreters, and which copies of a distribution they find, in the order they find them.
//!
//! An interpreter takes a while to tell. It is asked for all distributions that the task is about at once, and not again as long
//! as what it looks at is what it was.

use super::{Context, exit_failed, failed};
use crate::host::seen::Seen;
use crate::host::{Command, Exit, Host};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use wavegate_common::action::Action;
use wavegate_common::id::Timestamp;
use wavegate_common::order::Work;
use wavegate_common::outcome::StepError;

/// A copy of a distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    /// Its version.
    pub(super) version: String,
    /// Its metadata: a `.dist-info` or `.egg-info` directory or file, or an egg's `EGG-INFO`.
    pub(super) path: PathBuf,
    /// The package that owns it; `None` if none does.
    pub(super) owner: Option<String>,
}

/// How long what an interpreter told counts: from a step's check to its work, and to the next step.
const LISTED_MS: u64 = 10_000;

/// Times of files are those of the kernel's tick: one that was changed in the moment before a look may be changed once more, and
/// have the same time.
const TICK_MS: u64 = 20;

/// Prints the places of `sys.path`, then name, version and metadata path of every copy there of the distributions that it is given,
/// the one that counts first. `importlib.metadata` is there from Python 3.8; an older Python may lack even setuptools, so that the
/// names of metadata directories and of eggs are read as packaging.python.org describes them ("Recording installed projects",
/// "Python eggs").
const LIST: &str = "\
import os, re, sys
def plain(name):
    return re.sub('[-_.]+', '-', name or '').lower()
def installed():
    try:
        from importlib import metadata
    except ImportError:
        metadata = None
    if metadata:
        for d in metadata.distributions():
            told = d.metadata
            yield told['Name'], told['Version'], str(d._path)
        return
    for place in sys.path:
        top, name = os.path.split(place)
        found = [(name, os.path.join(place, 'EGG-INFO'))] if name.endswith('.egg') else []
        if os.path.isdir(place):
            found += [(n, os.path.join(place, n)) for n in sorted(os.listdir(place))]
        for name, path in found:
            m = re.match('([^-]+)-([^-]+)(-py[^-]+)?[.](dist-info|egg-info|egg)$', name)
            if m and (m.group(4) != 'egg' or path.endswith('EGG-INFO')):
                yield m.group(1), m.group(2), path
for place in sys.path:
    sys.stdout.write('place\\t' + place + '\\n')
for name, version, path in installed():
    if plain(name) in sys.argv[1:]:
        sys.stdout.write('copy\\t' + plain(name) + '\\t' + version + '\\t' + path + '\\n')
";

/// What an interpreter told.
#[derive(Debug)]
pub(super) struct Listing {
    interpreter: PathBuf,
    at: Timestamp,
    distributions: BTreeSet<String>,
    places: Vec<String>,
    state: Vec<Seen>,
    copies: Vec<Found>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    name: String,
    version: String,
    path: PathBuf,
}

impl Listing {
    /// Reads what [`LIST`] prints.
    fn read(
        exit: &Exit,
        interpreter: &Path,
        distributions: BTreeSet<String>,
        at: Timestamp,
        host: &dyn Host,
    ) -> Self {
        let (mut places, mut copies) = (Vec::new(), Vec::new());
        for line in exit.stdout.lines() {
            match line.split('\t').collect::<Vec<_>>().as_slice() {
                // The directory in which it runs.
                ["place", ""] => places.push("/".to_owned()),
                ["place", place] => places.push((*place).to_owned()),
                // The package database knows directories without the slash at their end.
                ["copy", name, version, path] => copies.push(Found {
                    name: (*name).to_owned(),
                    version: (*version).to_owned(),
                    path: path.trim_end_matches('/').into(),
                }),
                // What else it prints on its start is not ours to judge.
                _ => {}
            }
        }
        let state = state(interpreter, &places, host);
        Self { interpreter: interpreter.to_owned(), at, distributions, places, state, copies }
    }

    /// Whether nothing of what it looked at changed while it looked, or so shortly before that it can't be told.
    fn is_of_one_moment(&self) -> bool {
        let last = self.state.iter().filter_map(Seen::last_change).max();
        last.is_none_or(|last| last.0.saturating_add(TICK_MS) < self.at.0)
    }

    /// Whether it still tells what an interpreter would of a distribution.
    fn still_tells(&self, interpreter: &Path, distribution: &str, host: &dyn Host) -> bool {
        let now = host.now();
        self.interpreter == interpreter
            && self.distributions.contains(distribution)
            && now >= self.at
            && now.millis_since(self.at) < LISTED_MS
            && self.state == state(interpreter, &self.places, host)
    }

    fn of(&self, distribution: &str) -> Vec<Found> {
        self.copies.iter().filter(|copy| copy.name == distribution).cloned().collect()
    }
}

/// All that decides about what an interpreter finds: itself, its places, and what in them names distributions or further places.
fn state(interpreter: &Path, places: &[String], host: &dyn Host) -> Vec<Seen> {
    let mut state = vec![Seen::of(interpreter.display().to_string(), host)];
    for place in places {
        state.push(Seen::of(place.clone(), host));
        let place = place.trim_end_matches('/');
        for name in host.list(Path::new(&format!("{place}/"))) {
            let path = format!("{place}/{name}");
            let metadata = name.to_ascii_lowercase().ends_with("-info");
            if metadata {
                state.extend(["METADATA", "PKG-INFO"].map(|file| Seen::of(format!("{path}/{file}"), host)));
            }
            if metadata || [".pth", ".egg", ".egg-link"].iter().any(|end| name.ends_with(end)) {
                state.push(Seen::of(path, host));
            }
        }
    }
    state
}

/// The interpreters of the node, in the order in which Neutron's scripts would take one. One that has several names in one
/// directory is one: what it finds depends on its file and on where that stands.
pub(super) fn interpreters(cx: &Context<'_>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    let mut interpreters = Vec::new();
    for name in ["python", "python2", "python3"] {
        let Some(path) = cx.host.which(name) else { continue };
        let which = cx.host.identity(&path).map(|identity| (path.parent().map(Path::to_owned), identity));
        if which.as_ref().is_none_or(|which| !seen.contains(which)) {
            interpreters.push(name);
            seen.extend(which);
        }
    }
    interpreters
}

/// The copies of a distribution that an interpreter finds, with their owners.
///
/// # Errors
/// [`StepError`] if the interpreter can't tell, or the package database can't.
pub(super) fn copies(
    interpreter: &str,
    distribution: &str,
    cx: &Context<'_>,
) -> Result<Vec<Copy>, StepError> {
    let copy = |Found { version, path, .. }| {
        let owner = cx.os.owner(cx.host, &path)?;
        Ok(Copy { version, path, owner })
    };
    found(interpreter, distribution, cx)?.into_iter().map(copy).collect()
}

/// The version of a distribution that an interpreter takes; `None` if it finds none.
///
/// # Errors
/// [`StepError`] if the interpreter can't tell.
pub(super) fn version(
    interpreter: &str,
    distribution: &str,
    cx: &Context<'_>,
) -> Result<Option<String>, StepError> {
    Ok(found(interpreter, distribution, cx)?.into_iter().next().map(|first| first.version))
}

fn found(interpreter: &str, distribution: &str, cx: &Context<'_>) -> Result<Vec<Found>, StepError> {
    let distribution = plain(distribution);
    let file = cx.host.which(interpreter).unwrap_or_else(|| interpreter.into());
    let known = |listing: &Listing| {
        listing.still_tells(&file, &distribution, cx.host).then(|| listing.of(&distribution))
    };
    if let Some(found) = cx.memory.listing(known) {
        return Ok(found);
    }
    let mut distributions = of_steps_to_come(cx);
    distributions.insert(distribution.clone());
    let next = format!(
        "see why {interpreter} on the node can't list its distributions in the agent's environment, then retry"
    );
    let words = [interpreter, "-c", LIST].into_iter().chain(distributions.iter().map(String::as_str));
    let began = cx.host.now();
    let exit = cx.host.run(&Command::new(words)).map_err(|error| failed(&error, &next))?;
    if exit.code != 0 {
        let what = format!("{interpreter} can't tell whether {distribution} is there");
        return Err(exit_failed(what, &exit, next));
    }
    let listing = Listing::read(&exit, &file, distributions, began, cx.host);
    let found = listing.of(&distribution);
    if listing.is_of_one_moment() {
        cx.memory.was_listed(listing);
    }
    Ok(found)
}

/// What later steps of the task will ask for.
fn of_steps_to_come(cx: &Context<'_>) -> BTreeSet<String> {
    let of = |work: &Work| match work {
        Work::Run { action: Action::PipUninstall(action), .. } => Some(plain(&action.distribution)),
        Work::Run { action: Action::PythonInstallArchive(action), .. } => Some(plain(&action.distribution)),
        Work::Run { .. } | Work::Skip { .. } => None,
    };
    cx.to_come.iter().filter_map(|step| of(&step.work)).collect()
}

/// A distribution's name in the one form in which names are compared (packaging.python.org, "Names and normalization").
fn plain(name: &str) -> String {
    let mut plain = String::new();
    for letter in name.chars() {
        match letter {
            '-' | '_' | '.' if plain.ends_with('-') => {}
            '-' | '_' | '.' => plain.push('-'),
            letter => plain.extend(letter.to_lowercase()),
        }
    }
    plain
}

#[cfg(test)]
mod tests;
