//! `wavegate-packaging DIR`: writes what the packages have beside the programs, made from the command lines, the shipped
//! configuration and the licences of what is linked in. `build.sh` puts it into the packages, each file at its place.

mod completions;
mod dependencies;
mod exit_status;
mod licences;
mod manual;
mod notices;
mod programs;
mod settings;

use anyhow::{Context, Result, bail};
use programs::{PACKAGES, programs};
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else {
        bail!("say the one directory to write into: wavegate-packaging DIR");
    };
    let directory = PathBuf::from(directory);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let closure = dependencies::Closure::of_workspace(&workspace)?;
    for package in PACKAGES {
        let root = directory.join(package);
        for program in programs().into_iter().filter(|program| program.package == *package) {
            completions::write(&program, &root)?;
            manual::write(&program, &root.join("man"))?;
        }
        settings::write(package, &workspace.join("packaging/config"), &root.join("man"))?;
        let notices = notices::text(package, closure.of(package)?)?;
        write(&root.join("third-party-notices"), &notices)?;
    }
    Ok(())
}

/// Writes one file, and the directories it is in.
fn write(path: &Path, content: &str) -> Result<()> {
    let directory = path.parent().with_context(|| format!("no directory for {}", path.display()))?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
