//! The crates that each package's programs are made of, as cargo resolves them for the target: none that only builds need.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the packages are built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// One crate of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What its manifest says of its licence, an SPDX expression.
    pub license: Option<String>,
    /// Its manifest, in the directory with its files.
    pub manifest_path: PathBuf,
    /// Where it comes from; `None` for one of the workspace.
    source: Option<String>,
}

/// The crates of every package.
#[derive(Debug)]
pub struct Closure {
    by_package: BTreeMap<String, Vec<Crate>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

impl Closure {
    /// Asks cargo.
    ///
    /// # Errors
    ///
    /// When cargo fails, or its answers don't fit together.
    pub fn of_workspace(workspace: &Path) -> Result<Self> {
        let metadata = cargo(
            workspace,
            &["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET],
        )?;
        let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
        // Both together, as they are built: features are those that either asks for.
        let mut arguments = vec!["tree", "--locked", "--target", TARGET, "--edges", "normal,no-proc-macro"];
        arguments.extend(["--no-dedupe", "--prefix", "depth", "--format", " {p}"]);
        for package in crate::programs::PACKAGES {
            arguments.extend(["--package", package]);
        }
        let by_package = read(&cargo(workspace, &arguments)?, metadata.packages)?;
        Ok(Self { by_package })
    }

    /// The crates of one package, by name.
    ///
    /// # Errors
    ///
    /// When cargo did not name the package.
    pub fn of(&self, package: &str) -> Result<&[Crate]> {
        self.by_package
            .get(package)
            .map(Vec::as_slice)
            .with_context(|| format!("cargo tree does not name {package}"))
    }
}

/// The lines of `cargo tree`: depth, name and version; a package is what stands at depth 0.
fn read(tree: &str, crates: Vec<Crate>) -> Result<BTreeMap<String, Vec<Crate>>> {
    let known: BTreeMap<(String, String), Crate> =
        crates.into_iter().map(|one| ((one.name.clone(), one.version.clone()), one)).collect();
    let mut names: BTreeMap<String, BTreeSet<Crate>> = BTreeMap::new();
    let mut package = None;
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name), Some(version)) = (words.next(), words.next(), words.next()) else {
            bail!("cargo tree printed a line that is not understood: '{line}'");
        };
        if depth == "0" {
            package = Some(names.entry(name.to_owned()).or_default());
        }
        let key = (name.to_owned(), version.trim_start_matches('v').to_owned());
        let found =
            known.get(&key).with_context(|| format!("cargo metadata does not know {name} {version}"))?;
        let Some(package) = &mut package else {
            bail!("cargo tree begins with '{line}', which is no package")
        };
        if found.source.is_some() {
            package.insert(found.clone());
        }
    }
    Ok(names.into_iter().map(|(name, crates)| (name, crates.into_iter().collect())).collect())
}

fn cargo(workspace: &Path, arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(workspace)
        .output()
        .with_context(|| format!("cannot run cargo {}", arguments.join(" ")))?;
    if !output.status.success() {
        bail!("cargo {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("cargo printed something that is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn a_package_has_what_is_linked_into_it_and_nothing_that_only_builds() {
        let closure = Closure::of_workspace(&workspace()).expect("the crates");
        let names = |package| -> BTreeSet<&str> {
            closure.of(package).expect("a package").iter().map(|one| one.name.as_str()).collect()
        };
        let (agent, coordinator) = (names("wavegate-agent"), names("wavegate-coordinator"));
        for name in ["ring", "rustls", "tokio", "tonic"] {
            assert!(agent.contains(name) && coordinator.contains(name), "{name}");
        }
        assert!(coordinator.contains("redb") && !agent.contains("redb"));
        for name in ["wavegate-common", "serde_derive", "protox", "insta", "proptest", "windows-sys"] {
            assert!(!agent.contains(name) && !coordinator.contains(name), "{name}");
        }
    }

    #[test]
    fn a_line_of_no_known_crate_is_refused() {
        let error = read("0 wavegate-agent v0.1.0\n", Vec::new()).expect_err("unknown").to_string();
        assert_eq!(error, "cargo metadata does not know wavegate-agent v0.1.0");
    }
}
