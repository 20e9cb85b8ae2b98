//! A line editor for ini files in oslo.config's dialect: it changes one key and leaves every other byte alone.
//!
//! The dialect, from `oslo_config/iniparser.py`: comments start with `#` or `;` in the first column and nowhere else;
//! `key = value` or `key: value`, whichever separator comes first; an indented line continues the value above it; a
//! blank line ends a value; a section may recur and a key may be repeated, of which the last counts unless the option
//! takes several values. Section names are compared without regard to case, except `DEFAULT`. No files are touched.

use std::fmt;

/// Why a file is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IniError {
    /// A line that oslo.config would refuse too, or that editors and oslo.config would read differently.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A section, key or value that can't be written so that it reads back the same.
    #[error("{what}")]
    Argument {
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What [`set`] did. Lines are counted from 1, in the new text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineChange {
    /// The key had the value already.
    Unchanged,
    /// A commented line of the key was replaced by the active one.
    Uncommented {
        /// The line.
        line: usize,
    },
    /// The key had another value.
    Replaced {
        /// The line.
        line: usize,
        /// The value before, continuation lines joined with a line end.
        from: String,
    },
    /// A line was inserted into an existing section.
    Added {
        /// The line.
        line: usize,
    },
    /// The section was appended to the file, with the key in it.
    AddedSection,
}

/// For people: what happened to the file.
impl fmt::Display for LineChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged => f.write_str("unchanged"),
            Self::Uncommented { line } => write!(f, "line {line} uncommented and set"),
            Self::Replaced { line, from } => write!(f, "line {line} set, was '{}'", from.escape_debug()),
            Self::Added { line } => write!(f, "line {line} added"),
            Self::AddedSection => f.write_str("section and key added at the end"),
        }
    }
}

/// The outcome of [`set`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The new text of the file; the old one if nothing changed.
    pub text: String,
    /// What happened.
    pub change: LineChange,
}

/// The value of a key as oslo.config reads it for an option that takes one value: the last one, without the quotes
/// around it, continuation lines joined with a line end. `None` if the key is not set.
///
/// # Errors
/// [`IniError::Line`] for a text that is not in the dialect.
pub fn get(text: &str, section: &str, key: &str) -> Result<Option<String>, IniError> {
    let document = Document::parse(text)?;
    Ok(document.active(section, key).map(|at| document.value(at)))
}

/// Sets a key of a section so that [`get`] returns the value. Changes the last active line of the key; else turns the
/// last commented line of the key in that section into the active one; else inserts a line below the section's
/// heading; else appends the section. Continuation lines of a replaced value go with it.
///
/// # Errors
/// [`IniError::Line`] for a text that is not in the dialect, [`IniError::Argument`] for a section, key or value
/// that can't be written in it.
pub fn set(text: &str, section: &str, key: &str, value: &str) -> Result<Edit, IniError> {
    check_arguments(section, key, value)?;
    let document = Document::parse(text)?;
    if let Some(at) = document.active(section, key) {
        return Ok(document.replace(at, key, value));
    }
    if let Some(at) = document.commented(section, key) {
        let text = document.with(at, 1, &assignment(key, value));
        return Ok(Edit { text, change: LineChange::Uncommented { line: at + 1 } });
    }
    if let Some(heading) = document.headings(section).next() {
        let at = document.below(heading);
        return Ok(document.insert(at, &assignment(key, value)));
    }
    Ok(document.append_section(section, &assignment(key, value)))
}

fn check_arguments(section: &str, key: &str, value: &str) -> Result<(), IniError> {
    let one_line = |text: &str| !text.contains(['\n', '\r']);
    let argument = |what| Err(IniError::Argument { what });
    if section.is_empty() || !one_line(section) || section.contains(['[', ']']) {
        return argument("a section name is one line of text without brackets");
    }
    if key.is_empty() || !one_line(key) || key.trim() != key || key.contains(['=', ':']) {
        return argument("a key is one line of text without '=', ':' and blanks at its ends");
    }
    if key.starts_with(['#', ';', '[']) {
        return argument("a key does not start with '#', ';' or '['");
    }
    if !one_line(value) || value.trim() != value {
        return argument(
            "a value is one line of text without blanks at its ends; put quotes around it to keep them",
        );
    }
    Ok(())
}

fn assignment(key: &str, value: &str) -> String {
    format!("{key} = {value}").trim_end().to_owned()
}

