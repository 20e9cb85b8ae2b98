//! The journal's text: a format line, then one record a line, each behind its checksum. No file is touched here.

use wavegate_common::id::Timestamp;
use wavegate_common::journal::{Journal, Record};

/// The first line of a journal, without its line end.
pub const FORMAT: &str = "wavegate-journal 1";

/// What the format line begins with, in every format.
const NAME: &str = "wavegate-journal ";

/// A journal's text, read.
#[derive(Debug, Default)]
pub struct Reading {
    /// What the records add up to.
    pub journal: Journal,
    /// Bytes up to the end of the last record that counts.
    pub length: u64,
    /// When the last step that was started was started, if that is known.
    pub started_at: Option<Timestamp>,
    /// The last line, if it does not count: it was being written when the machine or the agent stopped.
    pub torn: Option<Torn>,
}

/// A last line that was not completely written. Nothing that it says was acted upon: that waits for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Its number, from 1.
    pub line: usize,
    /// Its length in bytes.
    pub bytes: usize,
}

/// A line that can't be taken for one that was being written.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is damaged: {reason}")]
pub struct Damaged {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// A line that is as it was written, by a program that knows more than this one.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Newer {
    /// Its number, from 1.
    pub line: usize,
    /// What is not understood.
    pub what: String,
}

/// Why a journal can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is not as it was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// It was written by another version.
    #[error(transparent)]
    Newer(#[from] Newer),
}

/// A record as a line, with its line end.
///
/// # Errors
/// If the record can't be written as JSON.
pub fn line(record: &Record) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())))
}

/// Reads a whole journal.
///
/// # Errors
/// [`Damaged`] if a line before the last is not as it was written, or if the records don't fit each other; [`Newer`] if a line is as
/// it was written, and this program does not understand it.
pub fn read(text: &[u8]) -> Result<Reading, Unread> {
    let damaged = |line: usize, reason: String| Damaged { line, reason };
    let mut lines =
        text.split_inclusive(|byte| *byte == b'\n').enumerate().map(|(index, line)| (index + 1, line));
    let first = lines.next().map_or(&b""[..], |(_, line)| line);
    if first.strip_suffix(b"\n") != Some(FORMAT.as_bytes()) {
        return Err(wrong_format(first));
    }
    let mut reading = Reading { length: first.len() as u64, ..Reading::default() };
    while let Some((number, line)) = lines.next() {
        let Some(json) = json_of(line) else {
            if lines.next().is_some() {
                return Err(damaged(number, "its checksum does not match".to_owned()).into());
            }
            reading.torn = Some(Torn { line: number, bytes: line.len() });
            break;
        };
        // Whoever wrote it meant it so: its checksum is right.
        let unknown = |error| format!("this agent does not know such a record ({error})");
        let record: Record =
            serde_json::from_slice(json).map_err(|error| Newer { line: number, what: unknown(error) })?;
        reading.journal.apply(&record).map_err(|error| damaged(number, error.to_string()))?;
        if let Record::StepStarted { at, .. } = record {
            // A journal that was rewritten does not have it.
            reading.started_at = Some(at).filter(|at| *at != Timestamp::default());
        }
        reading.length += line.len() as u64;
    }
    Ok(reading)
}

/// The JSON of a line that is complete and as it was written.
fn json_of(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n")?;
    let (checksum, json) = (line.get(..8)?, line.get(8..)?.strip_prefix(b" ")?);
    (checksum == format!("{:08x}", crc32fast::hash(json)).as_bytes()).then_some(json)
}

fn wrong_format(line: &[u8]) -> Unread {
    let text = String::from_utf8_lossy(line);
    let format = text.trim_end().strip_prefix(NAME).and_then(|format| format.parse::<u32>().ok());
    match format {
        Some(format) if format > 1 => {
            Newer { line: 1, what: format!("it has format {format}, this agent reads format 1") }.into()
        }
        _ => Damaged { line: 1, reason: format!("it is not the format line {FORMAT:?}") }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wavegate_common::id::Generation;

    fn text(generations: &[u64]) -> String {
        let record =
            |g: &u64| line(&Record::Generation { generation: Generation(*g), leader: None }).expect("a line");
        format!("{FORMAT}\n{}", generations.iter().map(record).collect::<String>())
    }

    #[test]
    fn a_record_is_a_line_behind_its_checksum() {
        insta::assert_snapshot!(text(&[7]), @r#"
        wavegate-journal 1
        e29e4d73 {"record":"generation","generation":7}
        "#);
    }

    #[test]
    fn a_last_line_cut_anywhere_is_torn_and_nothing_else_is_lost() {
        let (whole, kept) = (text(&[3, 4, 5]), text(&[3, 4]));
        for cut in kept.len() + 1..whole.len() {
            let reading = read(&whole.as_bytes()[..cut]).expect("torn, not damaged");
            assert_eq!(
                (reading.journal.generation(), reading.length),
                (Generation(4), kept.len() as u64),
                "{cut}"
            );
            assert_eq!(reading.torn, Some(Torn { line: 4, bytes: cut - kept.len() }));
        }
        for cut in [kept.len(), whole.len()] {
            assert_eq!(read(&whole.as_bytes()[..cut]).expect("whole").torn, None);
        }
    }

    #[test]
    fn every_byte_of_an_earlier_line_counts() {
        let whole = text(&[3, 4, 5]);
        let last = text(&[3, 4]).len();
        // But the line end before the last line: without it the two are one last line, which counts as torn.
        for at in 0..last - 1 {
            let mut broken = whole.clone().into_bytes();
            broken[at] ^= 1;
            let damaged = read(&broken).expect_err("damaged");
            assert!(damaged.to_string().contains("is damaged"), "{at}: {damaged}");
        }
        let mut broken = whole.into_bytes();
        broken[last + 12] ^= 1;
        assert_eq!(read(&broken).expect("the last line may be torn").torn.expect("torn").line, 4);
    }

    #[test]
    fn other_formats_are_named() {
        let message = |text: &str| read(text.as_bytes()).expect_err("another format").to_string();
        insta::assert_snapshot!(message("wavegate-journal 2\nx"), @"line 1: it has format 2, this agent reads format 1");
        insta::assert_snapshot!(message("wavegate-journal 0\nx"), @r#"line 1 is damaged: it is not the format line "wavegate-journal 1""#);
        insta::assert_snapshot!(message(""), @r#"line 1 is damaged: it is not the format line "wavegate-journal 1""#);
        let unknown = "{\"record\":\"new\"}";
        let text = format!("{FORMAT}\n{:08x} {unknown}\n", crc32fast::hash(unknown.as_bytes()));
        assert!(message(&text).contains("line 2: this agent does not know such a record"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>(), tail in any::<Vec<u8>>()) {
            let _ = read(&bytes);
            let _ = read(&[format!("{FORMAT}\n").into_bytes(), tail].concat());
        }
    }
}
