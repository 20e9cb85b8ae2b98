//! Tests of the ini editor: real files, the dialect's corners, and properties over arbitrary text.

use super::*;
use proptest::prelude::*;

const NEUTRON: &str = "\
[DEFAULT]
state_path = /var/lib/neutron
#bind_host = 0.0.0.0
core_plugin = calico
service_plugins = a
service_plugins = b,
   c

[oslo_concurrency]

# Enables or disables inter-process locks. (boolean value)
#disable_process_locking = false

# Directory to use for lock files. For security, the specified directory should
# a lock path must be set.
# lock_path = /var/lib/neutron/lock

[quotas]
# lock_path = elsewhere
url = http://host/#frag ; not a comment
";

fn done(text: &str, section: &str, key: &str, value: &str) -> Edit {
    set(text, section, key, value).expect("a text in the dialect")
}

fn read(text: &str, section: &str, key: &str) -> Option<String> {
    get(text, section, key).expect("a text in the dialect")
}

/// What an edit changed: lines only before, lines only after.
fn difference(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = before.iter().zip(&after).take_while(|(b, a)| b == a).count();
    let (before, after) = (&before[same..], &after[same..]);
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(|(b, a)| b == a).count();
    let side = |mark: &str, lines: &[&str]| {
        lines[..lines.len() - tail].iter().map(|line| format!("{mark}{line}\n")).collect::<String>()
    };
    format!("@{}\n{}{}", same + 1, side("-", before), side("+", after))
}

