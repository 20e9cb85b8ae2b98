//! Output of the steps of the last task, kept in memory and bounded, so that a slow or broken link never holds the
//! runner up. It is for people: nothing depends on it. Offsets only grow, also over a restart of the agent: the
//! coordinator drops what lies before what it has.

mod file;

use file::{Heading, OutputFile};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use wavegate_common::id::StepId;
use wavegate_common::order::TaskKey;

/// Bytes kept of one task; of a task with more the earliest go first.
const KEPT: usize = 1 << 20;
/// Bytes of one piece.
const PIECE: usize = 32 << 10;
/// What is told of a step that is looked at anew, be it by another agent.
const AGAIN: &str =
    "[wavegate looks at this step again: the agent was started anew, or a record could not be written]";

/// A piece of a step's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The task.
    pub key: TaskKey,
    /// The step.
    pub step: StepId,
    /// Bytes of the step's output before this piece.
    pub offset: u64,
    /// The bytes, at most 32 KiB.
    pub data: Vec<u8>,
}

/// The last line that a step has printed, by what an agent keeps of it in its state directory; `None` if nothing is kept.
#[must_use]
pub fn last_line(state_directory: &Path, key: &TaskKey, step: &StepId) -> Option<String> {
    let (heading, text) = OutputFile::in_directory(state_directory).read()?;
    let text = (heading.key == *key && heading.step == *step).then_some(text)?;
    let lines = String::from_utf8_lossy(&text);
    lines.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// How far somebody has read. The default is the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    key: Option<TaskKey>,
    step: usize,
    offset: u64,
}

/// Output of the steps of the last task that ran.
#[derive(Debug, Default)]
pub struct Output {
    kept: Mutex<Kept>,
    grown: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    key: Option<TaskKey>,
    steps: Vec<StepOutput>,
    bytes: usize,
    /// Where the last step's output outlives the agent; `None` keeps it in memory alone.
    file: Option<OutputFile>,
}

#[derive(Debug)]
struct StepOutput {
    step: StepId,
    /// Bytes that were dropped from the beginning.
    dropped: u64,
    text: Vec<u8>,
}

impl StepOutput {
    fn end(&self) -> u64 {
        self.dropped + self.text.len() as u64
    }
}

impl Output {
    /// Output that goes on where an earlier agent of this state directory was.
    #[must_use]
    pub fn kept_in(state_directory: &Path) -> Self {
        let mut file = OutputFile::in_directory(state_directory);
        let mut kept = Kept::default();
        if let Some((Heading { key, step, dropped }, text)) = file.load() {
            kept.bytes = text.len();
            kept.key = Some(key);
            kept.steps.push(StepOutput { step, dropped, text });
        }
        kept.file = Some(file);
        kept.drop_the_earliest();
        Self { kept: Mutex::new(kept), grown: Notify::new() }
    }

    /// A step begins, maybe anew: then what it prints follows what it printed. The output of an earlier task is forgotten.
    pub fn begin(&self, key: &TaskKey, step: &StepId) {
        let mut kept = self.kept();
        if kept.key.as_ref() != Some(key) {
            let file = kept.file.take();
            *kept = Kept { key: Some(key.clone()), file, ..Kept::default() };
        }
        match kept.steps.last() {
            Some(last) if last.step == *step => {
                let printed = last.end() > 0;
                drop(kept);
                if printed {
                    self.line(AGAIN);
                }
            }
            _ => {
                kept.steps.push(StepOutput { step: step.clone(), dropped: 0, text: Vec::new() });
                kept.write_file();
            }
        }
    }

    /// A line of the step that began last.
    pub fn line(&self, line: &str) {
        let mut kept = self.kept();
        if let Some(step) = kept.steps.last_mut() {
            let line = [line.as_bytes(), b"\n"].concat();
            step.text.extend_from_slice(&line);
            kept.bytes += line.len();
            kept.drop_the_earliest();
            if let Some(file) = &mut kept.file {
                file.append(&line);
                if file.bytes > 2 * KEPT {
                    kept.write_file();
                }
            }
        }
        drop(kept);
        self.grown.notify_one();
    }

