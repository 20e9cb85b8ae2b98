//! The arguments of each action as people write them: names, kinds, which must be there. A test keeps this in step
//! with the types of `crate::action`, which are what agents are given.

use super::diagnostic::unknown_word;
use super::value::{Type, Value};
use crate::action::PackageSpec;
use crate::facts::Component;
use crate::id::StepId;

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same as a parameter of this type.
    Is(Type),
    /// Names of packages. A parameter of packages may stand there too: its pins are dropped.
    PackageNames,
    /// Earlier steps of the same stage.
    Steps,
    /// Software that agents can ask for its version.
    Component,
}

/// One argument of an action.
#[derive(Debug, PartialEq, Eq)]
pub struct ArgumentSchema {
    /// Its name.
    pub name: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// Whether it must be there; a list that must be there must also hold something.
    pub required: bool,
}

/// One action.
#[derive(Debug, PartialEq, Eq)]
pub struct ActionSchema {
    /// Its name, `object.verb`.
    pub name: &'static str,
    /// How long a step may take if it does not say, in seconds.
    pub timeout_s: u64,
    /// Its arguments.
    pub arguments: &'static [ArgumentSchema],
}

const fn needs(name: &'static str, kind: Kind) -> ArgumentSchema {
    ArgumentSchema { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> ArgumentSchema {
    ArgumentSchema { name, kind, required: false }
}

const fn action(name: &'static str, timeout_s: u64, arguments: &'static [ArgumentSchema]) -> ActionSchema {
    ActionSchema { name, timeout_s, arguments }
}

const FLAG: Kind = Kind::Is(Type::Flag);
const NUMBER: Kind = Kind::Is(Type::Number);
const PACKAGES: Kind = Kind::Is(Type::Packages);
const PATH: Kind = Kind::Is(Type::Path);
const SHA256: Kind = Kind::Is(Type::Sha256);
const TEXT: Kind = Kind::Is(Type::Text);
const TEXTS: Kind = Kind::Is(Type::Strings);
const URL: Kind = Kind::Is(Type::Url);

/// Every action. The time limits are for slow machines behind slow mirrors: a limit that is hit is a failed step.
pub const ACTIONS: &[ActionSchema] = &[
    action(
        "package.install",
        1800,
        &[
            needs("packages", PACKAGES),
            may("if_installed", PACKAGES),
            may("scope", Kind::Is(Type::Scope)),
            may("also", Kind::Is(Type::Patterns)),
            may("allow_removals", FLAG),
            may("allow_downgrades", FLAG),
            may("keep_down", TEXTS),
        ],
    ),
    action(
        "etcd.install_archive",
        900,
        &[
            needs("url", URL),
            needs("sha256", SHA256),
            needs("binaries", TEXTS),
            needs("directory", PATH),
            needs("unit", TEXT),
            may("within_s", NUMBER),
            may("max_lag", NUMBER),
        ],
    ),
    action(
        "etcd.install_packages",
        1800,
        &[
            needs("packages", PACKAGES),
            may("also", Kind::Is(Type::Patterns)),
            may("allow_downgrades", FLAG),
            needs("unit", TEXT),
            needs("within_s", NUMBER),
            needs("max_lag", NUMBER),
        ],
    ),
    action("etcd.check_cluster", 300, &[needs("within_s", NUMBER), needs("max_lag", NUMBER)]),
    action("etcd.back_up", 900, &[needs("directory", PATH)]),
    action(
        "etcd.check_member",
        900,
        &[needs("within_s", NUMBER), needs("settle_s", NUMBER), needs("max_lag", NUMBER)],
    ),
    action("etcd.check_endpoint", 300, &[needs("within_s", NUMBER)]),
    action("pip.uninstall", 300, &[needs("distribution", TEXT)]),
    action(
        "python.install_archive",
        900,
        &[needs("distribution", TEXT), needs("version", TEXT), needs("url", URL), needs("sha256", SHA256)],
    ),
    action(
        "service.restart",
        180,
        &[
            needs("unit", TEXT),
            may("newer_than_packages", Kind::PackageNames),
            may("newer_than_steps", Kind::Steps),
            may("enable", FLAG),
        ],
    ),
    action("service.disable", 180, &[needs("unit", TEXT)]),
    action(
        "process.kill_stale",
        120,
        &[
            needs("program", TEXT),
            needs("pid_files", PATH),
            needs("packages", Kind::PackageNames),
            may("owner", TEXT),
        ],
    ),
    action(
        "ini.set",
        60,
        &[needs("file", PATH), needs("section", TEXT), needs("key", TEXT), needs("value", TEXT)],
    ),
    action(
        "service.check",
        120,
        &[may("active", TEXTS), may("inactive", TEXTS), may("newer_than_packages", Kind::PackageNames)],
    ),
    action(
        "process.check",
        300,
        &[needs("program", TEXT), needs("pid_files", PATH), needs("within_s", NUMBER)],
    ),
    action("version.check", 60, &[needs("component", Kind::Component), needs("package", TEXT)]),
    action("http.check", 300, &[needs("url", URL), may("contains", TEXT), needs("within_s", NUMBER)]),
];

/// The argument that says how long a check keeps looking; the step's own limit must leave room for it.
pub(super) const WITHIN: &str = "within_s";
/// The argument that says how long what is looked for must stay so; that time is counted within [`WITHIN`].
pub(super) const SETTLE: &str = "settle_s";

impl ActionSchema {
    /// The action of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ACTIONS.iter().find(|action| action.name == name)
    }

    /// The argument of that name.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&'static ArgumentSchema> {
        self.arguments.iter().find(|argument| argument.name == name)
    }
}