/// `DEFAULT` is itself; other names are the same in any case (`_normalize_group_name` of oslo.config).
fn same_section(one: &str, other: &str) -> bool {
    one == other || (one != "DEFAULT" && other != "DEFAULT" && one.to_lowercase() == other.to_lowercase())
}

/// As oslo.config does it: a value that starts and ends with the same quote loses both.
fn unquote(value: &str) -> &str {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) if value.ends_with(quote) => value.get(1..value.len() - 1).unwrap_or(""),
        _ => value,
    }
}

/// What a line is. Offsets are bytes of the line's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Blank,
    Comment,
    Heading(&'a str),
    Assignment { key: &'a str, value_at: usize },
    Continuation,
}

#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    /// Without the line end.
    body: &'a str,
    /// `\n`, `\r\n`, or empty for a last line without one.
    end: &'a str,
    kind: Kind<'a>,
}

#[derive(Debug)]
struct Document<'a> {
    lines: Vec<Line<'a>>,
}

impl<'a> Document<'a> {
    fn parse(text: &'a str) -> Result<Self, IniError> {
        let mut lines = Vec::new();
        let (mut in_section, mut in_value) = (false, false);
        for (index, raw) in text.split_inclusive('\n').enumerate() {
            let without = raw.strip_suffix('\n').unwrap_or(raw);
            let body = without.strip_suffix('\r').filter(|_| raw.len() > without.len()).unwrap_or(without);
            let kind = kind_of(body, in_value).map_err(|what| IniError::Line { line: index + 1, what })?;
            match kind {
                Kind::Heading(_) => in_section = true,
                Kind::Assignment { .. } if !in_section => {
                    return Err(IniError::Line { line: index + 1, what: "a key before the first [section]" });
                }
                Kind::Assignment { .. } | Kind::Blank | Kind::Comment | Kind::Continuation => {}
            }
            in_value = matches!(kind, Kind::Assignment { .. } | Kind::Continuation);
            lines.push(Line { body, end: &raw[body.len()..], kind });
        }
        Ok(Self { lines })
    }

    /// Indices of the headings of a section.
    fn headings(&self, section: &str) -> impl Iterator<Item = usize> {
        let is =
            move |line: &Line<'_>| matches!(line.kind, Kind::Heading(name) if same_section(name, section));
        (0..self.lines.len()).filter(move |at| is(&self.lines[*at]))
    }

    /// Indices of a section's lines, from every place where it occurs.
    fn inside(&self, section: &str) -> impl DoubleEndedIterator<Item = usize> {
        let mut indices = Vec::new();
        for heading in self.headings(section) {
            let body = (heading + 1..self.lines.len()).take_while(|at| !self.is_heading(*at));
            indices.extend(body);
        }
        indices.into_iter()
    }

    fn is_heading(&self, at: usize) -> bool {
        matches!(self.lines[at].kind, Kind::Heading(_))
    }

    fn active(&self, section: &str, key: &str) -> Option<usize> {
        let is =
            |at: &usize| matches!(self.lines[*at].kind, Kind::Assignment { key: found, .. } if found == key);
        self.inside(section).rev().find(is)
    }

    /// A comment that would set the key if its mark and the blanks behind it were gone. Only `=` counts as the
    /// separator here: `# key: what it is for` is prose.
    fn commented(&self, section: &str, key: &str) -> Option<usize> {
        let is = |at: &usize| {
            let line = &self.lines[*at];
            let shown = line.body.trim_start_matches(['#', ';']).trim_start();
            line.kind == Kind::Comment
                && shown.split_once('=').is_some_and(|(found, _)| found.trim_end() == key)
        };
        self.inside(section).rev().find(is)
    }

    /// Lines of the value that starts at this line, itself included.
    fn extent(&self, at: usize) -> usize {
        1 + self.lines[at + 1..].iter().take_while(|line| line.kind == Kind::Continuation).count()
    }

    fn value(&self, at: usize) -> String {
        let Kind::Assignment { value_at, .. } = self.lines[at].kind else { return String::new() };
        let first = unquote(self.lines[at].body[value_at..].trim());
        let rest = self.lines[at + 1..at + self.extent(at)].iter().map(|line| line.body.trim());
        std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n")
    }