    /// The next piece for somebody who has read up to `position`, which moves on behind it; `None` at the end.
    pub fn next_piece(&self, position: &mut Position) -> Option<Piece> {
        let kept = self.kept();
        if position.key != kept.key {
            *position = Position { key: kept.key.clone(), ..Position::default() };
        }
        let key = kept.key.clone()?;
        loop {
            let step = kept.steps.get(position.step)?;
            position.offset = position.offset.max(step.dropped);
            if position.offset < step.end() {
                let offset = position.offset;
                let text = &step.text[usize::try_from(offset - step.dropped).unwrap_or(usize::MAX)..];
                let data = text[..text.len().min(PIECE)].to_vec();
                position.offset += data.len() as u64;
                return Some(Piece { key, step: step.step.clone(), offset, data });
            }
            if position.step + 1 == kept.steps.len() {
                return None;
            }
            (position.step, position.offset) = (position.step + 1, 0);
        }
    }

    /// Whether there is a piece behind `position`.
    #[must_use]
    pub fn goes_on(&self, position: &Position) -> bool {
        self.kept().behind(position) > 0
    }

    /// Whether there is as much behind `position` as one piece can take.
    #[must_use]
    pub fn has_whole_piece(&self, position: &Position) -> bool {
        self.kept().behind(position) >= PIECE as u64
    }

    /// The position behind all that there is.
    #[must_use]
    pub fn end(&self) -> Position {
        let kept = self.kept();
        let step = kept.steps.len().saturating_sub(1);
        Position { key: kept.key.clone(), step, offset: kept.steps.last().map_or(0, StepOutput::end) }
    }

