//! The manual page of a configuration file, from the file as it is shipped: its comments are the reference.

use crate::manual::MANUAL;
use anyhow::{Context, Result};
use clap_mangen::roff::{Roff, bold, roman};
use std::path::Path;

/// Writes `PACKAGE.toml.5` from the package's file of the directory with the shipped ones.
///
/// # Errors
///
/// When the shipped file can't be read, or the page can't be written.
pub fn write(package: &str, shipped: &Path, directory: &Path) -> Result<()> {
    let short = package.trim_start_matches("wavegate-");
    let file = shipped.join(format!("{short}.toml"));
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let page = page(package, short, &text);
    crate::write(&directory.join(format!("{package}.toml.5")), &page)
}

/// What a blank line ends: words, and the settings that they are about.
#[derive(Debug, Default)]
struct Block {
    words: Vec<String>,
    settings: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = vec![Block::default()];
    for line in text.lines() {
        let Some(block) = blocks.last_mut() else { break };
        // `#=` shows a setting that is not set; a list that goes on over lines is one setting.
        if let Some(setting) = line.strip_prefix("#=") {
            block.settings.push(setting.trim().to_owned());
        } else if let Some(words) = line.strip_prefix('#') {
            block.words.push(words.trim().to_owned());
        } else if line.trim().is_empty() {
            blocks.push(Block::default());
        } else {
            block.settings.push(line.to_owned());
        }
    }
    blocks.retain(|block| !(block.words.is_empty() && block.settings.is_empty()));
    blocks
}

fn page(package: &str, short: &str, shipped: &str) -> String {
    let mut roff = Roff::default();
    let (version, file) = (env!("CARGO_PKG_VERSION"), format!("/etc/wavegate/{short}.toml"));
    let source = format!("wavegate {version}");
    roff.control("TH", [&format!("{package}.toml"), "5", "", &source, MANUAL]);
    roff.control("SH", ["NAME"]).text([roman(format!("{package}.toml - configuration of {package}"))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(&file)]).control("PP", []).text([bold(format!("/etc/wavegate/{short}.d/*.toml"))]);
    roff.control("SH", ["DESCRIPTION"]);
    let mut settings = false;
    for (place, block) in blocks(shipped).into_iter().enumerate() {
        if !settings && !block.settings.is_empty() {
            roff.control("SH", ["SETTINGS"]);
            settings = true;
        }
        if let [section] = block.settings.as_slice()
            && section.starts_with('[')
        {
            roff.control("SS", [section.as_str()]).text([roman(block.words.join(" "))]);
        } else if let Some((first, others)) = block.settings.split_first() {
            roff.control("TP", []).text([bold(first)]);
            for other in others {
                roff.control("TQ", []).text([bold(other)]);
            }
            roff.text([roman(block.words.join(" "))]);
        } else {
            if place > 0 {
                roff.control("PP", []);
            }
            roff.text([roman(block.words.join(" "))]);
        }
    }
    roff.control("SH", ["SEE ALSO"]).text([bold(package), roman("(8)")]);
    roff.to_roff()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_the_words_about_the_settings_below_them() {
        let shipped = "# Words on\n# the file.\n\n# Where.\nlisten = \"a\"\n\n# How long.\n#= min_s = 1\n#= max_s = 2\n\n\
                       # A part.\n#= [etcd]\n";
        insta::assert_snapshot!(page("wavegate-x", "x", shipped), @r#"
        .TH wavegate-x.toml 5  "wavegate 0.1.0" Wavegate
        .SH NAME
        wavegate\-x.toml \- configuration of wavegate\-x
        .SH SYNOPSIS
        \fB/etc/wavegate/x.toml\fR
        .PP
        \fB/etc/wavegate/x.d/*.toml\fR
        .SH DESCRIPTION
        Words on the file.
        .SH SETTINGS
        .TP
        \fBlisten = "a"\fR
        Where.
        .TP
        \fBmin_s = 1\fR
        .TQ
        \fBmax_s = 2\fR
        How long.
        .SS [etcd]
        A part.
        .SH "SEE ALSO"
        \fBwavegate\-x\fR(8)
        "#);
    }
}
