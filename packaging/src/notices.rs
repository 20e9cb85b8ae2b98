//! The third-party notices of a package: every crate in its programs, and every licence text once.

use crate::dependencies::Crate;
use crate::licences;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the programs contain beside crates, with licence and copyright.
const TOOLCHAIN: &[(&str, &str, &str)] = &[
    (
        "The Rust standard library, and crates in it that rust-standard-library.html.gz beside this lists",
        "MIT OR Apache-2.0",
        "Copyright (c) The Rust Project Contributors",
    ),
    ("libunwind of LLVM", "Apache-2.0 WITH LLVM-exception", "Copyright (c) the LLVM project's contributors"),
    ("compiler_rt of zig", "MIT", "Copyright (c) Zig contributors"),
];

/// What every program of a system with glibc begins with.
const START_FILES: &str = "Start files of the GNU C Library: LGPL-2.1-or-later; linking with them restricts no program. \
                           Copyright (c) Free Software Foundation, Inc.";

/// The texts of licences whose words are the same for everybody who uses them.
const STANDARD: &[(&str, &str)] = &[
    ("MIT", include_str!("../licences/MIT")),
    ("Apache-2.0", include_str!("../../LICENSE")),
    ("LLVM-exception", include_str!("../licences/LLVM-exception")),
];

const RULE: &str = "------------------------------------------------------------------------------";

/// The notices of a package with these crates.
///
/// # Errors
///
/// When a crate's files can't be read, or it has no licence text and names none that is known here.
pub fn text(package: &str, crates: &[Crate]) -> Result<String> {
    let mut listed = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in crates {
        let Crate { name, version, .. } = one;
        let expression = one.license.as_deref().unwrap_or("no licence in its manifest; see its text below");
        writeln!(listed, "  {name} {version}: {expression}")?;
        for (path, text) in of_crate(one)? {
            texts.entry(evened(&text)).or_default().push(format!("{name} {version} ({path})"));
        }
    }
    for (name, expression, copyright) in TOOLCHAIN {
        writeln!(listed, "  {name}: {expression}. {copyright}")?;
        for (path, text) in standard(expression)? {
            texts.entry(evened(text)).or_default().push(format!("{name} ({path})"));
        }
    }
    writeln!(listed, "  {START_FILES}")?;
    let mut notices = format!(
        "The programs of {package} contain the following software of others. Below the list is the text of every licence\n\
         that it came with, once, under the names of all that came with it.\n\n{listed}"
    );
    // By whose they are, not by how they begin: a reader looks for a name.
    let mut texts: Vec<(Vec<String>, String)> =
        texts.into_iter().map(|(text, whose)| (whose, text)).collect();
    texts.sort();
    for (whose, text) in texts {
        write!(notices, "\n{RULE}\n{}\n\n{text}\n", whose.join("\n"))?;
    }
    Ok(notices)
}

/// The texts that a crate has, or those that its manifest's expression stands for.
fn of_crate(one: &Crate) -> Result<Vec<(String, String)>> {
    let directory = one.manifest_path.parent().with_context(|| format!("no directory of {}", one.name))?;
    let own = licences::texts(directory)?;
    if !own.is_empty() {
        return Ok(own);
    }
    let expression = one.license.as_deref().unwrap_or_default();
    let texts =
        standard(expression).with_context(|| format!("{} {} has no licence text", one.name, one.version))?;
    let named = |(id, text): (&str, &str)| {
        (format!("it has no text of its own; {id} as everybody has it"), text.to_owned())
    };
    Ok(texts.into_iter().map(named).collect())
}

/// The standard texts for an SPDX expression.
fn standard(expression: &str) -> Result<Vec<(&'static str, &'static str)>> {
    let words = expression.split(|letter: char| letter.is_whitespace() || "()/".contains(letter));
    let mut texts = Vec::new();
    for id in words.filter(|word| !["", "OR", "AND", "WITH"].contains(word)) {
        match STANDARD.iter().find(|(known, _)| *known == id) {
            Some(found) => texts.push(*found),
            None => bail!(
                "the text of licence '{id}' is not known here: add it to packaging/licences and to notices.rs"
            ),
        }
    }
    if texts.is_empty() {
        bail!("no licence is named");
    }
    Ok(texts)
}

/// The same text is written with different line ends and edges.
fn evened(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn sample(directory: &Path, name: &str, license: &str, files: &[(&str, &str)]) -> Crate {
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        for (file, text) in files {
            crate::write(&directory.join(file), text).expect("a file");
        }
        let manifest = directory.join("Cargo.toml");
        let json = serde_json::json!({
            "name": name, "version": "1.0.0", "license": license, "manifest_path": manifest, "source": "registry"
        });
        serde_json::from_value(json).expect("a crate")
    }

    #[test]
    fn a_text_that_two_crates_share_is_there_once_and_none_is_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let crates = [
            sample(directory.path(), "alpha", "ISC", &[("LICENSE", "Do as you like.\r\n")]),
            sample(
                directory.path(),
                "beta",
                "ISC",
                &[("COPYING", "\nDo as you like.\n"), ("NOTICE", "By beta.")],
            ),
            sample(directory.path(), "gamma", "MIT", &[]),
        ];
        let notices = text("wavegate-x", &crates).expect("notices");
        assert_eq!(notices.matches("Do as you like.").count(), 1);
        assert!(
            notices.contains("alpha 1.0.0 (LICENSE)\nbeta 1.0.0 (COPYING)\n\nDo as you like.\n"),
            "{notices}"
        );
        assert!(notices.contains("beta 1.0.0 (NOTICE)\n\nBy beta.\n"), "{notices}");
        assert!(
            notices.contains("gamma 1.0.0 (it has no text of its own; MIT as everybody has it)"),
            "{notices}"
        );
        assert!(
            notices.contains("rust-standard-library.html.gz beside this lists: MIT OR Apache-2.0"),
            "{notices}"
        );
    }

    #[test]
    fn a_crate_without_any_text_fails_the_build() {
        let directory = tempfile::tempdir().expect("a directory");
        let crates = [sample(directory.path(), "delta", "EUPL-1.2", &[])];
        let error = format!("{:#}", text("wavegate-x", &crates).expect_err("no text"));
        insta::assert_snapshot!(error, @"delta 1.0.0 has no licence text: the text of licence 'EUPL-1.2' is not known here: add it to packaging/licences and to notices.rs");
    }
}
