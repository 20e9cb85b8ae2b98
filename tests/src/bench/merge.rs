//! Rows of several runs in one table: the same row of fleets of different sizes is one row.

use super::row::{Limit, Row};

/// Puts rows together, in the order in which each is first seen. Of limits and notes the last ones count: those of the largest
/// fleet, if `runs` begin with the smallest.
#[must_use]
pub fn merged(runs: impl IntoIterator<Item = Vec<Row>>) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    for row in runs.into_iter().flatten() {
        match all.iter_mut().find(|known| known.what == row.what && known.unit == row.unit) {
            Some(known) => {
                known.values.extend(row.values);
                (known.limit, known.note) = (row.limit, row.note);
            }
            None => all.push(row),
        }
    }
    all
}

/// How the value of a row grows from the smallest fleet to the largest, as a ratio; `None` with fewer than two sizes.
#[must_use]
pub fn growth(row: &Row, limit: Limit) -> Option<Row> {
    let ([first, ..], [_, .., last]) = (row.values.as_slice(), row.values.as_slice()) else { return None };
    let (from, to) = (first.nodes?, last.nodes?);
    Some(
        Row::new(format!("growth of: {}", row.what), "", Some(limit))
            .value(last.value / first.value)
            .note(format!("from {from} to {to} nodes")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_fleets_of_all_sizes_are_one_row() {
        let run = |nodes, value| {
            vec![Row::new("a", "s", Some(Limit::AtMost(2.0))).at(nodes, value).note(format!("of {nodes}"))]
        };
        let all = merged([run(100, 1.0), vec![Row::new("b", "", None).value(3.0)], run(10_000, 1.5)]);
        let row = Row::new("a", "s", Some(Limit::AtMost(2.0))).at(100, 1.0).at(10_000, 1.5).note("of 10000");
        assert_eq!(all, [row.clone(), Row::new("b", "", None).value(3.0)]);
        let grown = growth(&row, Limit::Below(1.2)).expect("two sizes");
        assert_eq!(
            (grown.values[0].value, grown.met(), grown.note.as_str()),
            (1.5, Some(false), "from 100 to 10000 nodes")
        );
        assert_eq!(growth(&run(100, 1.0)[0], Limit::Below(1.2)), None);
    }
}