    fn replace(&self, at: usize, key: &str, value: &str) -> Edit {
        let from = self.value(at);
        if from == unquote(value) {
            return Edit { text: self.with(at, 0, ""), change: LineChange::Unchanged };
        }
        let line = match self.lines[at].kind {
            Kind::Assignment { value_at, .. } if value_at < self.lines[at].body.trim_end().len() => {
                format!("{}{value}", &self.lines[at].body[..value_at]).trim_end().to_owned()
            }
            _ => assignment(key, value),
        };
        let text = self.with(at, self.extent(at), &line);
        Edit { text, change: LineChange::Replaced { line: at + 1, from } }
    }

    /// Where a new key of a section goes: below the comment that stands directly under the heading, unless that
    /// comment belongs to a key that follows it directly.
    fn below(&self, heading: usize) -> usize {
        let after = |at: usize| self.lines.get(at).map(|line| line.kind);
        let mut end = heading + 1;
        while after(end) == Some(Kind::Comment) {
            end += 1;
        }
        if matches!(after(end), Some(Kind::Assignment { .. })) { heading + 1 } else { end }
    }

    fn insert(&self, at: usize, line: &str) -> Edit {
        let before = &self.lines[at - 1];
        let (added, end) = (self.line_end(), before.end);
        let text = if end.is_empty() {
            // The last line had no line end, and the new last line has none either.
            format!("{}{added}{line}", self.with(at, 0, ""))
        } else {
            self.with_raw(at, 0, &format!("{line}{end}"))
        };
        Edit { text, change: LineChange::Added { line: at + 1 } }
    }

    fn append_section(&self, section: &str, line: &str) -> Edit {
        let end = self.line_end();
        let mut text = self.with(0, 0, "");
        let (terminated, blank) = match self.lines.last() {
            None => (true, true),
            Some(last) => (!last.end.is_empty(), last.kind == Kind::Blank),
        };
        if !terminated {
            text.push_str(end);
        }
        if !blank {
            text.push_str(end);
        }
        text.push_str(&format!("[{section}]{end}{line}"));
        if terminated {
            text.push_str(end);
        }
        Edit { text, change: LineChange::AddedSection }
    }

    /// The line end that new lines get: that of the file's first line.
    fn line_end(&self) -> &'a str {
        self.lines.first().map(|line| line.end).filter(|end| !end.is_empty()).unwrap_or("\n")
    }

    /// The text with `count` lines from `at` replaced by one line with the line end of the last of them; with a
    /// count of 0 the text as it was.
    fn with(&self, at: usize, count: usize, line: &str) -> String {
        if count == 0 {
            return self.with_raw(at, 0, "");
        }
        self.with_raw(at, count, &format!("{line}{}", self.lines[at + count - 1].end))
    }

    fn with_raw(&self, at: usize, count: usize, raw: &str) -> String {
        let print =
            |lines: &[Line<'_>]| lines.iter().flat_map(|line| [line.body, line.end]).collect::<String>();
        format!("{}{raw}{}", print(&self.lines[..at]), print(&self.lines[at + count..]))
    }
}

fn kind_of(body: &str, in_value: bool) -> Result<Kind<'_>, &'static str> {
    let text = body.trim_end();
    if text.contains('\r') {
        return Err("a carriage return in the middle of the line");
    }
    if text.is_empty() {
        return Ok(Kind::Blank);
    }
    if text.starts_with([' ', '\t']) {
        return if in_value {
            Ok(Kind::Continuation)
        } else {
            Err("an indented line that continues no value")
        };
    }
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.strip_suffix(']') {
            None => Err("a section heading without ']' at its end"),
            Some("") => Err("a section heading without a name"),
            Some(name) => Ok(Kind::Heading(name)),
        };
    }
    if text.starts_with(['#', ';']) {
        return Ok(Kind::Comment);
    }
    match split_assignment(text) {
        None => Err("neither a comment nor a [section] nor 'key = value'"),
        Some(("", _)) => Err("a value without a key"),
        Some((key, value_at)) => Ok(Kind::Assignment { key, value_at }),
    }
}

/// The key, and the offset at which the value starts: the text's length if there is none.
fn split_assignment(text: &str) -> Option<(&str, usize)> {
    let separator = text.find(['=', ':'])?;
    let value = text[separator + 1..].trim_start();
    Some((text[..separator].trim(), text.len() - value.len()))
}

#[cfg(test)]
mod tests;
