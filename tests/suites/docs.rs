//! docs/procedure.md against the procedure and the tests it names: every step has its line, every line its step, its evidence
//! and tests that exist.

// All of this is test code, also where it is not in a #[test] itself.
#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use wavegate_common::procedure::{Procedure, shipped};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cells of every row of every table but headings and rules, with the number of the line.
fn rows(text: &str) -> Vec<(usize, Vec<&str>)> {
    let lines: Vec<&str> = text.lines().collect();
    let rule = |line: &str| line.starts_with("|---");
    let is_row = |at: &usize| {
        let heading = lines.get(at + 1).is_some_and(|next| rule(next));
        lines[*at].starts_with('|') && !rule(lines[*at]) && !heading
    };
    (0..lines.len())
        .filter(is_row)
        .map(|at| (at + 1, lines[at].trim_matches('|').split(" | ").map(str::trim).collect()))
        .collect()
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Every test of the sources.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut directories: Vec<PathBuf> =
        ["common", "proto", "agent", "coordinator", "tests"].map(|name| root().join(name)).into();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.extend(tests_of(&std::fs::read_to_string(&path).expect("a source")));
            }
        }
    }
    found
}

/// The functions of a source that have `#[test]`, or another attribute that ends so, above them.
fn tests_of(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        } else if !line.starts_with("//") {
            let name = line.trim_start_matches("async ").strip_prefix("fn ");
            let name = name.and_then(|rest| rest.split(['(', '<']).next());
            found.extend(name.filter(|_| is_test).map(str::to_owned));
            is_test = false;
        }
    }
    found
}

fn document() -> String {
    std::fs::read_to_string(root().join("docs/procedure.md")).expect("the document")
}

#[test]
fn no_cell_is_empty_and_every_test_that_is_named_exists() {
    let text = document();
    let tests_there = tests();
    let mut wrong = Vec::new();
    for (line, cells) in rows(&text) {
        if cells.iter().any(|cell| cell.is_empty()) {
            wrong.push(format!("line {line}: an empty cell"));
        }
        let tests = match cells.len() {
            // page, step, evidence, tests, where; or: page, here, tests.
            5 => cells[3],
            3 => cells[2],
            2 => continue,
            other => {
                wrong.push(format!("line {line}: {other} cells"));
                continue;
            }
        };
        if quoted(tests).next().is_none() {
            wrong.push(format!("line {line}: no test"));
        }
        let unknown = quoted(tests).filter(|name| !tests_there.contains(*name));
        wrong.extend(unknown.map(|name| format!("line {line}: there is no test {name}")));
    }
    assert!(wrong.is_empty(), "docs/procedure.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_step_of_the_procedure_has_its_line_and_no_other_is_named() {
    let (file, text) = shipped("calico-openstack").expect("it ships");
    let procedure = Procedure::parse(file, text).expect("it is right");
    let steps: BTreeSet<String> = procedure
        .stages
        .iter()
        .flat_map(|stage| stage.steps.iter().map(move |step| format!("{}/{}", stage.stage, step.id)))
        .collect();
    let document = document();
    let mut named = BTreeSet::new();
    for (_, cells) in rows(&document).iter().filter(|(_, cells)| cells.len() == 5) {
        for stage in ["etcd", "compute", "control"] {
            let start = format!("{stage}/`");
            let places = cells[1].split(&start).skip(1);
            named.extend(places.filter_map(|rest| Some(format!("{stage}/{}", rest.split('`').next()?))));
        }
    }
    let difference = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
        one.difference(other).cloned().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(difference(&steps, &named), "", "steps without a line in docs/procedure.md");
    assert_eq!(
        difference(&named, &steps),
        "",
        "docs/procedure.md names steps that the procedure does not have"
    );
}
