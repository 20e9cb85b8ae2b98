//! Reading a policy's text: all of it is checked, and everything that is wrong is said at once.

use super::{EtcdPolicy, IniKeys, Policy, Processes, Programs, Python, Services};
use crate::action::{PackagePattern, ProgramName};
use crate::procedure::Diagnostics;
use crate::procedure::diagnostic::Report;
use crate::procedure::fields::{self, Fields};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

const KEYS: &[&str] = &[
    "packages",
    "whole_distribution",
    "removals",
    "downgrades",
    "archives",
    "http_checks",
    "services",
    "etcd",
    "python",
    "programs",
    "processes",
    "ini",
];

impl Policy {
    /// Reads and checks a policy; `file` is only for messages. What a policy does not name it does not permit.
    ///
    /// # Errors
    /// Everything that is wrong, each with `file:line:column` and what would be right.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut report = Report::new(file, text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            report.add(&error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()));
        }
        // What follows a syntax error was guessed by the parser; complaints about it would mislead.
        let policy =
            if errors.is_empty() { Reader(&mut report).policy(root.get_ref()) } else { Self::default() };
        if report.is_clean() { Ok(policy) } else { Err(Diagnostics(report.into_diagnostics())) }
    }
}

struct Reader<'r, 'p>(&'r mut Report<'p>);

impl Reader<'_, '_> {
    fn policy(&mut self, root: &DeTable<'_>) -> Policy {
        let top = Fields::open(self.0, "the policy", 0..0, root, KEYS);
        let pattern = |text: &str| PackagePattern::try_from(text.to_owned()).map_err(|e| e.to_string());
        Policy {
            packages: self.list(&top, "packages", pattern),
            whole_distribution: self.flag(&top, "whole_distribution"),
            removals: self.flag(&top, "removals"),
            downgrades: self.flag(&top, "downgrades"),
            archives: self.list(&top, "archives", read),
            http_checks: self.list(&top, "http_checks", read),
            services: self.services(&top),
            etcd: self.etcd(&top),
            python: self.python(&top),
            programs: self.tables(&top, "programs", &["directory", "names"], Self::programs),
            processes: self.tables(&top, "processes", &["program", "pid_files"], Self::processes),
            ini: self.tables(&top, "ini", &["file", "section", "keys"], Self::ini),
        }
    }

    fn services(&mut self, top: &Fields<'_, '_>) -> Services {
        let Some((at, table)) = top.table(self.0, "services") else { return Services::default() };
        let fields = Fields::open(self.0, "[services]", at, table, &["restart", "disable"]);
        Services {
            restart: self.list(&fields, "restart", service),
            disable: self.list(&fields, "disable", service),
        }
    }

    fn etcd(&mut self, top: &Fields<'_, '_>) -> EtcdPolicy {
        let Some((at, table)) = top.table(self.0, "etcd") else { return EtcdPolicy::default() };
        let fields = Fields::open(self.0, "[etcd]", at, table, &["backups"]);
        EtcdPolicy { backups: self.list(&fields, "backups", path) }
    }

    fn python(&mut self, top: &Fields<'_, '_>) -> Python {
        let Some((at, table)) = top.table(self.0, "python") else { return Python::default() };
        let fields = Fields::open(self.0, "[python]", at, table, &["install", "uninstall"]);
        Python {
            install: self.list(&fields, "install", distribution),
            uninstall: self.list(&fields, "uninstall", distribution),
        }
    }

    fn programs(&mut self, fields: &Fields<'_, '_>) -> Option<Programs> {
        let directory = self.text(fields, "directory", path);
        fields.required(self.0, "names");
        let names = self.list(fields, "names", read::<ProgramName>);
        Some(Programs { directory: directory?, names })
    }

    fn processes(&mut self, fields: &Fields<'_, '_>) -> Option<Processes> {
        let program = self.text(fields, "program", read::<ProgramName>);
        let pid_files = self.text(fields, "pid_files", path);
        Some(Processes { program: program?, pid_files: pid_files? })
    }

    fn ini(&mut self, fields: &Fields<'_, '_>) -> Option<IniKeys> {
        let file = self.text(fields, "file", path);
        let section = self.text(fields, "section", one_line);
        fields.required(self.0, "keys");
        let keys = self.list(fields, "keys", one_line);
        Some(IniKeys { file: file?, section: section?, keys })
    }

    fn tables<T>(
        &mut self,
        top: &Fields<'_, '_>,
        key: &str,
        known: &[&str],
        each: impl Fn(&mut Self, &Fields<'_, '_>) -> Option<T>,
    ) -> Vec<T> {
        let mut read = Vec::new();
        for (at, table) in top.tables(self.0, key) {
            let fields = Fields::open(self.0, format!("[[{key}]]"), at, table, known);
            read.extend(each(self, &fields));
        }
        read
    }

    fn flag(&mut self, fields: &Fields<'_, '_>, key: &str) -> bool {
        let Some(node) = fields.optional(key) else { return false };
        match node.get_ref() {
            DeValue::Boolean(on) => *on,
            other => {
                let found = fields::kind(other);
                self.wrong(&node.span(), key, &format!("it is {found}; it must be true or false"));
                false
            }
        }
    }

    fn text<T>(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        each: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = fields.text(self.0, key)?;
        each(text.get_ref()).map_err(|what| self.wrong(&text.span(), key, &what)).ok()
    }

    fn list<T: PartialEq>(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        each: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut items = Vec::new();
        for text in fields.texts(self.0, key) {
            match each(text.get_ref()) {
                Ok(item) if items.contains(&item) => {
                    let what = format!("'{}' is there twice; once is enough", text.get_ref());
                    self.wrong(&text.span(), key, &what);
                }
                Ok(item) => items.push(item),
                Err(what) => self.wrong(&text.span(), key, &what),
            }
        }
        items
    }

    fn wrong(&mut self, at: &Range<usize>, key: &str, what: &str) {
        self.0.add(at, format!("{key}: {what}"));
    }
}

fn read<T>(text: &str) -> Result<T, String>
where
    T: TryFrom<String>,
    T::Error: std::fmt::Display,
{
    T::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn service(text: &str) -> Result<String, String> {
    if let Some(unit) = text.strip_suffix(".service") {
        return Err(format!("'{text}' is a unit; write '{unit}', without .service"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "@:-_.\\".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "'{}' is not a service; write its name, of letters, digits and '@ : - _ .'",
        text.escape_debug()
    ))
}

fn distribution(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    let text = text.escape_debug();
    Err(format!("'{text}' is not a Python distribution; write its name, of letters, digits and '- _ .'"))
}

fn path(text: &str) -> Result<String, String> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let names = text.strip_prefix('/').filter(|rest| rest.split('/').all(plain));
    if names.is_some() && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    let text = text.escape_debug();
    Err(format!(
        "'{text}' is not a plain absolute path; write it from /, without '.', '..' and a '/' at its end"
    ))
}

fn one_line(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err(format!("'{}' has a line break or a control character", text.escape_debug()));
    }
    Ok(text.to_owned())
}
