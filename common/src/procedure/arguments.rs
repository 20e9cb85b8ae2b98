//! Reading a step's arguments and conditions, and checking that what they refer to is there and fits.

use super::condition::Condition;
use super::diagnostic::{Report, suggestion};
use super::fields::{self, Node};
use super::parameters::Parameters;
use super::schema::{ActionSchema, ArgumentSchema, Kind};
use super::template::{Argument, Template};
use super::value::{Type, Value};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where an argument stands and what it must be.
struct Place<'a> {
    what: String,
    schema: &'a ArgumentSchema,
    at: Range<usize>,
}

/// Reads the arguments of an action; `at` is where a missing one is reported.
pub(super) fn read_arguments(
    report: &mut Report<'_>,
    parameters: &mut Parameters,
    action: &'static ActionSchema,
    at: &Range<usize>,
    table: Option<&DeTable<'_>>,
) -> BTreeMap<&'static str, Argument> {
    let mut read = BTreeMap::new();
    let mut present = Vec::new();
    for (key, node) in table.into_iter().flat_map(DeTable::iter) {
        let Some(schema) = action.argument(key.get_ref()) else {
            let hint = suggestion(key.get_ref(), action.arguments.iter().map(|known| known.name));
            report.add(&key.span(), format!("unknown argument '{}' of {}{hint}", key.get_ref(), action.name));
            continue;
        };
        present.push(schema.name);
        let what = format!("argument '{}' of {}", schema.name, action.name);
        let place = Place { what, schema, at: node.span() };
        if let Some(argument) = read_argument(report, parameters, &place, node) {
            read.insert(schema.name, argument);
        }
    }
    for missing in action.arguments.iter().filter(|known| known.required && !present.contains(&known.name)) {
        let shape = missing.kind.shape();
        report.add(at, format!("{} needs argument '{}', {shape}", action.name, missing.name));
    }
    read
}

/// Reads one number of seconds, or a parameter that is one.
pub(super) fn read_seconds(
    report: &mut Report<'_>,
    parameters: &mut Parameters,
    name: &'static str,
    node: &Node<'_>,
) -> Option<Argument> {
    let schema = ArgumentSchema { name, kind: Kind::Is(Type::Number), required: false };
    let place = Place { what: format!("'{name}'"), schema: &schema, at: node.span() };
    read_argument(report, parameters, &place, node)
}

fn read_argument(
    report: &mut Report<'_>,
    parameters: &mut Parameters,
    place: &Place<'_>,
    node: &Node<'_>,
) -> Option<Argument> {
    let is_list = place.schema.kind.is_list();
    let argument = match node.get_ref() {
        DeValue::String(text) => {
            let template = read_template(report, parameters, place, &node.span(), text, false)?;
            if is_list && template.sole_parameter().is_none() {
                return mismatch(report, place, "a string");
            }
            Argument::Text(template)
        }
        DeValue::Array(items) if is_list => {
            let templates: Vec<Option<Template>> = items
                .iter()
                .map(|item| match item.get_ref().as_str() {
                    Some(text) => read_template(report, parameters, place, &item.span(), text, true),
                    None => mismatch(report, place, "a list of other things than strings"),
                })
                .collect();
            Argument::List(templates.into_iter().collect::<Option<_>>()?)
        }
        other => match fields::value(other) {
            Ok(Value::Flag(on)) => Argument::Flag(on),
            Ok(Value::Number(number)) => Argument::Number(number),
            Ok(Value::Text(_) | Value::List(_)) | Err(_) => {
                return mismatch(report, place, fields::kind(other));
            }
        },
    };
    try_defaults(report, parameters, place, &argument);
    Some(argument)
}

fn mismatch<T>(report: &mut Report<'_>, place: &Place<'_>, found: &str) -> Option<T> {
    report.add(&place.at, format!("{}: it is {found}; it must be {}", place.what, place.schema.kind.shape()));
    None
}

/// Checks the argument with the defaults of its parameters, if all have one: what a site sets is checked again.
fn try_defaults(report: &mut Report<'_>, parameters: &Parameters, place: &Place<'_>, argument: &Argument) {
    if let Ok(value) = argument.render(&|name| parameters.default(name))
        && let Err(wrong) = place.schema.accept(value)
    {
        report.add(&place.at, format!("{}: {wrong}", place.what));
    }
}

fn read_template(
    report: &mut Report<'_>,
    parameters: &mut Parameters,
    place: &Place<'_>,
    at: &Range<usize>,
    text: &str,
    is_item: bool,
) -> Option<Template> {
    let template =
        Template::parse(text).map_err(|wrong| report.add(at, format!("{}: {wrong}", place.what))).ok()?;
    let alone = template.sole_parameter().is_some();
    let mut fits = true;
    for name in template.parameters() {
        let Some(kind) = parameters.refer(report, at, name).map(|parameter| parameter.kind) else {
            fits = false;
            continue;
        };
        if let Err(right) = fit(place.schema.kind, kind, alone, is_item) {
            report.add(
                at,
                format!("{}: parameter '{name}' of type {kind} cannot stand here; {right}", place.what),
            );
            fits = false;
        }
    }
    fits.then_some(template)
}

/// Whether a parameter may stand alone as the argument or as one of its items, or inside a longer text.
fn fit(taker: Kind, kind: Type, alone: bool, is_item: bool) -> Result<(), String> {
    match taker {
        Kind::Steps | Kind::Component => Err("write the name itself".to_owned()),
        _ if !alone && kind.is_list() => Err("a list is no part of a text".to_owned()),
        _ if !alone || (is_item && !kind.is_list()) || taker.takes(kind) => Ok(()),
        _ => Err(format!("it must be {}", taker.shape())),
    }
}

/// Reads conditions.
pub(super) fn read_conditions(
    report: &mut Report<'_>,
    parameters: &mut Parameters,
    texts: &[Spanned<&str>],
) -> Vec<Condition> {
    let mut read = Vec::new();
    for text in texts {
        let condition = match Condition::parse(text.get_ref()) {
            Ok(condition) => condition,
            Err(wrong) => {
                parameters.mention(text.get_ref());
                report.add(&text.span(), wrong);
                continue;
            }
        };
        let (name, wanted) = (condition.parameter(), condition.wants());
        if let Some(kind) = parameters.refer(report, &text.span(), name).map(|parameter| parameter.kind)
            && kind != wanted
        {
            let message =
                format!("parameter '{name}' is of type {kind}; this condition needs one of type {wanted}");
            report.add(&text.span(), message);
        }
        read.push(condition);
    }
    read
}