impl ArgumentSchema {
    /// Makes a rendered value ready for the action, and checks it.
    ///
    /// # Errors
    /// What is wrong; what would be right.
    pub fn accept(&self, value: Value) -> Result<Value, String> {
        let value = match (self.kind, value) {
            (Kind::PackageNames, Value::List(items)) => {
                Value::List(items.iter().map(|item| without_pin(item)).collect())
            }
            (_, value) => value,
        };
        self.kind.check(&value)?;
        match &value {
            Value::List(items) if self.required && items.is_empty() => {
                Err(format!("it is empty; it must be {}, with at least one", self.kind.shape()))
            }
            _ => Ok(value),
        }
    }
}

fn without_pin(package: &str) -> String {
    package.split_once('=').map_or(package, |(name, _)| name).to_owned()
}

impl Kind {
    /// What such an argument looks like, for messages.
    #[must_use]
    pub const fn shape(self) -> &'static str {
        match self {
            Self::Is(kind) => kind.shape(),
            Self::PackageNames => "a list of package names",
            Self::Steps => "a list of step ids",
            Self::Component => "a component whose version can be asked for",
        }
    }

    /// Whether it is a list.
    #[must_use]
    pub const fn is_list(self) -> bool {
        match self {
            Self::Is(kind) => kind.is_list(),
            Self::PackageNames | Self::Steps => true,
            Self::Component => false,
        }
    }

    /// Whether a parameter of this type may be the argument, or be spliced into it.
    #[must_use]
    pub fn takes(self, parameter: Type) -> bool {
        match self {
            Self::Is(Type::Text) => matches!(parameter, Type::Text | Type::Path | Type::Url | Type::Sha256),
            Self::Is(Type::Strings) => parameter == Type::Strings,
            Self::Is(kind) => parameter == kind,
            Self::PackageNames => parameter == Type::Packages,
            Self::Steps | Self::Component => false,
        }
    }

    fn check(self, value: &Value) -> Result<(), String> {
        let items = |items: &[String], check: &dyn Fn(&str) -> Result<(), String>| {
            items.iter().try_for_each(|item| check(item))
        };
        match (self, value) {
            (Self::Is(kind), value) => kind.check(value),
            (Self::PackageNames, Value::List(names)) => items(names, &|name| {
                PackageSpec::try_from(name.to_owned()).map(drop).map_err(|error| error.to_string())
            }),
            (Self::Steps, Value::List(ids)) => {
                items(ids, &|id| StepId::new(id).map(drop).map_err(|error| error.to_string()))
            }
            (Self::Component, Value::Text(word)) => {
                word.parse::<Component>().map(drop).map_err(|error| unknown_word(&error))
            }
            (_, other) => Err(format!("it is {}; it must be {}", other.kind(), self.shape())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;
    use serde_json::{Map, json};

    fn example(kind: Kind) -> Value {
        match kind {
            Kind::Is(kind) => kind.example(),
            Kind::PackageNames | Kind::Steps => Value::List(vec!["name".into()]),
            Kind::Component => Value::Text("felix".into()),
        }
    }

    fn build(
        schema: &ActionSchema,
        with: impl Fn(&ArgumentSchema) -> bool,
    ) -> Result<Action, serde_json::Error> {
        let mut map = Map::from_iter([("action".to_owned(), json!(schema.name))]);
        for argument in schema.arguments.iter().filter(|argument| with(argument)) {
            map.insert(argument.name.to_owned(), json!(example(argument.kind)));
        }
        serde_json::from_value(map.into())
    }

    #[test]
    fn the_schema_is_that_of_the_types() {
        for schema in ACTIONS {
            let all = build(schema, |_| true).expect(schema.name);
            assert_eq!(all.name(), schema.name);
            let written = serde_json::to_value(&all).expect("json");
            let fields = written.as_object().expect("an object").len() - 1;
            assert_eq!(fields, schema.arguments.len(), "{}: every field is in the schema", schema.name);
            for left_out in schema.arguments {
                let built = build(schema, |argument| argument.name != left_out.name);
                assert_eq!(built.is_err(), left_out.required, "{} without {}", schema.name, left_out.name);
            }
        }
    }

    #[test]
    fn every_action_of_the_types_is_in_the_schema() {
        let unknown =
            serde_json::from_value::<Action>(json!({"action": "?"})).expect_err("unknown").to_string();
        let known: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, ACTIONS.iter().map(|action| action.name).collect::<Vec<_>>());
    }

    #[test]
    fn pins_are_dropped_where_names_are_wanted() {
        let schema = ActionSchema::named("service.restart").and_then(|a| a.argument("newer_than_packages"));
        let accepted = schema.expect("known").accept(Value::List(vec!["etcd=2.3.8".into(), "x".into()]));
        assert_eq!(accepted, Ok(Value::List(vec!["etcd".into(), "x".into()])));
    }

    #[test]
    fn a_list_that_must_be_there_must_hold_something() {
        let schema = ActionSchema::named("package.install").expect("known");
        let empty = |name| schema.argument(name).expect("known").accept(Value::List(Vec::new()));
        assert!(empty("packages").is_err());
        assert!(empty("if_installed").is_ok());
    }
}