    /// Comes back when there is more output than at the last call.
    pub async fn grown(&self) {
        self.grown.notified().await;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Bytes behind a position.
    fn behind(&self, position: &Position) -> u64 {
        let (at, offset) = if position.key == self.key { (position.step, position.offset) } else { (0, 0) };
        let steps = self.steps.iter().enumerate().skip(at);
        steps
            .map(|(place, step)| {
                let read = if place == at { offset.max(step.dropped) } else { step.dropped };
                step.end().saturating_sub(read)
            })
            .sum()
    }

    /// Writes what is kept of the last step into the file.
    fn write_file(&mut self) {
        if let (Some(file), Some(key), Some(last)) = (&mut self.file, &self.key, self.steps.last()) {
            let heading = Heading { key: key.clone(), step: last.step.clone(), dropped: last.dropped };
            file.write(&heading, &last.text);
        }
    }

    fn drop_the_earliest(&mut self) {
        for step in &mut self.steps {
            // A quarter more than need be goes, so that the rest is not moved at every line.
            let Some(over) = self.bytes.checked_sub(KEPT).filter(|over| *over > 0) else { return };
            let going = step.text.len().min(over + KEPT / 4);
            step.text.drain(..going);
            step.dropped += going as u64;
            self.bytes -= going;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavegate_common::id::{NodeId, PlanId, RolloutId};
    use wavegate_common::platform::Stage;

    fn key(attempt: u32) -> TaskKey {
        let (rollout, node) = (RolloutId::new("r1").expect("an id"), NodeId::new("n1").expect("a name"));
        let plan = PlanId::new("p1").expect("an id");
        TaskKey { rollout, plan, stage: Stage::Compute, node, attempt }
    }

    fn step(name: &str) -> StepId {
        StepId::new(name).expect("an id")
    }

    fn read(output: &Output, position: &mut Position) -> Vec<(String, u64, usize)> {
        let pieces = std::iter::from_fn(|| output.next_piece(position));
        pieces.map(|piece| (piece.step.to_string(), piece.offset, piece.data.len())).collect()
    }

    #[test]
    fn every_reader_gets_every_piece_in_order() {
        let output = Output::default();
        output.begin(&key(1), &step("a"));
        output.line("1234");
        let mut early = Position::default();
        assert_eq!(read(&output, &mut early), [("a".to_owned(), 0, 5)]);
        assert!(!output.goes_on(&early) && output.goes_on(&Position::default()));
        output.line("56");
        output.begin(&key(1), &step("quiet"));
        output.begin(&key(1), &step("b"));
        assert!(output.goes_on(&early) && !output.has_whole_piece(&early));
        output.line(&"x".repeat(40_000));
        assert!(output.has_whole_piece(&early));
        assert_eq!(
            read(&output, &mut early),
            [("a".to_owned(), 5, 3), ("b".to_owned(), 0, 32_768), ("b".to_owned(), 32_768, 7_233)]
        );
        let all = read(&output, &mut Position::default());
        assert_eq!(all[0], ("a".to_owned(), 0, 8));
        assert_eq!(early, output.end());
    }

    fn text(output: &Output) -> String {
        let mut position = Position::default();
        let pieces = std::iter::from_fn(|| output.next_piece(&mut position));
        pieces.map(|piece| String::from_utf8(piece.data).expect("text")).collect()
    }

    #[test]
    fn a_step_that_runs_again_goes_on_behind_what_it_printed() {
        let output = Output::default();
        let mut position = Position::default();
        output.begin(&key(1), &step("a"));
        output.line("Reading package lists");
        read(&output, &mut position);
        output.begin(&key(1), &step("a"));
        output.line("Reading package lists");
        assert_eq!(read(&output, &mut position)[0].1, 22);
        assert_eq!(text(&output), format!("Reading package lists\n{AGAIN}\nReading package lists\n"));
    }

    #[test]
    fn another_agent_goes_on_where_the_one_before_was() {
        let state = tempfile::tempdir().expect("a directory");
        let first = Output::kept_in(state.path());
        first.begin(&key(1), &step("a"));
        first.line("of an earlier step");
        first.begin(&key(1), &step("b"));
        first.line("one");
        let told = first.end();
        drop(first);
        let second = Output::kept_in(state.path());
        assert_eq!(text(&second), "one\n", "what may not have been told yet");
        second.begin(&key(1), &step("b"));
        second.line("two");
        assert_eq!(text(&second), format!("one\n{AGAIN}\ntwo\n"));
        let all = read(&second, &mut Position::default());
        assert_eq!((all[0].0.as_str(), all[0].1), ("b", 0));
        assert!(second.end().offset > told.offset);
        let last = |step_name| last_line(state.path(), &key(1), &step(step_name));
        assert_eq!(
            (last("b").as_deref(), last("a"), last_line(Path::new("/nowhere"), &key(1), &step("b"))),
            (Some("two"), None, None)
        );
        drop(second);
        let third = Output::kept_in(state.path());
        third.begin(&key(1), &step("c"));
        assert_eq!(text(&third), format!("one\n{AGAIN}\ntwo\n"), "the steps before it");
        third.begin(&key(2), &step("c"));
        third.line("anew");
        assert_eq!(text(&third), "anew\n");
        drop(third);
        std::fs::write(state.path().join("output"), "not a heading").expect("written");
        assert_eq!(text(&Output::kept_in(state.path())), "");
    }

    #[test]
    fn the_file_is_bounded_and_offsets_stay_true_over_a_restart() {
        let state = tempfile::tempdir().expect("a directory");
        let first = Output::kept_in(state.path());
        first.begin(&key(1), &step("a"));
        let line = "y".repeat(999);
        (0..2500).for_each(|_| first.line(&line));
        let end = first.end();
        drop(first);
        let size = std::fs::metadata(state.path().join("output")).expect("a file").len();
        assert!(size < 2 * KEPT as u64 + 4096, "{size}");
        let second = Output::kept_in(state.path());
        assert_eq!(second.end(), Position { step: 0, ..end });
        assert!(second.kept().bytes <= KEPT);
    }

    #[test]
    fn a_new_task_takes_the_place_of_the_old() {
        let output = Output::default();
        output.begin(&key(1), &step("a"));
        output.line("old");
        let mut position = output.end();
        output.begin(&key(2), &step("a"));
        output.line("new");
        let piece = output.next_piece(&mut position).expect("a piece");
        assert_eq!((piece.key, piece.offset, piece.data), (key(2), 0, b"new\n".to_vec()));
    }

    #[test]
    fn what_is_kept_is_bounded_and_offsets_stay_true() {
        let output = Output::default();
        output.begin(&key(1), &step("a"));
        let line = "y".repeat(999);
        (0..1500).for_each(|_| output.line(&line));
        output.begin(&key(1), &step("b"));
        (0..10).for_each(|_| output.line(&line));
        assert!(output.kept().bytes <= KEPT);
        let pieces = read(&output, &mut Position::default());
        let a: Vec<_> = pieces.iter().filter(|(step, ..)| step == "a").collect();
        assert!(a[0].1 > 0);
        assert!(a.windows(2).all(|two| two[0].1 + two[0].2 as u64 == two[1].1));
        let last = a.last().expect("a piece");
        assert_eq!(last.1 + last.2 as u64, 1_500_000);
    }
}
