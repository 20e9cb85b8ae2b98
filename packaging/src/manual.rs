//! Manual pages of the programs: one for each, and one for each of its commands, from the command lines.

use crate::exit_status;
use crate::programs::Program;
use anyhow::{Context, Result};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::path::Path;

/// The title of the manual that all pages are of.
pub const MANUAL: &str = "Wavegate";

/// Writes the pages of a program and its commands into a directory.
///
/// # Errors
///
/// When a page can't be written.
pub fn write(program: &Program, directory: &Path) -> Result<()> {
    let mut command = program.command.clone().disable_help_subcommand(true);
    command.build();
    write_command(program, &command, directory)
}

fn write_command(program: &Program, command: &clap::Command, directory: &Path) -> Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_command(program, below, directory)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    crate::write(&directory.join(format!("{name}.{}", program.section)), &page(program, command)?)
}

fn page(program: &Program, command: &clap::Command) -> Result<String> {
    let mut page = Vec::new();
    let man = Man::new(command.clone().disable_help_flag(true))
        .section(program.section)
        .source(format!("wavegate {}", env!("CARGO_PKG_VERSION")))
        .manual(MANUAL);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    notes(command).to_writer(&mut page)?;
    closing(program, command).to_writer(&mut page)?;
    String::from_utf8(page).context("a manual page that is no text")
}

/// What a command's help says at its end, if that is not the list of exit codes: paragraphs, and lines as they stand further in.
fn notes(command: &clap::Command) -> Roff {
    let mut roff = Roff::default();
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if help.is_empty() || !exit_status::listed(&help).is_empty() {
        return roff;
    }
    roff.control("SH", ["NOTES"]);
    for (place, paragraph) in help.split("\n\n").enumerate() {
        if place > 0 {
            roff.control("PP", []);
        }
        if paragraph.contains("\n  ") {
            roff.control("nf", []).text([roman(paragraph)]).control("fi", []);
        } else {
            roff.text([roman(paragraph)]);
        }
    }
    roff
}

/// The sections that every page ends with.
fn closing(program: &Program, command: &clap::Command) -> Roff {
    let mut roff = Roff::default();
    let help = program.command.get_after_help().map(ToString::to_string).unwrap_or_default();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, text) in exit_status::listed(&help) {
        roff.control("TP", []).text([bold(code)]).text([roman(sentence(&text))]);
    }
    roff.control("SH", ["FILES"]);
    for (file, text) in program.files {
        roff.control("TP", []).text([italic(*file)]).text([roman(*text)]);
    }
    let name = program.command.get_name();
    let own = command.get_name() == name;
    let pages = (!own).then_some((name, program.section)).into_iter().chain(program.see_also.iter().copied());
    roff.control("SH", ["SEE ALSO"]);
    let mut references = Vec::new();
    for (page, section) in pages {
        if !references.is_empty() {
            references.push(roman(", "));
        }
        references.extend([bold(page), roman(format!("({section})"))]);
    }
    roff.text(references);
    roff
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::programs;

    #[test]
    fn a_command_has_a_page_with_its_options_codes_and_files() {
        let file = clap::Arg::new("check").long("check").value_name("FILE").help("Check this file");
        let policy = clap::Command::new("policy").about("Show the policy").arg(file.env("WAVEGATE_CHECK"));
        let policy = policy.after_help("It is read\nfor every order.\n\nExample:\n  wavegate-x policy");
        let command = clap::Command::new("wavegate-x").after_help("Exit codes:\n  0  done\n  1  not done");
        let command = command.subcommand(policy);
        let program = Program {
            package: "wavegate-x",
            command,
            section: "8",
            files: &[("/etc/wavegate/x.toml", "The configuration.")],
            see_also: &[("wavegate", "1")],
        };
        let mut command = program.command.clone();
        command.build();
        let policy = command.find_subcommand("policy").expect("a command policy");
        insta::assert_snapshot!(page(&program, policy).expect("a page"), @r#"
        .ie \n(.g .ds Aq \(aq
        .el .ds Aq '
        .TH wavegate-x-policy 8  "wavegate 0.1.0" Wavegate
        .ie \n(.g .ds Aq \(aq
        .el .ds Aq '
        .SH NAME
        wavegate\-x\-policy \- Show the policy
        .ie \n(.g .ds Aq \(aq
        .el .ds Aq '
        .SH SYNOPSIS
        \fBwavegate\-x policy\fR [\fB\-\-check\fR] [\fB\-h\fR|\fB\-\-help\fR] 
        .ie \n(.g .ds Aq \(aq
        .el .ds Aq '
        .SH DESCRIPTION
        Show the policy
        .ie \n(.g .ds Aq \(aq
        .el .ds Aq '
        .SH OPTIONS
        .TP
        \fB\-\-check\fR \fI<FILE>\fR
        Check this file
        .RS
        May also be specified with the \fBWAVEGATE_CHECK\fR environment variable. 
        .RE
        .TP
        \fB\-h\fR, \fB\-\-help\fR
        Print help
        .ie \n(.g .ds Aq \(aq
        .el .ds Aq '
        .SH NOTES
        It is read
        for every order.
        .PP
        .nf
        Example:
          wavegate\-x policy
        .fi
        .ie \n(.g .ds Aq \(aq
        .el .ds Aq '
        .SH "EXIT STATUS"
        .TP
        \fB0\fR
        Done.
        .TP
        \fB1\fR
        Not done.
        .SH FILES
        .TP
        \fI/etc/wavegate/x.toml\fR
        The configuration.
        .SH "SEE ALSO"
        \fBwavegate\-x\fR(8), \fBwavegate\fR(1)
        "#);
    }

    #[test]
    fn no_page_is_made_of_a_hidden_command() {
        let directory = tempfile::tempdir().expect("a directory");
        write(&programs()[0], directory.path()).expect("pages");
        assert!(directory.path().join("wavegate-agent-run.8").exists());
        assert!(!directory.path().join("wavegate-agent-transaction.8").exists());
    }
}