#[test]
fn the_seeds_lock_path_is_uncommented_in_its_own_section() {
    let edit = done(NEUTRON, "oslo_concurrency", "lock_path", "$state_path/lock");
    assert_eq!(edit.change, LineChange::Uncommented { line: 16 });
    insta::assert_snapshot!(difference(NEUTRON, &edit.text), @r"
    @16
    -# lock_path = /var/lib/neutron/lock
    +lock_path = $state_path/lock
    ");
    assert_eq!(read(&edit.text, "oslo_concurrency", "lock_path").as_deref(), Some("$state_path/lock"));
    assert_eq!(
        done(&edit.text, "oslo_concurrency", "lock_path", "$state_path/lock").change,
        LineChange::Unchanged
    );
}

#[test]
fn an_active_key_is_replaced_where_it_stands_and_keeps_its_spacing() {
    let text = "[a]\nkey=old\n# key = other\n[b]\nkey : x\n";
    assert_eq!(done(text, "a", "key", "new").text, text.replace("old", "new"));
    let edit = done(text, "b", "key", "y");
    assert_eq!(edit.text, text.replace(": x", ": y"));
    assert_eq!(edit.change, LineChange::Replaced { line: 5, from: "x".into() });
    assert_eq!(done("[a]\nkey =  \n", "a", "key", "v").text, "[a]\nkey = v\n");
    assert_eq!(done("[a]\nkey = v\n", "a", "key", "").text, "[a]\nkey =\n");
}

#[test]
fn of_a_repeated_key_the_last_counts_and_its_continuation_lines_belong_to_it() {
    assert_eq!(read(NEUTRON, "DEFAULT", "service_plugins").as_deref(), Some("b,\nc"));
    let edit = done(NEUTRON, "DEFAULT", "service_plugins", "d");
    insta::assert_snapshot!(difference(NEUTRON, &edit.text), @r"
    @6
    -service_plugins = b,
    -   c
    +service_plugins = d
    ");
    let recurring = "[a]\nkey = 1\n[b]\nkey = 2\n[A]\nkey = 3\n";
    assert_eq!(read(recurring, "a", "key").as_deref(), Some("3"));
    assert_eq!(done(recurring, "a", "key", "4").text, recurring.replace('3', "4"));
    assert_eq!(read("[default]\nkey = 1\n", "DEFAULT", "key"), None);
}

#[test]
fn a_new_key_goes_below_the_headings_own_comment() {
    let felix = "[global]\n# Where etcd is.\n# EtcdAddr = x\n\n# next\nother = 1\n";
    let edit = done(felix, "global", "DatastoreType", "etcdv3");
    assert_eq!(
        edit.text,
        "[global]\n# Where etcd is.\n# EtcdAddr = x\nDatastoreType = etcdv3\n\n# next\nother = 1\n"
    );
    assert_eq!(edit.change, LineChange::Added { line: 4 });
    let described = "[global]\n# What other is.\nother = 1\n";
    assert_eq!(done(described, "global", "k", "v").text, "[global]\nk = v\n# What other is.\nother = 1\n");
    assert_eq!(done("[global]", "global", "k", "v").text, "[global]\nk = v");
    let prose = "[a]\n\n# key: what it is for\n";
    assert_eq!(done(prose, "a", "key", "v").text, "[a]\nkey = v\n\n# key: what it is for\n");
}

#[test]
fn a_missing_section_is_appended() {
    assert_eq!(done("", "a", "k", "v").text, "[a]\nk = v\n");
    assert_eq!(done("[b]\nx = 1\n", "a", "k", "v").text, "[b]\nx = 1\n\n[a]\nk = v\n");
    assert_eq!(done("[b]\nx = 1", "a", "k", "v").text, "[b]\nx = 1\n\n[a]\nk = v");
    assert_eq!(done("# only\n\n", "a", "k", "v").change, LineChange::AddedSection);
}

#[test]
fn line_ends_are_kept() {
    let text = "[a]\r\nx = 1\r\n\r\n[b]\r\n";
    assert_eq!(done(text, "a", "x", "2").text, text.replace('1', "2"));
    assert_eq!(done(text, "b", "k", "v").text, "[a]\r\nx = 1\r\n\r\n[b]\r\nk = v\r\n");
    assert_eq!(done(text, "c", "k", "v").text, "[a]\r\nx = 1\r\n\r\n[b]\r\n\r\n[c]\r\nk = v\r\n");
}

#[test]
fn quotes_do_not_make_a_value_different() {
    let text = "[a]\nk = \"v\"\n";
    assert_eq!(read(text, "a", "k").as_deref(), Some("v"));
    assert_eq!(done(text, "a", "k", "v").change, LineChange::Unchanged);
    assert_eq!(read("[a]\nk = \"\n", "a", "k").as_deref(), Some(""));
    assert_eq!(read(NEUTRON, "quotas", "url").as_deref(), Some("http://host/#frag ; not a comment"));
}

#[test]
fn what_is_not_in_the_dialect_is_left_alone_with_the_line_named() {
    let message = |text: &str| set(text, "a", "k", "v").expect_err(text).to_string();
    insta::assert_snapshot!(message("[a]\n\n  x = 1\n"), @"line 3: an indented line that continues no value");
    insta::assert_snapshot!(message("[a]\n# c\n  x = 1\n"), @"line 3: an indented line that continues no value");
    insta::assert_snapshot!(message("k = 1\n[a]\n"), @"line 1: a key before the first [section]");
    insta::assert_snapshot!(message("[a\n"), @"line 1: a section heading without ']' at its end");
    insta::assert_snapshot!(message("[] \n"), @"line 1: a section heading without a name");
    insta::assert_snapshot!(message("[a]\nword\n"), @"line 2: neither a comment nor a [section] nor 'key = value'");
    insta::assert_snapshot!(message("[a]\n= 1\n"), @"line 2: a value without a key");
    insta::assert_snapshot!(message("[a]\nx = 1\r2\n"), @"line 2: a carriage return in the middle of the line");
}

#[test]
fn arguments_that_would_not_read_back_are_refused() {
    for (section, key, value) in [
        ("", "k", "v"),
        ("a]", "k", "v"),
        ("a", "", "v"),
        ("a", "k=", "v"),
        ("a", "#k", "v"),
        ("a", " k", "v"),
        ("a", "k", "v\nx = 1"),
        ("a", "k", " v"),
    ] {
        let error = set("[a]\n", section, key, value).expect_err(value);
        assert!(matches!(error, IniError::Argument { .. }), "{section} {key} {value}");
    }
}

fn a_line() -> impl Strategy<Value = String> {
    let word = "[a-c]{1,2}";
    prop_oneof![
        Just(String::new()),
        "[#;]{1,2} ?[a-c]{1,2} ?= ?[a-z]{0,3}",
        "[#;] [a-z ]{0,9}",
        word.prop_map(|name| format!("[{name}]")),
        "[a-c]{1,2} ?[=:] ?[a-z'\"#]{0,4} {0,2}",
        "[a-c]{1,2} = [a-z]{0,3}\n  [a-z]{1,4}",
    ]
}

/// Texts in the dialect, with either line end and with or without the last one.
fn a_text() -> impl Strategy<Value = String> {
    (prop::collection::vec(a_line(), 0..20), any::<bool>(), any::<bool>()).prop_map(|(lines, crlf, end)| {
        let mut text = format!("[a]\n{}", lines.join("\n"));
        if end {
            text.push('\n');
        }
        if crlf { text.replace('\n', "\r\n") } else { text }
    })
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_prints_as_it_was(text in any::<String>(), soup in "[\\[\\]a=:#; \t\r\n\"'é]{0,60}") {
        for text in [text, soup] {
            if let Ok(document) = Document::parse(&text) {
                prop_assert_eq!(document.with(0, 0, ""), text.clone());
            }
            let _ = set(&text, "a", "a", "v");
            let _ = get(&text, "a", "a");
        }
    }

    #[test]
    fn a_set_key_reads_back_and_twice_is_once(
        text in a_text(), section in "[a-d]{1,2}", key in "[a-d]{1,2}", value in "[a-z$/'\"#=:]{0,6}",
    ) {
        let edit = done(&text, &section, &key, &value);
        prop_assert_eq!(read(&edit.text, &section, &key), Some(unquote(&value).to_owned()));
        let again = done(&edit.text, &section, &key, &value);
        prop_assert_eq!(again, Edit { text: edit.text, change: LineChange::Unchanged });
    }

    #[test]
    fn only_the_wanted_line_changes(text in a_text(), section in "[a-d]{1,2}", key in "[a-d]{1,2}", value in "[a-z]{1,6}") {
        let edit = done(&text, &section, &key, &value);
        let (before, after): (Vec<&str>, Vec<&str>) = (text.lines().collect(), edit.text.lines().collect());
        match edit.change {
            LineChange::Unchanged => prop_assert_eq!(&edit.text, &text),
            LineChange::Uncommented { line } => {
                prop_assert_eq!(&before[..line - 1], &after[..line - 1]);
                prop_assert_eq!(&before[line..], &after[line..]);
            }
            LineChange::Replaced { line, from } => {
                prop_assert_eq!(&before[..line - 1], &after[..line - 1]);
                prop_assert_eq!(&before[line + from.matches('\n').count()..], &after[line..]);
            }
            LineChange::Added { line } => {
                prop_assert_eq!(&before[..line - 1], &after[..line - 1]);
                prop_assert_eq!(&before[line - 1..], &after[line..]);
            }
            LineChange::AddedSection => prop_assert_eq!(&before[..], &after[..before.len()]),
        }
        let crlf = |text: &str| text.matches("\r\n").count() == text.matches('\n').count();
        prop_assert_eq!(crlf(&edit.text), crlf(&text) || !text.contains('\n'));
    }
}
