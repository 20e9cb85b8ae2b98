//! Python on a node: its interpreters, and which copies of a distribution they find, in the order they find them.

use super::{Context, exit_failed, failed};
use crate::host::Command;
use std::path::{Path, PathBuf};
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

/// Prints version and metadata path of every copy on `sys.path`, the one that counts first. `importlib.metadata` is
/// there from Python 3.8; an older Python may lack even setuptools, so that the names of metadata directories and of
/// eggs are read as packaging.python.org describes them ("Recording installed projects", "Python eggs").
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
            yield d.metadata['Name'], d.version, str(d._path)
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
for name, version, path in installed():
    if plain(name) == plain(sys.argv[1]):
        sys.stdout.write(version + '\\t' + path + '\\n')
";

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

/// The copies of a distribution that an interpreter finds.
///
/// # Errors
/// [`StepError`] if the interpreter can't tell, or the package database can't.
pub(super) fn copies(
    interpreter: &str,
    distribution: &str,
    cx: &Context<'_>,
) -> Result<Vec<Copy>, StepError> {
    let next = format!(
        "see why {interpreter} on the node can't list its distributions in the agent's environment, then retry"
    );
    let command = Command::new([interpreter, "-c", LIST, distribution]);
    let exit = cx.host.run(&command).map_err(|error| failed(&error, &next))?;
    if exit.code != 0 {
        let what = format!("{interpreter} can't tell whether {distribution} is there");
        return Err(exit_failed(what, &exit, next));
    }
    let rows = exit.stdout.lines().filter_map(|line| line.split_once('\t'));
    rows.map(|(version, path)| {
        // The package database knows directories without the slash at their end.
        let path = PathBuf::from(path.trim_end_matches('/'));
        Ok(Copy { version: version.to_owned(), owner: cx.os.owner(cx.host, &path)?, path })
    })
    .collect()
}
