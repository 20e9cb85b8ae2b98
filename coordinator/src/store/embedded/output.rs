//! What steps printed. Pieces may come twice; of each step a bounded beginning is kept.

use super::{Failure, Made, Store};
use crate::store::{OutputPiece, Printed, StepPlace, StoreError, rollout_number};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use std::ops::Bound;
use wavegate_common::id::{NodeId, RolloutId};
use wavegate_common::platform::Stage;

/// Rollout, node, stage, attempt, step, offset.
type PieceKey = (u64, &'static str, u8, u32, u32, u64);
/// Rollout, node, stage, attempt, step.
type StepKey = (u64, &'static str, u8, u32, u32);

const PIECES: TableDefinition<PieceKey, &[u8]> = TableDefinition::new("output");
/// Up to which offset a step's output is known; [`CUT`] when no more of it is kept.
const KNOWN: TableDefinition<StepKey, u64> = TableDefinition::new("output_known");

/// Bytes kept of a step's output.
pub const OUTPUT_KEPT: u64 = 1 << 20;
const CUT: u64 = u64::MAX;
const CUT_NOTE: &[u8] = b"\n[wavegate keeps 1 MiB of a step's output; the rest was cut here]\n";

pub(super) fn create(tx: &WriteTransaction) -> Made<()> {
    tx.open_table(PIECES)?;
    tx.open_table(KNOWN)?;
    Ok(())
}

impl Store {
    /// What steps on a node printed, in order, from behind a piece on; pieces of about `limit` bytes in all.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn output(
        &self,
        rollout: &RolloutId,
        node: &NodeId,
        after: Option<&(StepPlace, u64)>,
        limit: usize,
    ) -> Result<Vec<OutputPiece>, StoreError> {
        let number = rollout_number(rollout)?;
        let node = node.as_str();
        let first = match after {
            None => Bound::Included((number, node, 0, 0, 0, 0)),
            Some((place, offset)) => {
                Bound::Excluded((number, node, rank(place.stage), place.attempt, place.step, *offset))
            }
        };
        let last = Bound::Included((number, node, u8::MAX, u32::MAX, u32::MAX, u64::MAX));
        self.read(|tx| {
            let pieces = tx.open_table(PIECES)?;
            let (mut found, mut size) = (Vec::new(), 0);
            for row in pieces.range::<PieceKeyOf<'_>>((first, last))? {
                let (key, data) = row?;
                let (_, _, stage, attempt, step, offset) = key.value();
                let Some(stage) = Stage::ALL.get(usize::from(stage)).copied() else { continue };
                size += data.value().len();
                let place = StepPlace { stage, attempt, step };
                found.push(OutputPiece { place, offset, data: data.value().to_vec() });
                if size >= limit {
                    break;
                }
            }
            Ok(found)
        })
    }
}

/// Keeps pieces of output. What is known already of them is dropped.
pub(super) fn put(tx: &WriteTransaction, output: &[Printed]) -> Made<()> {
    let mut known = tx.open_table(KNOWN)?;
    let mut pieces = tx.open_table(PIECES)?;
    for Printed { rollout, node, piece } in output {
        let number = rollout_number(rollout).map_err(Failure::Refused)?;
        let StepPlace { stage, attempt, step } = piece.place;
        let (node, stage) = (node.as_str(), rank(stage));
        let upto = known.get((number, node, stage, attempt, step))?.map_or(0, |upto| upto.value());
        let Some(new) = new_part(upto, piece.offset, &piece.data) else { continue };
        if !new.data.is_empty() {
            pieces.insert((number, node, stage, attempt, step, new.offset), new.data)?;
        }
        if new.upto == CUT {
            pieces.insert((number, node, stage, attempt, step, OUTPUT_KEPT), CUT_NOTE)?;
        }
        known.insert((number, node, stage, attempt, step), new.upto)?;
    }
    Ok(())
}

type PieceKeyOf<'a> = (u64, &'a str, u8, u32, u32, u64);

fn rank(stage: Stage) -> u8 {
    match stage {
        Stage::Etcd => 0,
        Stage::Compute => 1,
        Stage::Control => 2,
    }
}

struct NewPart<'a> {
    offset: u64,
    data: &'a [u8],
    upto: u64,
}

/// What of a piece is not known yet and is to be kept; `None` if nothing is.
fn new_part(known_upto: u64, offset: u64, data: &[u8]) -> Option<NewPart<'_>> {
    if data.is_empty() || known_upto == CUT {
        return None;
    }
    let end = offset.saturating_add(data.len() as u64);
    let begin = offset.max(known_upto);
    if end <= begin {
        return None;
    }
    let kept_end = end.min(OUTPUT_KEPT);
    let range = |from: u64, to: u64| {
        let index = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
        data.get(index(from)..index(to)).unwrap_or_default()
    };
    let data = if begin < kept_end { range(begin, kept_end) } else { &[] };
    Some(NewPart { offset: begin, data, upto: if end > OUTPUT_KEPT { CUT } else { end } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(known: u64, offset: u64, data: &[u8]) -> Option<(u64, Vec<u8>, u64)> {
        new_part(known, offset, data).map(|new| (new.offset, new.data.to_vec(), new.upto))
    }

    #[test]
    fn what_is_known_is_dropped() {
        assert_eq!(part(0, 0, b"abc"), Some((0, b"abc".to_vec(), 3)));
        assert_eq!(part(3, 0, b"abc"), None, "the same again");
        assert_eq!(part(3, 1, b"bcde"), Some((3, b"de".to_vec(), 5)), "it overlaps");
        assert_eq!(part(3, 7, b"x"), Some((7, b"x".to_vec(), 8)), "a piece before it was lost");
        assert_eq!(part(3, 3, b""), None);
    }

    #[test]
    fn the_beginning_is_kept_and_the_cut_is_told_once() {
        let near = OUTPUT_KEPT - 2;
        assert_eq!(part(near, near, b"ab"), Some((near, b"ab".to_vec(), OUTPUT_KEPT)));
        assert_eq!(part(near, near, b"abc"), Some((near, b"ab".to_vec(), CUT)));
        assert_eq!(part(OUTPUT_KEPT, OUTPUT_KEPT, b"c"), Some((OUTPUT_KEPT, Vec::new(), CUT)));
        assert_eq!(part(CUT, OUTPUT_KEPT, b"c"), None);
        assert_eq!(
            part(0, u64::MAX - 1, b"abc"),
            Some((u64::MAX - 1, Vec::new(), CUT)),
            "nonsense from an agent"
        );
    }
}
