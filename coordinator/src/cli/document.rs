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
    if is_clean(&document.json) {
        return Ok(read_document(schema, Some(document))?);
    }
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

/// Whether a document certainly has no control characters but line breaks and tabs: then nothing has to be taken out, and
/// the documents of large fleets are read without a detour. In JSON they are escaped, or are DEL or of the upper range.
fn is_clean(json: &[u8]) -> bool {
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if !matches!(bytes.next(), Some(b'"' | b'\\' | b'/' | b'n' | b't')) => return false,
            0x7f => return false,
            0xc2 if bytes.as_slice().first().is_some_and(|next| *next < 0xa0) => return false,
            _ => {}
        }
    }
    true
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
    fn what_can_be_a_command_is_seen() {
        for text in ["a", "é ü …", "a\nb\tc", "\"\\/", "\u{a0}"] {
            assert!(is_clean(&serde_json::to_vec(text).expect("JSON")), "{text:?}");
        }
        for text in ["\u{1b}", "a\r", "\u{8}", "\u{7f}", "\u{9b}2J", "\u{80}", "\0"] {
            assert!(!is_clean(&serde_json::to_vec(text).expect("JSON")), "{text:?}");
        }
        assert!(!is_clean(br#""\u001b""#) && !is_clean(br#""\\\u009b""#) && is_clean(br#""\\u009b""#));
        assert!(!is_clean(br#""\"#), "cut off");
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_directly_is_what_is_read_clean(text in "\\PC*|[\u{0}-\u{ff}]*") {
            let document = v1::Document { schema: "waiting".to_owned(), json: serde_json::to_vec(&text).expect("JSON") };
            proptest::prop_assert_eq!(read::<String>("waiting", &document).expect("a text"), printable(&text));
        }
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
