//! What steps printed. Pieces may come twice; of each step a bounded beginning is kept.

use super::{Failure, Made, Store};
use crate::store::{OutputPiece, Printed, StepPlace, StoreError, rollout_number};
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use std::ops::Bound;
use wavegate_common::id::{NodeId, RolloutId};
use wavegate_common::platform::Stage;

/// Rollout, node, stage, attempt, step, offset.
type PieceKey = (u64, &'static str, u8, u32, u32, u64);

const PIECES: TableDefinition<PieceKey, &[u8]> = TableDefinition::new("output");
/// Up to where each step's output is known, as earlier versions kept it; the step's last piece tells as much.
const KNOWN_APART: TableDefinition<(u64, &str, u8, u32, u32), u64> = TableDefinition::new("output_known");

/// Bytes kept of a step's output.
pub const OUTPUT_KEPT: u64 = 1 << 20;
/// Up to where a step's output is known of which no more is kept. Its last piece is [`CUT_NOTE`], where no other begins.
const CUT: u64 = u64::MAX;
const CUT_NOTE: &[u8] = b"\n[wavegate keeps 1 MiB of a step's output; the rest was cut here]\n";

pub(super) fn create(tx: &WriteTransaction) -> Made<()> {
    tx.open_table(PIECES)?;
    tx.delete_table(KNOWN_APART)?;
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
    let mut pieces = tx.open_table(PIECES)?;
    // By their keys: of ten thousand nodes each has its output at another place, to which one goes once.
    let mut sorted: Vec<&Printed> = output.iter().collect();
    sorted.sort_by(|one, other| by_step(one).cmp(&by_step(other)));
    for of_step in sorted.chunk_by(|one, other| by_step(one) == by_step(other)) {
        put_step(&mut pieces, of_step)?;
    }
    Ok(())
}

fn by_step(printed: &Printed) -> (&RolloutId, &NodeId, &StepPlace) {
    (&printed.rollout, &printed.node, &printed.piece.place)
}

/// Keeps pieces of one step's output, in the order in which they came.
fn put_step(pieces: &mut Table<'_, PieceKey, &'static [u8]>, of_step: &[&Printed]) -> Made<()> {
    let Some(Printed { rollout, node, piece }) = of_step.first() else { return Ok(()) };
    let number = rollout_number(rollout).map_err(Failure::Refused)?;
    let StepPlace { stage, attempt, step } = piece.place;
    let key = |offset: u64| (number, node.as_str(), rank(stage), attempt, step, offset);
    let mut known_upto = match pieces.range(key(0)..=key(u64::MAX))?.next_back().transpose()? {
        Some((last, data)) => end_of(last.value().5, data.value()),
        None => 0,
    };
    for printed in of_step {
        let Some(new) = new_part(known_upto, printed.piece.offset, &printed.piece.data) else { continue };
        if !new.data.is_empty() {
            pieces.insert(key(new.offset), new.data)?;
        }
        if new.upto == CUT {
            pieces.insert(key(OUTPUT_KEPT), CUT_NOTE)?;
        }
        known_upto = new.upto;
    }
    Ok(())
}

/// Up to where a step's output is known whose last piece this is.
const fn end_of(offset: u64, data: &[u8]) -> u64 {
    if offset >= OUTPUT_KEPT { CUT } else { offset + data.len() as u64 }
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
    use crate::store::Batch;
    use redb::{ReadableDatabase, TableHandle};
    use wavegate_common::id::FleetId;

    fn printed(node: &str, step: u32, offset: u64, data: &[u8]) -> Printed {
        let (rollout, node) = (RolloutId::new("r1").expect("an id"), NodeId::new(node).expect("a name"));
        let place = StepPlace { stage: Stage::Compute, attempt: 1, step };
        Printed { rollout, node, piece: OutputPiece { place, offset, data: data.to_vec() } }
    }

    fn keep(store: &Store, output: &[Printed]) {
        store.keep(&Batch { output, ..Batch::default() }).expect("kept");
    }

    fn text(store: &Store, node: &str, step: u32) -> Vec<u8> {
        let Printed { rollout, node, piece } = printed(node, step, 0, b"");
        let pieces = store.output(&rollout, &node, None, usize::MAX).expect("output");
        pieces.into_iter().filter(|kept| kept.place == piece.place).flat_map(|kept| kept.data).collect()
    }

    #[test]
    fn what_many_nodes_print_at_once_is_kept_by_node_and_step() {
        let store = Store::in_memory(&FleetId::new("f1").expect("an id")).expect("a store");
        keep(&store, &[printed("n2", 1, 0, b"ab"), printed("n1", 0, 0, b"x"), printed("n2", 0, 0, b"1")]);
        keep(&store, &[printed("n2", 1, 1, b"bc"), printed("n1", 0, 1, b"y"), printed("n2", 1, 3, b"d")]);
        keep(&store, &[printed("n2", 0, 0, b"1"), printed("n2", 1, 0, b"ab")]);
        let texts = [("n1", 0), ("n1", 1), ("n2", 0), ("n2", 1)].map(|(node, step)| text(&store, node, step));
        assert_eq!(texts, [b"xy".to_vec(), Vec::new(), b"1".to_vec(), b"abcd".to_vec()]);
        let end = printed("n1", 1, OUTPUT_KEPT - 1, b"zz");
        keep(&store, &[end.clone(), printed("n1", 1, OUTPUT_KEPT + 1, b"zz")]);
        keep(&store, &[end, printed("n1", 1, 0, b"z")]);
        assert_eq!(text(&store, "n1", 1), [b"z", CUT_NOTE].concat(), "the rest was cut");
    }

    #[test]
    fn the_output_in_a_store_of_an_earlier_version_is_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        let earlier = super::super::builder().create(&path).expect("a database");
        let tx = earlier.begin_write().expect("a transaction");
        let mut pieces = tx.open_table(PIECES).expect("a table");
        pieces.insert((1, "n1", 1, 1, 0, 0), b"ab".as_slice()).expect("inserted");
        pieces.insert((1, "n1", 1, 1, 1, OUTPUT_KEPT), CUT_NOTE).expect("inserted");
        drop(pieces);
        let mut known = tx.open_table(KNOWN_APART).expect("a table");
        known.insert((1, "n1", 1, 1, 0), 2).expect("inserted");
        known.insert((1, "n1", 1, 1, 1), CUT).expect("inserted");
        drop(known);
        tx.commit().expect("committed");
        drop(earlier);
        let store = Store::open(&path, &FleetId::new("f1").expect("an id")).expect("a store");
        keep(&store, &[printed("n1", 0, 0, b"abc")]);
        keep(&store, &[printed("n1", 1, 5, b"more")]);
        assert_eq!(text(&store, "n1", 0), b"abc");
        assert_eq!(text(&store, "n1", 1), CUT_NOTE, "it was cut, and stays so");
        drop(store);
        let earlier = super::super::builder().open(&path).expect("a database");
        let look = earlier.begin_read().expect("a look");
        let mut tables = look.list_tables().expect("tables");
        assert!(tables.all(|table| table.name() != KNOWN_APART.name()), "it is of no more use");
    }

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
