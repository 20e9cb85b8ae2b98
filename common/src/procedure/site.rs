//! What a site sets: parameter values from a TOML file and from `--set key=value`, checked against a procedure.

use super::Procedure;
use super::diagnostic::{Diagnostic, Diagnostics, Report, suggestion};
use super::parameters::read_value;
use super::value::Value;
use std::collections::BTreeMap;
use toml::de::DeTable;

/// A site's file of parameters: `key = value` lines in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteFile<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// Values that a site set, each of its parameter's type. What is not set has the procedure's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, Value>);

impl Values {
    /// The value that the site set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl Procedure {
    /// Reads what a site sets. `set` are the `key=value` of the command line; they win over the file.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what would be right.
    pub fn values(&self, file: Option<SiteFile<'_>>, set: &[String]) -> Result<Values, Diagnostics> {
        let mut values = BTreeMap::new();
        let mut wrong = Vec::new();
        if let Some(file) = file {
            wrong.extend(self.read_file(file, &mut values));
        }
        let mut given = BTreeMap::new();
        for text in set {
            let read = self.read_setting(text).and_then(|(name, value)| match given.insert(name, value) {
                None => Ok(()),
                Some(_) => Err(format!("parameter '{name}' is set twice; set it once")),
            });
            wrong.extend(read.err().map(|message| Diagnostic { place: format!("--set {text}"), message }));
        }
        if !wrong.is_empty() {
            return Err(Diagnostics(wrong));
        }
        values.extend(given.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Ok(Values(values))
    }

    /// The value of a parameter: what the site set, else the default.
    #[must_use]
    pub fn value(&self, name: &str, site: &Values) -> Option<Value> {
        site.get(name).cloned().or_else(|| self.parameters.get(name)?.default.clone())
    }

    fn read_file(&self, file: SiteFile<'_>, values: &mut BTreeMap<String, Value>) -> Vec<Diagnostic> {
        let mut report = Report::new(file.name, file.text);
        let (root, errors) = DeTable::parse_recoverable(file.text);
        for error in &errors {
            report.add(&error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()));
        }
        let entries = if errors.is_empty() { root.get_ref().iter().collect() } else { Vec::new() };
        for (key, node) in entries {
            let name = key.get_ref().as_ref();
            match self.parameters.get(name) {
                None => report.add(&key.span(), self.unknown(name)),
                Some(parameter) => {
                    let what = format!("parameter '{name}'");
                    values.extend(
                        read_value(&mut report, node, parameter.kind, &what)
                            .map(|value| (name.to_owned(), value)),
                    );
                }
            }
        }
        report.into_diagnostics()
    }

    fn read_setting<'t>(&self, text: &'t str) -> Result<(&'t str, Value), String> {
        let (name, value) = text.split_once('=').ok_or("there is no '='; write --set key=value")?;
        let parameter = self.parameters.get(name).ok_or_else(|| self.unknown(name))?;
        let value = parameter.kind.read(value)?;
        parameter.kind.check(&value).map(|()| (name, value))
    }

    fn unknown(&self, name: &str) -> String {
        let hint = suggestion(name, self.parameters.keys().map(String::as_str));
        format!("procedure {} has no parameter '{name}'{hint}", self.name)
    }
}
