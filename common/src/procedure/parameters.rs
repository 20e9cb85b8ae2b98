//! Reading the parameters of a procedure, and keeping track of which are used.

use super::Parameter;
use super::diagnostic::{Report, suggestion};
use super::fields::{self, Fields, Node};
use super::value::{Type, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use toml::de::DeTable;

/// The parameters that a text defines, also those whose definition is wrong: a reference to them is right.
pub(super) struct Parameters {
    defined: BTreeMap<String, (Range<usize>, Option<Parameter>)>,
    used: BTreeSet<String>,
}

impl Parameters {
    pub(super) fn read(report: &mut Report<'_>, table: Option<&DeTable<'_>>) -> Self {
        let mut defined = BTreeMap::new();
        for (key, node) in table.into_iter().flat_map(DeTable::iter) {
            let name = key.get_ref().as_ref();
            if !is_parameter_name(name) {
                let rule = "use a-z, 0-9 and '_', and start with a letter";
                report.add(&key.span(), format!("'{name}' is not a parameter name; {rule}"));
            }
            defined.insert(name.to_owned(), (key.span(), read_parameter(report, name, node)));
        }
        let parameters = Self { defined, used: BTreeSet::new() };
        parameters.check_one_release(report);
        parameters
    }

    /// A node has one OpenStack release: what a plan shows as such must be what its conditions were decided with.
    fn check_one_release(&self, report: &mut Report<'_>) {
        let releases = self.defined.iter().filter_map(|(name, (at, parameter))| {
            parameter.as_ref().filter(|parameter| parameter.kind == Type::Release).map(|_| (name, at))
        });
        for (name, at) in releases.skip(1) {
            report.add(
                at,
                format!("'{name}' is a second parameter of type release; keep one, a node has one release"),
            );
        }
    }

    /// Notes that a parameter is used, and gives it if its definition is right.
    pub(super) fn refer(
        &mut self,
        report: &mut Report<'_>,
        at: &Range<usize>,
        name: &str,
    ) -> Option<&Parameter> {
        let Some((_, parameter)) = self.defined.get(name) else {
            let hint = suggestion(name, self.defined.keys().map(String::as_str));
            report.add(at, format!("unknown parameter '{name}'{hint}"));
            return None;
        };
        self.used.insert(name.to_owned());
        parameter.as_ref()
    }

    /// Takes every parameter that a text names as used: of a text that is wrong nobody knows what it meant.
    pub(super) fn mention(&mut self, text: &str) {
        self.used.extend(self.defined.keys().filter(|name| text.contains(name.as_str())).cloned());
    }

    /// The default of a parameter.
    pub(super) fn default(&self, name: &str) -> Option<Value> {
        self.defined.get(name)?.1.as_ref()?.default.clone()
    }

    /// Reports what nobody used, and gives the parameters.
    pub(super) fn finish(self, report: &mut Report<'_>) -> BTreeMap<String, Parameter> {
        for (name, (at, _)) in self.defined.iter().filter(|(name, _)| !self.used.contains(*name)) {
            report.add(at, format!("parameter '{name}' is not used by any step; use it or remove it"));
        }
        self.defined.into_iter().filter_map(|(name, (_, parameter))| Some((name, parameter?))).collect()
    }
}

fn is_parameter_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn read_parameter(report: &mut Report<'_>, name: &str, node: &Node<'_>) -> Option<Parameter> {
    let what = format!("parameter '{name}'");
    let Some(table) = node.get_ref().as_table() else {
        let found = fields::kind(node.get_ref());
        report.add(&node.span(), format!("{what} is {found}; write a table, [parameters.{name}]"));
        return None;
    };
    let fields = Fields::open(report, what.as_str(), node.span(), table, &["type", "default", "help"]);
    let help = fields.text(report, "help");
    let kind = fields.text(report, "type")?;
    let Ok(kind) = kind.get_ref().parse::<Type>() else {
        let hint = suggestion(kind.get_ref(), Type::ALL.iter().map(|kind| kind.as_str()));
        report.add(&kind.span(), format!("unknown parameter type '{}'{hint}", kind.get_ref()));
        return None;
    };
    let default = match fields.optional("default") {
        None => None,
        Some(node) => Some(read_value(report, node, kind, &format!("the default of {what}"))?),
    };
    Some(Parameter { kind, default, help: help?.into_inner().to_owned() })
}

/// Reads a value of a type; `what` begins the message if it is not.
pub(super) fn read_value(report: &mut Report<'_>, node: &Node<'_>, kind: Type, what: &str) -> Option<Value> {
    let checked = fields::value(node.get_ref())
        .map_err(|found| format!("it is {found}; it must be {}", kind.shape()))
        .and_then(|value| kind.check(&value).map(|()| value));
    checked.map_err(|wrong| report.add(&node.span(), format!("{what}: {wrong}"))).ok()
}
