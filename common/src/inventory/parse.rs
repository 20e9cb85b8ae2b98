//! Reading an inventory's text: all of it is checked, and everything that is wrong is said at once.

use super::{Declared, Inventory};
use crate::id::NodeId;
use crate::platform::Role;
use crate::procedure::Diagnostics;
use crate::procedure::diagnostic::{Report, unknown_word};
use crate::procedure::fields::{Fields, kind};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

const LONGEST_VALUE: usize = 64;

impl Inventory {
    /// Reads and checks an inventory; `file` is only for messages.
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
        let nodes =
            if errors.is_empty() { Reader(&mut report).nodes(root.get_ref()) } else { BTreeMap::new() };
        if report.is_clean() { Ok(Self { nodes }) } else { Err(Diagnostics(report.into_diagnostics())) }
    }
}

struct Reader<'r, 'p>(&'r mut Report<'p>);

impl Reader<'_, '_> {
    fn nodes(&mut self, root: &DeTable<'_>) -> BTreeMap<NodeId, Declared> {
        let top = Fields::open(self.0, "the inventory", 0..0, root, &["nodes"]);
        let mut nodes = BTreeMap::new();
        let found = top.table(self.0, "nodes");
        let named = found.as_ref().map_or(0, |(_, table)| table.len());
        if named == 0 && top.optional("nodes").is_none_or(|node| node.get_ref().is_table()) {
            let at = found.as_ref().map_or(0..0, |(at, _)| at.clone());
            let what = "it declares no node; write [nodes.NAME] for each, or have no inventory: wavegate inventory clear";
            self.0.add(&at, what);
        }
        for (key, value) in found.iter().flat_map(|(_, table)| table.iter()) {
            let name = key.get_ref().as_ref();
            let node = NodeId::new(name).map_err(|wrong| self.0.add(&key.span(), wrong.to_string()));
            let Some(table) = value.get_ref().as_table() else {
                let found = kind(value.get_ref());
                self.0.add(
                    &value.span(),
                    format!("node '{name}' is {found}; it must be a table, [nodes.{name}]"),
                );
                continue;
            };
            let declared = self.declared(name, value.span(), table);
            nodes.extend(node.ok().map(|node| (node, declared)));
        }
        nodes
    }

    fn declared(&mut self, name: &str, at: Range<usize>, table: &DeTable<'_>) -> Declared {
        let mut known = vec!["roles", "labels"];
        for (key, value) in table.iter() {
            let field = key.get_ref().as_ref();
            // [nodes.compute-1.example] is a table 'example' of compute-1: the quotes were forgotten.
            if !known.contains(&field) && value.get_ref().is_table() {
                let what = format!(
                    "unknown field '{field}' in node '{name}'; a name with dots stands in quotes: [nodes.\"{name}.{field}\"]"
                );
                self.0.add(&key.span(), what);
                known.push(field);
            }
        }
        let fields = Fields::open(self.0, format!("node '{name}'"), at, table, &known);
        let roles = fields.optional("roles").is_some().then(|| self.roles(&fields));
        Declared { roles, labels: self.labels(name, &fields) }
    }

    fn roles(&mut self, fields: &Fields<'_, '_>) -> BTreeSet<Role> {
        let mut roles = BTreeSet::new();
        for text in fields.texts(self.0, "roles") {
            match text.get_ref().parse::<Role>() {
                Ok(role) if roles.insert(role) => {}
                Ok(role) => self.0.add(&text.span(), format!("role '{role}' is there twice; once is enough")),
                Err(unknown) => self.0.add(&text.span(), unknown_word(&unknown)),
            }
        }
        roles
    }

    fn labels(&mut self, node: &str, fields: &Fields<'_, '_>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let found = fields.table(self.0, "labels");
        for (key, value) in found.iter().flat_map(|(_, table)| table.iter()) {
            let name = key.get_ref().as_ref();
            if !is_label(name) {
                let name = name.escape_debug();
                let rule = "use 1 to 64 of a-z, 0-9, '-', '_', and start with a letter";
                self.0.add(&key.span(), format!("'{name}' is not a label; {rule}"));
            }
            match label_value(value.get_ref()) {
                Ok(text) => drop(labels.insert(name.to_owned(), text.to_owned())),
                Err(why) => self.0.add(&value.span(), format!("label '{name}' of node '{node}' {why}")),
            }
        }
        labels
    }
}

fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(inner)
}

fn label_value<'t>(value: &'t DeValue<'_>) -> Result<&'t str, String> {
    let Some(text) = value.as_str() else {
        return Err(format!("is {}; it must be a string", kind(value)));
    };
    if text.trim().is_empty() {
        return Err("is empty; write a value or leave the label out".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("has a line break or a control character; write it without".to_owned());
    }
    match text.chars().count() {
        0..=LONGEST_VALUE => Ok(text),
        long => Err(format!("has {long} characters; it may have {LONGEST_VALUE}")),
    }
}
