//! `mutants`: takes one guard after the other out of a copy of the core, and explores until that is found out.
//!
//! All mutants are in one copy, built once, and each is switched on by the environment. What a mutant is, and which one must
//! break what, is `mutants`'.

use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use wavegate_model::mutants::{MUTANTS, Mutant};

const SWITCH: &str = "//! Which mutant is in force.\n
pub(crate) fn on(number: usize) -> bool {
    static ON: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let told = || std::env::var(\"WAVEGATE_MUTANT\").ok()?.parse().ok();
    *ON.get_or_init(|| told().unwrap_or_default()) == number
}
";

fn main() -> anyhow::Result<()> {
    let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .context("find the workspace")?;
    let copy = root.join("target/mutants");
    lay_out(&root, &copy)?;
    switch_in(&copy.join("common/src"))?;
    let binary = build(&copy)?;
    let mut missed = 0;
    for (number, mutant) in (1..).zip(MUTANTS) {
        missed += usize::from(!found_out(&binary, number, mutant)?);
    }
    ensure!(missed == 0, "{missed} of {} mutants were not found out", MUTANTS.len());
    println!("{} mutants, every one found out", MUTANTS.len());
    Ok(())
}

/// A workspace of the core and the model alone.
fn lay_out(root: &Path, copy: &Path) -> anyhow::Result<()> {
    for part in ["common", "packaging", "tests"] {
        let old = copy.join(part);
        if old.exists() {
            fs::remove_dir_all(&old).with_context(|| format!("remove {}", old.display()))?;
        }
    }
    for part in [
        "common/src",
        "common/benches",
        "common/procedures",
        "common/Cargo.toml",
        "packaging/config",
        "tests/model/src",
        "tests/model/Cargo.toml",
    ] {
        copy_all(&root.join(part), &copy.join(part))?;
    }
    copy_all(&root.join("Cargo.lock"), &copy.join("Cargo.lock"))?;
    let manifest = read(&root.join("Cargo.toml"))?;
    let members = manifest.lines().find(|line| line.starts_with("members = "));
    let members = members.context("Cargo.toml has no line of members")?;
    let manifest = manifest.replace(members, "members = [\"common\", \"tests/model\"]");
    write(&copy.join("Cargo.toml"), &manifest)
}

fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        return write(to, &read(from)?);
    }
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let name = entry.with_context(|| format!("list {}", from.display()))?.file_name();
        copy_all(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Writes every mutant into the core beside what it stands for, and the switch that chooses one.
fn switch_in(core: &Path) -> anyhow::Result<()> {
    let mut places: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for (number, mutant) in (1..).zip(MUTANTS) {
        let chosen = format!("if crate::mutant::on({number}) {{ {} }} else ", mutant.instead);
        places.entry((mutant.file, mutant.text)).or_default().push_str(&chosen);
    }
    for ((file, text), chosen) in places {
        let (before, guard, after) = parts(text)?;
        let plain = format!("{before}{guard}{after}");
        let path = core.join(file);
        let source = read(&path)?;
        let many = source.matches(&plain).count();
        ensure!(
            many == 1,
            "the text of a mutant is {many} times in common/src/{file}, must be once: {plain}"
        );
        write(&path, &source.replace(&plain, &format!("{before}({chosen}{{ {guard} }}){after}")))?;
    }
    write(&core.join("mutant.rs"), SWITCH)?;
    let root = core.join("lib.rs");
    write(&root, &format!("{}\nmod mutant;\n", read(&root)?))
}

/// What stands before a mutant's guard, the guard, and what stands after it.
fn parts(text: &str) -> anyhow::Result<(&str, &str, &str)> {
    let marked = || {
        let (before, rest) = text.split_once('«')?;
        let (guard, after) = rest.split_once('»')?;
        Some((before, guard, after))
    };
    marked().with_context(|| format!("the text of a mutant marks no guard: {text}"))
}

fn build(copy: &Path) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .args(["build", "--package", "wavegate-model", "--bin", "wavegate-model", "--target-dir", "target"])
        .current_dir(copy)
        .env("RUSTFLAGS", "--allow warnings")
        .status()
        .context("run cargo")?;
    ensure!(built.success(), "the mutants in {} do not build", copy.display());
    Ok(copy.join("target/debug/wavegate-model"))
}

/// Whether exploring a shape shows what the mutant does wrong.
fn found_out(binary: &Path, number: usize, mutant: &Mutant) -> anyhow::Result<bool> {
    let began = Instant::now();
    let explored = Command::new(binary)
        .args(["--shape", mutant.shape])
        .env("WAVEGATE_MUTANT", number.to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
        .with_context(|| format!("run {}", binary.display()))?;
    let told = String::from_utf8_lossy(&explored.stdout);
    let broken: Vec<&str> =
        told.lines().filter_map(|line| line.trim_start().strip_prefix("BROKEN ")).collect();
    let found = broken.contains(&mutant.breaks.text());
    let took = began.elapsed().as_secs_f64();
    println!("{number:>3} {} ({}, {took:.1} s)", mutant.what, mutant.shape);
    if found {
        println!("    found out: {}", mutant.breaks.text());
    } else if broken.is_empty() && !told.contains(" worlds") {
        bail!("{} did not explore: {}", binary.display(), String::from_utf8_lossy(&explored.stderr));
    } else {
        println!("    NOT FOUND OUT by: {}; instead: {broken:?}", mutant.breaks.text());
    }
    Ok(found)
}
