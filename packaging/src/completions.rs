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
        let text = String::from_utf8(text).context("a completion that is no text")?;
        crate::write(&directory.join(file), &labelled(&name, &text))?;
    }
    Ok(())
}

/// clap_complete (4.6) writes the hyphen of a program's name in one way where it sets bash's state and in another where it asks for it,
/// so that no subcommand of such a program would have completions.
fn labelled(name: &str, text: &str) -> String {
    let (asked, set) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
    text.replace(&format!("{asked}__subcmd__"), &format!("{set}__subcmd__"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::programs;
    use std::process::Command;

    /// What bash offers after `PROGRAM SUBCOMMAND --`.
    fn offered(file: &Path, program: &str, subcommand: &str) -> String {
        let function = program.replace('-', "__");
        let script = format!(
            "source {}; COMP_WORDS=({program} {subcommand} --); COMP_CWORD=2; _{function} {program} -- {subcommand}; \
             echo \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn bash_offers_the_options_of_every_subcommand() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut asked = 0;
        for program in programs() {
            write(&program, directory.path()).expect("written");
            let name = program.command.get_name();
            let file = directory.path().join("bash").join(name);
            for subcommand in program.command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set())
            {
                let offered = offered(&file, name, subcommand.get_name());
                for option in subcommand.get_arguments().filter_map(|argument| argument.get_long()) {
                    let option = format!("--{option}");
                    assert!(
                        offered.split_whitespace().any(|word| word == option),
                        "{name} {}: {offered}",
                        subcommand.get_name()
                    );
                    asked += 1;
                }
            }
        }
        assert!(asked > 20, "{asked}");
    }
}
