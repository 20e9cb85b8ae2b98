//! What a program asks of the system that it is started on, read from its file: libraries and versions of their symbols.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use object::LittleEndian;
use object::elf::DT_NEEDED;
use object::read::elf::ElfFile64;
use object::read::{Object, ObjectSection};

/// What one program asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The libraries that are loaded with it.
    pub libraries: BTreeSet<String>,
    /// Versions of symbols, such as `GLIBC_2.17`.
    pub versions: BTreeSet<String>,
    /// Sections that nothing but a debugger reads.
    pub for_debuggers: BTreeSet<String>,
}

impl Needs {
    /// Reads them from the content of a 64-bit little-endian ELF file.
    ///
    /// # Errors
    ///
    /// When it is none, or is damaged.
    pub fn of(program: &[u8]) -> Result<Self> {
        let file = ElfFile64::<LittleEndian>::parse(program).context("not an ELF file")?;
        let (endian, sections) = (file.endian(), file.elf_section_table());
        let dynamic = sections.dynamic_table(endian, program).context("the dynamic section")?;
        let mut libraries = BTreeSet::new();
        for entry in dynamic.iter().filter(|entry| entry.tag == DT_NEEDED) {
            libraries.insert(text(dynamic.string(entry).context("the name of a library")?));
        }
        let mut versions = BTreeSet::new();
        if let Some((mut needs, names)) = sections.gnu_verneed(endian, program).context("needed versions")? {
            let names = sections.strings(endian, program, names).context("names of versions")?;
            while let Some((_, mut of_library)) = needs.next().context("needed versions")? {
                while let Some(version) = of_library.next().context("a needed version")? {
                    versions.insert(text(version.name(endian, names).context("the name of a version")?));
                }
            }
        }
        let of_debuggers = |name: &String| name == ".symtab" || name.starts_with(".debug");
        let names = file.sections().filter_map(|section| section.name().ok().map(str::to_owned));
        Ok(Self { libraries, versions, for_debuggers: names.filter(of_debuggers).collect() })
    }

    /// Versions of glibc's symbols that a glibc of this version does not have, and what is no number (`GLIBC_PRIVATE`).
    #[must_use]
    pub fn newer_than(&self, glibc: (u32, u32)) -> Vec<&str> {
        let number = |version: &str| {
            let mut parts = version.split('.').map(str::parse::<u32>);
            Some((parts.next()?.ok()?, parts.next()?.ok()?))
        };
        let of_glibc = self.versions.iter().filter_map(|name| Some((name, name.strip_prefix("GLIBC_")?)));
        of_glibc
            .filter(|(_, version)| number(version).is_none_or(|version| version > glibc))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let versions = [
            "GLIBC_2.2.5",
            "GLIBC_2.9",
            "GLIBC_2.17",
            "GLIBC_2.18",
            "GLIBC_2.34",
            "GLIBC_PRIVATE",
            "GCC_3.0",
        ];
        let versions = versions.map(str::to_owned).into();
        let needs = Needs { libraries: BTreeSet::new(), versions, for_debuggers: BTreeSet::new() };
        assert_eq!(needs.newer_than((2, 17)), ["GLIBC_2.18", "GLIBC_2.34", "GLIBC_PRIVATE"]);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(Needs::of(b"#!/bin/sh\n").is_err());
    }
}
