//! Texts with `${parameter}` in them, and the arguments that are made of such texts. Types are checked elsewhere.

use super::value::Value;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Parameter(String),
}

/// A text in which `${name}` stands for a parameter's value. `$${` is a plain `${`; any other `$` is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads the text.
    ///
    /// # Errors
    /// What is wrong; what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, from) = (&rest[..at], &rest[at + 2..]);
            if let Some(before) = before.strip_suffix('$') {
                plain.push_str(before);
                plain.push_str("${");
                rest = from;
                continue;
            }
            plain.push_str(before);
            let Some((name, after)) = from.split_once('}') else {
                return Err(format!(
                    "'${{' in '{text}' has no '}}'; write '${{name}}', or '$${{' for a plain '${{'"
                ));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Parameter(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The parameter, if the text is one `${name}` and nothing else: then any type of value can stand there.
    #[must_use]
    pub fn sole_parameter(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Parameter(name)] => Some(name),
            _ => None,
        }
    }

    /// Every parameter in the text.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Parameter(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    fn render(&self, value: Lookup<'_>, missing: &mut Vec<String>) -> Value {
        if let Some(name) = self.sole_parameter() {
            return look_up(name, value, missing);
        }
        let text = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Parameter(name) => look_up(name, value, missing).to_string(),
        });
        Value::Text(text.collect())
    }
}

/// Tells a parameter's value, if it has one.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<Value>;

fn look_up(name: &str, value: Lookup<'_>, missing: &mut Vec<String>) -> Value {
    value(name).unwrap_or_else(|| {
        missing.push(name.to_owned());
        Value::Text(String::new())
    })
}

/// An argument of an action as the procedure has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(u64),
    /// A text, or one parameter of any type.
    Text(Template),
    /// A list, into which list parameters are spliced.
    List(Vec<Template>),
}

impl Argument {
    /// Every parameter in the argument.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        let templates = match self {
            Self::Flag(_) | Self::Number(_) => &[],
            Self::Text(template) => std::slice::from_ref(template),
            Self::List(templates) => templates.as_slice(),
        };
        templates.iter().flat_map(Template::parameters)
    }

    /// The argument with the parameters' values filled in.
    ///
    /// # Errors
    /// The parameters that have no value.
    pub fn render(&self, value: Lookup<'_>) -> Result<Value, Vec<String>> {
        let mut missing = Vec::new();
        let rendered = match self {
            Self::Flag(on) => Value::Flag(*on),
            Self::Number(number) => Value::Number(*number),
            Self::Text(template) => template.render(value, &mut missing),
            Self::List(templates) => {
                let items =
                    templates.iter().flat_map(|template| match template.render(value, &mut missing) {
                        Value::List(items) => items,
                        scalar => vec![scalar.to_string()],
                    });
                Value::List(items.collect())
            }
        };
        if missing.is_empty() { Ok(rendered) } else { Err(missing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(name: &str) -> Option<Value> {
        match name {
            "port" => Some(Value::Number(2379)),
            "list" => Some(Value::List(vec!["a".into(), "b".into()])),
            "host" => Some(Value::Text("${port}".into())),
            _ => None,
        }
    }

    fn render(text: &str) -> Result<Value, Vec<String>> {
        Argument::Text(Template::parse(text).expect("a template")).render(&values)
    }

    #[test]
    fn parameters_are_filled_in_once() {
        assert_eq!(render("http://x:${port}/"), Ok(Value::Text("http://x:2379/".into())));
        assert_eq!(render("${list}"), Ok(Value::List(vec!["a".into(), "b".into()])));
        assert_eq!(render("<${host}>"), Ok(Value::Text("<${port}>".into())), "a value is not a template");
        assert_eq!(
            render("$state_path/lock"),
            Ok(Value::Text("$state_path/lock".into())),
            "oslo's own dollar"
        );
        assert_eq!(render("$${port}$"), Ok(Value::Text("${port}$".into())));
        assert_eq!(render(""), Ok(Value::Text(String::new())));
        assert_eq!(render("${x}-${y}"), Err(vec!["x".into(), "y".into()]));
    }

    #[test]
    fn lists_are_spliced_into_lists() {
        let list = ["z", "${list}", "p${port}"].map(|text| Template::parse(text).expect("a template"));
        let rendered = Argument::List(list.to_vec()).render(&values);
        assert_eq!(rendered, Ok(Value::List(["z", "a", "b", "p2379"].map(String::from).to_vec())));
    }

    #[test]
    fn an_open_brace_is_found() {
        insta::assert_snapshot!(Template::parse("a${port").expect_err("open"), @"'${' in 'a${port' has no '}'; write '${name}', or '$${' for a plain '${'");
    }

    proptest! {
        #[test]
        fn any_text_without_parameters_is_itself(text in "[^{]*") {
            let template = Template::parse(&text).expect("no brace");
            prop_assert_eq!(Argument::Text(template).render(&values), Ok(Value::Text(text)));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = Template::parse(&text);
        }
    }
}
