//! What is wrong in a file that people write, and where: collected, so that one look shows all of it.

use crate::platform::UnknownWord;
use crate::spelling;
use std::fmt;
use std::ops::Range;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where: `file:line:column`, both counted from 1, columns in characters; or the command line's `--set key=value`.
    pub place: String,
    /// What is wrong; what would be right.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that is wrong, in the order of the text; never empty. Displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Diagnostics {}

/// Collects what is wrong in one file.
pub(crate) struct Report<'t> {
    file: &'t str,
    text: &'t str,
    found: Vec<(usize, String)>,
}

impl<'t> Report<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, found: Vec::new() }
    }

    /// Notes that something is wrong at a span of bytes.
    pub(crate) fn add(&mut self, at: &Range<usize>, message: impl Into<String>) {
        self.found.push((at.start, message.into()));
    }

    /// How many things were found so far.
    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// What was found, in the order of the text.
    pub(crate) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.found.sort();
        self.found.dedup();
        let place = |offset: usize| {
            let (line, column) = position(self.text, offset);
            format!("{}:{line}:{column}", self.file)
        };
        self.found
            .iter()
            .map(|(at, message)| Diagnostic { place: place(*at), message: message.clone() })
            .collect()
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// `; did you mean 'x'?` for a word that is close to a known one, else `; known: ...`.
pub(crate) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if known.is_empty() {
        return "; there is none".to_owned();
    }
    match spelling::near(word, known.iter().copied()).first() {
        Some(candidate) => format!("; did you mean '{candidate}'?"),
        None => format!("; known: {}", known.join(", ")),
    }
}

/// `unknown role 'x'` with a suggestion, for a word of a closed set.
pub(crate) fn unknown_word(error: &UnknownWord) -> String {
    format!("unknown {} '{}'{}", error.what, error.text, suggestion(&error.text, error.known.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_in_characters() {
        let text = "ä = 1\nbö = x";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 3), (1, 3));
        assert_eq!(position(text, text.len()), (2, 7));
        assert_eq!(position(text, 999), (2, 7));
        assert_eq!(position("", 0), (1, 1));
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_listed() {
        let known = ["package.install", "pip.uninstall"];
        assert_eq!(suggestion("package.instal", known), "; did you mean 'package.install'?");
        assert_eq!(suggestion("run", known), "; known: package.install, pip.uninstall");
        assert_eq!(suggestion("run", []), "; there is none");
        assert_eq!(suggestion("ectd", ["etcd", "compute"]), "; did you mean 'etcd'?");
    }

    #[test]
    fn a_report_is_in_the_order_of_the_text() {
        let mut report = Report::new("site.toml", "a\nb\n");
        report.add(&(2..3), "second");
        report.add(&(0..1), "first");
        report.add(&(2..3), "second");
        let all = Diagnostics(report.into_diagnostics());
        assert_eq!(all.to_string(), "site.toml:1:1: first\nsite.toml:2:1: second");
    }
}
