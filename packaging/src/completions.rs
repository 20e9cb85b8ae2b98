//! Completions of a program for the shells that operators have.

use crate::programs::Program;
use anyhow::{Context, Result};
use clap_complete::{Shell, generate};
use std::path::Path;

/// Writes `bash/NAME`, `zsh/_NAME` and `fish/NAME.fish` under a directory.
///
/// # Errors
///
/// When one can't be written.
pub fn write(program: &Program, directory: &Path) -> Result<()> {
    let name = program.command.get_name().to_owned();
    let shells = [
        (Shell::Bash, format!("bash/{name}")),
        (Shell::Zsh, format!("zsh/_{name}")),
        (Shell::Fish, format!("fish/{name}.fish")),
    ];
    for (shell, file) in shells {
        let mut text = Vec::new();
        generate(shell, &mut program.command.clone(), &name, &mut text);
        crate::write(
            &directory.join(file),
            &String::from_utf8(text).context("a completion that is no text")?,
        )?;
    }
    Ok(())
}
