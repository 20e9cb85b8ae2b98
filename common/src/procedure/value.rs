//! Values of parameters and their types: how they are read and checked. What a step does with them is not here.

use super::diagnostic::unknown_word;
use crate::action::{PackagePattern, PackageSpec, Scope, Sha256};
use crate::platform::{Release, words};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// On or off.
    Flag(bool),
    /// A whole number, not negative.
    Number(u64),
    /// Everything that is one text: strings, URLs, digests, names.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

impl Value {
    /// What kind of value it is, for messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Flag(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
        }
    }
}

/// As it would stand after `--set NAME=`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(on) => on.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

words!(
    /// What a parameter's value must be.
    Type, "parameter type" {
        /// Packages, each perhaps pinned: `name` or `name=version`.
        Packages = "packages",
        /// Patterns of package names: `name`, or `*` for any letters in it.
        Patterns = "patterns",
        /// A list of strings.
        Strings = "strings",
        /// A string of one line.
        Text = "string",
        /// On or off.
        Flag = "flag",
        /// A whole number, not negative.
        Number = "number",
        /// A SHA-256 digest.
        Sha256 = "sha256",
        /// Where something is: `http://`, `https://` or `file:///`.
        Url = "url",
        /// An absolute path.
        Path = "path",
        /// An OpenStack release, or `auto` for what the node's agent found.
        Release = "release",
        /// `named` or `distribution`, see [`Scope`].
        Scope = "scope",
    }
);

/// The value of a release parameter that means: what the node's agent found.
pub const AUTO: &str = "auto";

impl Type {
    /// What a value of this type looks like, for messages.
    #[must_use]
    pub const fn shape(self) -> &'static str {
        match self {
            Self::Packages => "a list of packages, each 'name' or 'name=version'",
            Self::Patterns => "a list of package names, with '*' for any letters",
            Self::Strings => "a list of strings",
            Self::Text => "a string",
            Self::Flag => "true or false",
            Self::Number => "a whole number, 0 or more",
            Self::Sha256 => "a SHA-256 digest, a string of 64 hexadecimal digits",
            Self::Url => "a URL, a string beginning with http://, https:// or file:///",
            Self::Path => "an absolute path, a string beginning with /",
            Self::Release => "an OpenStack release such as 'mitaka', or 'auto' for what the agents find",
            Self::Scope => "'named' or 'distribution'",
        }
    }

    /// Whether its values are lists.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(self, Self::Packages | Self::Patterns | Self::Strings)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// What is wrong; what would be right.
    pub fn check(self, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Self::Packages, Value::List(items)) => items.iter().try_for_each(|item| package(item)),
            (Self::Patterns, Value::List(items)) => items.iter().try_for_each(|item| pattern(item)),
            (Self::Strings, Value::List(items)) => items.iter().try_for_each(|item| one_line(item)),
            (Self::Flag, Value::Flag(_)) | (Self::Number, Value::Number(_)) => Ok(()),
            (Self::Text, Value::Text(text)) => one_line(text),
            (Self::Sha256, Value::Text(text)) => {
                Sha256::try_from(text.clone()).map(drop).map_err(|error| error.to_string())
            }
            (Self::Url, Value::Text(text)) => self.begins(text, &["http://", "https://", "file:///"]),
            (Self::Path, Value::Text(text)) => self.begins(text, &["/"]),
            (Self::Release, Value::Text(text)) if text == AUTO => Ok(()),
            (Self::Release, Value::Text(text)) => {
                text.parse::<Release>().map(drop).map_err(|error| unknown_word(&error))
            }
            (Self::Scope, Value::Text(text)) => {
                let known = [Scope::Named, Scope::Distribution].map(scope_word);
                let unknown = || format!("'{text}' is not a scope; write {}", self.shape());
                known.contains(&text.as_str()).then_some(()).ok_or_else(unknown)
            }
            (_, other) => Err(format!("it is {}; it must be {}", other.kind(), self.shape())),
        }
    }

    fn begins(self, text: &str, prefixes: &[&str]) -> Result<(), String> {
        one_line(text)?;
        let found =
            prefixes.iter().any(|prefix| text.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()));
        let wrong = || format!("'{text}' is not right; it must be {}", self.shape());
        (found && !text.contains(' ')).then_some(()).ok_or_else(wrong)
    }

    /// Reads a value from the command line, where a list is separated by commas. The result is not checked yet.
    ///
    /// # Errors
    /// What is wrong; what would be right.
    pub fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Packages | Self::Patterns | Self::Strings if text.is_empty() => Ok(Value::List(Vec::new())),
            Self::Packages | Self::Patterns | Self::Strings if text.starts_with('[') => {
                Err("a list is written with commas here, without brackets and quotes: a,b".to_owned())
            }
            Self::Packages | Self::Patterns | Self::Strings => {
                Ok(Value::List(text.split(',').map(|item| item.trim().to_owned()).collect()))
            }
            Self::Flag => match text {
                "true" | "on" | "yes" => Ok(Value::Flag(true)),
                "false" | "off" | "no" => Ok(Value::Flag(false)),
                _ => Err(format!("'{text}' is not a flag; write true or false")),
            },
            Self::Number => text
                .parse()
                .map(Value::Number)
                .map_err(|_| format!("'{text}' is not a number; it must be {}", self.shape())),
            Self::Text | Self::Sha256 | Self::Url | Self::Path | Self::Release | Self::Scope => {
                Ok(Value::Text(text.to_owned()))
            }
        }
    }
}

const fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Named => "named",
        Scope::Distribution => "distribution",
    }
}

fn package(text: &str) -> Result<(), String> {
    PackageSpec::try_from(text.to_owned()).map(drop).map_err(|error| error.to_string())
}

fn pattern(text: &str) -> Result<(), String> {
    PackagePattern::try_from(text.to_owned()).map(drop).map_err(|error| error.to_string())
}

/// A line break in a value could add a line to a file that a step writes.
fn one_line(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err(format!("{text:?} has a line break or a control character; write one line of text"));
    }
    Ok(())
}

#[cfg(test)]
impl Type {
    /// Some value of this type.
    pub(in crate::procedure) fn example(self) -> Value {
        match self {
            Self::Packages => Value::List(vec!["package".to_owned()]),
            Self::Patterns => Value::List(vec!["python-*".to_owned()]),
            Self::Strings => Value::List(vec!["text".to_owned()]),
            Self::Text => Value::Text("text".to_owned()),
            Self::Flag => Value::Flag(true),
            Self::Number => Value::Number(0),
            Self::Sha256 => Value::Text("0".repeat(64)),
            Self::Url => Value::Text("https://mirror.example/archive".to_owned()),
            Self::Path => Value::Text("/path".to_owned()),
            Self::Release => Value::Text(AUTO.to_owned()),
            Self::Scope => Value::Text(scope_word(Scope::Named).to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_of_their_type_and_survive_the_command_line() {
        for kind in Type::ALL {
            let example = kind.example();
            assert_eq!(kind.check(&example), Ok(()), "{kind}");
            assert_eq!(kind.read(&example.to_string()).as_ref(), Ok(&example), "{kind}");
        }
    }

    #[test]
    fn what_is_wrong_and_what_would_be_right() {
        let wrong = |kind: Type, text: &str| {
            kind.read(text).and_then(|value| kind.check(&value)).expect_err("must be refused")
        };
        insta::assert_snapshot!(wrong(Type::Packages, "etcd,--force"), @"'--force' is not a package: write 'name' or 'name=version', of letters, digits and '+ - . _ : ~'");
        insta::assert_snapshot!(wrong(Type::Flag, "maybe"), @"'maybe' is not a flag; write true or false");
        insta::assert_snapshot!(wrong(Type::Number, "-1"), @"'-1' is not a number; it must be a whole number, 0 or more");
        insta::assert_snapshot!(wrong(Type::Sha256, "abc"), @"'abc' is not a SHA-256 digest: 64 hexadecimal digits, as `sha256sum FILE` prints them");
        insta::assert_snapshot!(wrong(Type::Url, "ftp://x/y"), @"'ftp://x/y' is not right; it must be a URL, a string beginning with http://, https:// or file:///");
        insta::assert_snapshot!(wrong(Type::Path, "var/lib"), @"'var/lib' is not right; it must be an absolute path, a string beginning with /");
        insta::assert_snapshot!(wrong(Type::Scope, "all"), @"'all' is not a scope; write 'named' or 'distribution'");
        insta::assert_snapshot!(wrong(Type::Text, "a\nb"), @r#""a\nb" has a line break or a control character; write one line of text"#);
        insta::assert_snapshot!(wrong(Type::Release, "Mitaka"), @"unknown OpenStack release 'Mitaka'; did you mean 'mitaka'?");
    }

    #[test]
    fn lists_may_be_empty_and_have_spaces() {
        assert_eq!(Type::Packages.read(""), Ok(Value::List(Vec::new())));
        assert_eq!(Type::Strings.read("a, b"), Ok(Value::List(vec!["a".into(), "b".into()])));
    }

    #[test]
    fn values_are_plain_in_documents() {
        let values =
            [Value::Flag(true), Value::Number(3), Value::Text("x".into()), Value::List(vec!["y".into()])];
        let json = serde_json::to_string(&values).expect("json");
        assert_eq!(json, r#"[true,3,"x",["y"]]"#);
        assert_eq!(serde_json::from_str::<Vec<Value>>(&json).expect("values"), values);
    }
}
