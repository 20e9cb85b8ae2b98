//! Documents as text for people: pure functions, each with its golden texts. What is written where is `output`'s.

pub mod changes;
pub mod events;
pub mod exceptions;
pub mod history;
pub mod inventory;
pub mod node;
pub mod nodes;
pub mod plan;
pub mod procedure;
pub mod progress;
pub mod roll;
pub mod status;
pub mod summary;
pub mod time;
pub mod tokens;
pub mod waiting;

#[cfg(test)]
pub(in crate::cli) mod samples;

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use jiff::tz::TimeZone;
use wavegate_common::outcome::{Change, Outcome};
use wavegate_common::rollout::{PauseReason, StageState, Status, TaskState};

/// Columns of names: a name that is broken in two can't be copied.
const WHOLE: [&str; 7] = ["STAGE", "NODE", "STEP", "PROCEDURE", "PLAN", "MADE", "TOKEN"];

/// Names that are shown of a list of nodes.
const NAMES: usize = 20;

/// How output looks.
#[derive(Debug, Clone)]
pub struct Look {
    /// Whether it has colours.
    pub colour: bool,
    /// Columns that it may take.
    pub width: usize,
    /// The zone that moments are shown in.
    pub zone: TimeZone,
}

/// What a word tells at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// A heading.
    Heading,
    /// All is well.
    Good,
    /// Something goes on.
    Busy,
    /// An operator should look.
    Bad,
    /// Of little interest.
    Faint,
}

impl Look {
    /// A word in its tone.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "1;31",
            Tone::Faint => "2",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A table without borders, columns two blanks apart.
    fn table(&self, header: &[&str]) -> Table {
        let mut table = self.bare_table();
        table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        for (name, column) in header.iter().zip(table.column_iter_mut()) {
            if WHOLE.contains(name) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table
    }

    fn bare_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(self.width).unwrap_or(u16::MAX)).force_no_tty();
        if self.colour {
            table.enforce_styling();
        }
        table
    }

    /// A table as text: `indent` blanks before every line, a line break after the last.
    fn lay_out(&self, mut table: Table, indent: u16) -> String {
        if table.is_empty() {
            return String::new();
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((if index == 0 { indent } else { 0 }, 2));
        }
        let lines = table.trim_fmt();
        format!("{lines}\n")
    }

    /// A paragraph, wrapped and indented.
    fn paragraph(&self, text: &str, indent: u16) -> String {
        let mut table = self.bare_table();
        table.add_row([text]);
        self.lay_out(table, indent)
    }

    /// Paragraphs behind words: `    to do:  start it`.
    fn labelled(&self, rows: &[(&str, &str)], indent: u16) -> String {
        let mut table = self.bare_table();
        table.add_rows(rows.iter().map(|(label, text)| [*label, *text]));
        self.lay_out(table, indent)
    }
}

/// A cell in its tone.
fn cell(tone: Tone, text: impl ToString) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Heading => cell.add_attribute(Attribute::Bold),
        Tone::Good => cell.fg(Color::Green),
        Tone::Busy => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
    }
}

const fn tone_of_task(state: TaskState) -> Tone {
    match state {
        TaskState::Scheduled | TaskState::Canceled => Tone::Faint,
        TaskState::Preparing | TaskState::Applying => Tone::Busy,
        TaskState::Finished => Tone::Good,
        TaskState::Failed | TaskState::Unknown | TaskState::Waived => Tone::Bad,
    }
}

const fn tone_of_stage(state: StageState) -> Tone {
    match state {
        StageState::Unstarted => Tone::Faint,
        StageState::Canary | StageState::Active => Tone::Busy,
        StageState::Done => Tone::Good,
        StageState::Error | StageState::Stopped => Tone::Bad,
    }
}

const fn tone_of_status(status: Status) -> Tone {
    match status {
        Status::Ready => Tone::Plain,
        Status::Running => Tone::Busy,
        Status::Paused | Status::Stopping | Status::Stopped => Tone::Bad,
        Status::Finished => Tone::Good,
    }
}

const fn tone_of_outcome(outcome: &Outcome) -> Tone {
    match outcome {
        Outcome::Changed { .. } => Tone::Good,
        Outcome::AlreadySo { .. } | Outcome::Skipped { .. } => Tone::Faint,
        Outcome::Failed { .. } => Tone::Bad,
    }
}

/// A change, said without dashes for what is not there: a list of changes has enough of them.
fn change_text(change: &Change) -> String {
    match change {
        Change::Package { name, from: None, to: Some(to) } => format!("{name} not installed -> {to}"),
        Change::Package { name, from: Some(from), to: None } => format!("{name} {from} -> removed"),
        Change::Package { .. }
        | Change::Version { .. }
        | Change::Service { .. }
        | Change::Process { .. }
        | Change::File { .. } => change.to_string(),
    }
}

/// Why a rollout is paused.
fn pause_text(reason: &PauseReason) -> String {
    match reason {
        PauseReason::Operator { by } => format!("paused by {by}"),
        PauseReason::ErrorThreshold { stage, failed, allowed } => {
            format!("halted: {failed} failed in stage {stage}, {allowed} allowed")
        }
    }
}

/// `1 node`, `3 nodes`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Names with commas between them; of very many the first, and how many more.
fn few<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.len().checked_sub(NAMES) {
        Some(more @ 1..) => format!("{} and {more} more", names[..NAMES].join(", ")),
        _ => names.join(", "),
    }
}

/// A text cut to a number of columns, the cut shown.
#[must_use]
pub fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_colours_where_none_are_wanted() {
        let look = samples::look();
        assert_eq!(look.paint(Tone::Bad, "failed"), "failed");
        let mut table = look.table(&["STATE"]);
        table.add_row([cell(Tone::Bad, "failed")]);
        assert_eq!(look.lay_out(table, 2), "  STATE\n  failed\n");
        let look = Look { colour: true, ..look };
        assert_eq!(look.paint(Tone::Bad, "failed"), "\u{1b}[1;31mfailed\u{1b}[0m");
        let mut table = look.table(&["STATE"]);
        table.add_row([cell(Tone::Bad, "failed")]);
        assert!(look.lay_out(table, 2).contains("\u{1b}["));
    }

    #[test]
    fn long_texts_are_cut_visibly() {
        assert_eq!(cut("compute-1", 9), "compute-1");
        assert_eq!(cut("compute-1 waits", 10), "compute-1…");
        assert_eq!(cut("ääää", 3), "ää…");
    }
}
