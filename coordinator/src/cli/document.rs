//! Documents off the wire: read for people, or passed on as JSON.
//!
//! What nodes say is shown on an operator's terminal: control characters in it are taken out when it is read for people.

use super::error::CliError;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wavegate_proto::convert::{BadMessage, read_document};
use wavegate_proto::v1;

/// A document as a value of the core, fit for a terminal.
///
/// # Errors
/// [`CliError::Document`] if it is of another schema or not valid.
pub fn read<T: DeserializeOwned>(schema: &'static str, document: &v1::Document) -> Result<T, CliError> {
    let mut value: Value = read_document(schema, Some(document))?;
    clean(&mut value);
    Ok(serde_json::from_value(value).map_err(|source| BadMessage::Document { schema, source })?)
}

/// A document as it was received, over several lines.
///
/// # Errors
/// [`CliError::Document`] if it is of another schema or not valid.
pub fn pretty(schema: &'static str, document: &v1::Document) -> Result<String, CliError> {
    let value: Value = read_document(schema, Some(document))?;
    Ok(format!("{value:#}\n"))
}

/// A document as it was received, in one line.
///
/// # Errors
/// [`CliError::Document`] if it is of another schema or not valid.
pub fn line(schema: &'static str, document: &v1::Document) -> Result<String, CliError> {
    let value: Value = read_document(schema, Some(document))?;
    Ok(format!("{value}\n"))
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable(text),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text without what could move the cursor or change colours; line breaks and tabs stay.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(json: &str) -> v1::Document {
        v1::Document { schema: "waiting".to_owned(), json: json.as_bytes().to_vec() }
    }

    #[test]
    fn nothing_a_node_says_reaches_the_terminal_as_a_command() {
        let text: Vec<String> = read("waiting", &document(r#"["a\u001b[2Jb\nc"]"#)).expect("a list");
        assert_eq!(text, ["a\u{fffd}[2Jb\nc"]);
    }

    #[test]
    fn json_is_passed_on_with_fields_that_this_program_does_not_know() {
        let document = document(r#"{"new":[1,{"x":"\u001b"}]}"#);
        assert_eq!(line("waiting", &document).expect("a line"), "{\"new\":[1,{\"x\":\"\\u001b\"}]}\n");
        assert!(pretty("waiting", &document).expect("text").ends_with("}\n"));
        let other = line("plan", &document).expect_err("another schema").text();
        assert!(other.contains("schema plan was expected, waiting came"), "{other}");
    }
}
