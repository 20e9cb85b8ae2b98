//! An error in one line, with everything that it came from.

/// An error and its sources, outermost first: `cannot read the file: Permission denied`.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
