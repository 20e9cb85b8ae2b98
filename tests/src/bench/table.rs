//! The table that `make bench` prints.

use super::row::{Limit, Row, Value};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// A line a row: what, a column a size of the fleet, the target, whether it is met, the note.
#[must_use]
pub fn table(rows: &[Row]) -> Table {
    let mut sizes: Vec<u32> =
        rows.iter().flat_map(|row| &row.values).filter_map(|value| value.nodes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let columns = sizes.iter().map(|nodes| format!("{nodes} NODES"));
    let header = ["WHAT".to_owned()].into_iter().chain(columns);
    table.set_header(header.chain(["ANY", "TARGET", "MET", "NOTE"].map(str::to_owned)));
    for row in rows {
        let of = |nodes: Option<u32>| row.values.iter().find(|value| value.nodes == nodes).map(shown);
        let values = sizes.iter().map(|nodes| of(Some(*nodes)).unwrap_or_default());
        let what =
            if row.unit.is_empty() { row.what.clone() } else { format!("{} ({})", row.what, row.unit) };
        let met = match row.met() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let limit = row.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        let end = [of(None).unwrap_or_default(), limit, met.to_owned(), row.note.clone()];
        table.add_row([what].into_iter().chain(values).chain(end));
    }
    table
}

/// Whether every row that has a target meets it.
#[must_use]
pub fn all_met(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.met() != Some(false))
}

fn shown(value: &Value) -> String {
    number(value.value)
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || size.fract() == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.01 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {}", number(*most)),
            Self::Below(end) => write!(f, "< {}", number(*end)),
            Self::Exactly(wanted) => write!(f, "= {}", number(*wanted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_column_a_size_and_says_what_is_not_met() {
        let rows = [
            Row::new("memory a node", "KiB", Some(Limit::AtMost(24.0))).at(100, 90.25).at(10_000, 21.5),
            Row::new("writes of an idle fleet", "", Some(Limit::Exactly(0.0))).at(10_000, 3.0),
            Row::new("an upgrade against the shell's", "", Some(Limit::AtMost(1.05))).value(1.021).note("n"),
        ];
        let lines = table(&rows).to_string();
        let words: Vec<Vec<&str>> = lines.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0].join(" "), "WHAT 100 NODES 10000 NODES ANY TARGET MET NOTE");
        assert_eq!(words[1].join(" "), "memory a node (KiB) 90.2 21.5 <= 24 yes");
        assert_eq!(words[2].join(" "), "writes of an idle fleet 3 = 0 NO");
        assert_eq!(words[3].join(" "), "an upgrade against the shell's 1.02 <= 1.05 yes n");
        assert!(!all_met(&rows));
    }
}
