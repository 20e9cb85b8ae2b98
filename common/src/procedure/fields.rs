//! Reading TOML tables field by field, with a complaint for every field that is missing, unknown or of another type.

use super::diagnostic::{Report, suggestion};
use super::value::Value;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value of the TOML tree, with its place in the text.
pub(crate) type Node<'t> = Spanned<DeValue<'t>>;

/// A table whose known fields are a closed set.
pub(crate) struct Fields<'n, 't> {
    /// What it is called in messages.
    pub(crate) what: String,
    /// Where it begins.
    pub(crate) at: Range<usize>,
    table: &'n DeTable<'t>,
}

impl<'n, 't> Fields<'n, 't> {
    /// Looks at a table; unknown fields are reported at once. `what` names the table in messages.
    pub(crate) fn open(
        report: &mut Report<'_>,
        what: impl Into<String>,
        at: Range<usize>,
        table: &'n DeTable<'t>,
        known: &[&str],
    ) -> Self {
        let what = what.into();
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let word = key.get_ref();
            let hint = suggestion(word, known.iter().copied());
            report.add(&key.span(), format!("unknown field '{word}' in {what}{hint}"));
        }
        Self { what, at, table }
    }

    /// `step 'install'` for a table that says its name, else `this step`: what to call it in messages.
    pub(crate) fn name(kind: &str, table: &DeTable<'_>, key: &str) -> String {
        let name = table
            .iter()
            .find(|(known, _)| known.get_ref() == key)
            .and_then(|(_, node)| node.get_ref().as_str());
        name.map_or_else(|| format!("this {kind}"), |name| format!("{kind} '{name}'"))
    }

    pub(crate) fn optional(&self, key: &str) -> Option<&'n Node<'t>> {
        self.table.iter().find(|(known, _)| known.get_ref() == key).map(|(_, value)| value)
    }

    pub(crate) fn required(&self, report: &mut Report<'_>, key: &str) -> Option<&'n Node<'t>> {
        let found = self.optional(key);
        if found.is_none() {
            report.add(&self.at, format!("{} has no '{key}'; write one", self.what));
        }
        found
    }

    /// A string that must be there and must not be empty.
    pub(crate) fn text(&self, report: &mut Report<'_>, key: &str) -> Option<Spanned<&'n str>> {
        let node = self.required(report, key)?;
        let text = string(report, key, node)?;
        if text.get_ref().trim().is_empty() {
            report.add(&node.span(), format!("'{key}' of {} is empty; write one", self.what));
            return None;
        }
        Some(text)
    }

    /// A list of strings; one that is not there is empty.
    pub(crate) fn texts(&self, report: &mut Report<'_>, key: &str) -> Vec<Spanned<&'n str>> {
        let Some(node) = self.optional(key) else { return Vec::new() };
        let Some(items) = node.get_ref().as_array() else {
            report.add(
                &node.span(),
                format!("'{key}' is {}; it must be a list of strings", kind(node.get_ref())),
            );
            return Vec::new();
        };
        let text = |item: &'n Node<'t>| match item.get_ref().as_str() {
            Some(text) => Some(Spanned::new(item.span(), text)),
            None => {
                let found = kind(item.get_ref());
                report.add(&item.span(), format!("'{key}' has {found} in it; it must be a list of strings"));
                None
            }
        };
        items.iter().filter_map(text).collect()
    }

    /// A number that must be there.
    pub(crate) fn number(&self, report: &mut Report<'_>, key: &str) -> Option<Spanned<u32>> {
        let node = self.required(report, key)?;
        match value(node.get_ref()) {
            Ok(Value::Number(number)) if u32::try_from(number).is_ok() => {
                Some(Spanned::new(node.span(), u32::try_from(number).unwrap_or_default()))
            }
            _ => {
                let found = kind(node.get_ref());
                report.add(&node.span(), format!("'{key}' is {found}; it must be a whole number, 0 or more"));
                None
            }
        }
    }

    /// A list of tables.
    pub(crate) fn tables(&self, report: &mut Report<'_>, key: &str) -> Vec<(Range<usize>, &'n DeTable<'t>)> {
        let Some(node) = self.optional(key) else { return Vec::new() };
        let wrong = |report: &mut Report<'_>, node: &Node<'_>| {
            let found = kind(node.get_ref());
            report.add(&node.span(), format!("'{key}' is {found}; it must be a list of tables, [[{key}]]"));
        };
        let Some(items) = node.get_ref().as_array() else {
            wrong(report, node);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push((item.span(), table)),
                None => wrong(report, item),
            }
        }
        tables
    }

    /// A table; one that is not there is `None`.
    pub(crate) fn table(
        &self,
        report: &mut Report<'_>,
        key: &str,
    ) -> Option<(Range<usize>, &'n DeTable<'t>)> {
        let node = self.optional(key)?;
        let Some(table) = node.get_ref().as_table() else {
            report.add(&node.span(), format!("'{key}' is {}; it must be a table", kind(node.get_ref())));
            return None;
        };
        Some((node.span(), table))
    }
}

fn string<'n>(report: &mut Report<'_>, key: &str, node: &'n Node<'_>) -> Option<Spanned<&'n str>> {
    let Some(text) = node.get_ref().as_str() else {
        report.add(&node.span(), format!("'{key}' is {}; it must be a string", kind(node.get_ref())));
        return None;
    };
    Some(Spanned::new(node.span(), text))
}

/// What kind of value it is, for messages.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(integer) if integer.as_str().starts_with('-') => "a negative number",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The value as a parameter's, or what kind of value it is if no parameter can have it.
pub(crate) fn value(value: &DeValue<'_>) -> Result<Value, &'static str> {
    match value {
        DeValue::Boolean(on) => Ok(Value::Flag(*on)),
        DeValue::String(text) => Ok(Value::Text(text.as_ref().to_owned())),
        DeValue::Integer(integer) => {
            u64::from_str_radix(integer.as_str(), integer.radix()).map(Value::Number).map_err(|_| kind(value))
        }
        DeValue::Array(items) => {
            let text = |item: &Node<'_>| item.get_ref().as_str().map(str::to_owned);
            let texts = items.iter().map(text).collect::<Option<Vec<_>>>();
            texts.map(Value::List).ok_or("a list of other things than strings")
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => Err(kind(value)),
    }
}
