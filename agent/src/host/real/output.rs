//! Output of a program, kept within a limit: its beginning and its end, the middle cut out.

use std::collections::VecDeque;

/// Bytes that were written, bounded.
#[derive(Debug, Default)]
pub(super) struct Bounded {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: usize,
    limit: usize,
}

impl Bounded {
    /// Keeps at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Takes more of the output.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (half, rest) = (self.limit / 2, self.limit - self.limit / 2);
        let room = half.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend(&bytes[room..]);
        let too_many = self.tail.len().saturating_sub(rest);
        self.tail.drain(..too_many);
        self.left_out += too_many;
    }

    /// What was kept, with a line that says how much was cut out.
    pub(super) fn text(&self) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.left_out == 0 {
            return String::from_utf8_lossy(&[self.head.as_slice(), tail.as_slice()].concat()).into_owned();
        }
        let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&tail));
        format!("{head}\n[{} bytes left out]\n{tail}", self.left_out)
    }
}

/// Cuts bytes that come in pieces into lines without their line end.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Takes more bytes and passes on the lines that are complete.
    pub(super) fn push(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        self.0.extend_from_slice(bytes);
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            on_line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        }
    }

    /// Passes on a last line that had no end.
    pub(super) fn finish(&mut self, on_line: &mut dyn FnMut(&str)) {
        if !self.0.is_empty() {
            on_line(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_middle_is_cut_out() {
        let mut kept = Bounded::new(10);
        kept.push(b"0123456");
        assert_eq!(kept.text(), "0123456");
        kept.push(b"789abcdef");
        assert_eq!(kept.text(), "01234\n[6 bytes left out]\nbcdef");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_within_the_limit(pieces in proptest::collection::vec("[a-z\n]{0,9}", 0..9)) {
            let whole = pieces.concat();
            let mut kept = Bounded::new(200);
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for piece in &pieces {
                kept.push(piece.as_bytes());
                lines.push(piece.as_bytes(), &mut |line| seen.push(line.to_owned()));
            }
            lines.finish(&mut |line| seen.push(line.to_owned()));
            prop_assert_eq!(kept.text(), whole.clone());
            prop_assert_eq!(seen, whole.lines().map(str::to_owned).collect::<Vec<_>>());
        }
    }
}
