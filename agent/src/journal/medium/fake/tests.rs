//! Tests of the directory in memory: what is there after what.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

const FILE: &str = "file";

fn text(medium: &FakeMedium) -> Option<String> {
    let bytes = medium.read(FILE).expect("read")?;
    Some(String::from_utf8(bytes).expect("text").replace('\0', "0"))
}

fn texts(medium: &FakeMedium) -> Vec<Option<String>> {
    let cut = |unsynced| text(&medium.after_power_cut(unsynced));
    std::iter::once(text(&medium.after_kill())).chain(Unsynced::ALL.map(cut)).collect()
}

/// After a kill; after a power cut that loses, tears, leaves holes in and keeps what was not synced.
fn all(texts: [Option<&str>; 5]) -> Vec<Option<String>> {
    texts.map(|text| text.map(ToOwned::to_owned)).into()
}

#[test]
fn bytes_and_names_are_safe_when_they_are_synced() {
    let medium = FakeMedium::default();
    let mut file = medium.create(FILE).expect("made");
    file.append(b"ab").expect("written");
    assert_eq!(texts(&medium), all([Some("ab"), None, Some("a"), Some("0b"), Some("ab")]));
    file.sync().expect("synced");
    assert_eq!(texts(&medium), all([Some("ab"), None, Some("ab"), Some("ab"), Some("ab")]));
    medium.sync().expect("synced");
    file.append(b"cdef").expect("written");
    assert_eq!(
        texts(&medium),
        all([Some("abcdef"), Some("ab"), Some("abcd"), Some("ab00ef"), Some("abcdef")])
    );
    file.cut(3).expect("cut");
    assert_eq!(texts(&medium), vec![Some("abc".to_owned()); 5]);
    let mut new = medium.create("new").expect("made");
    new.append(b"n").expect("written");
    new.sync().expect("synced");
    medium.rename("new", FILE).expect("renamed");
    assert_eq!(texts(&medium), all([Some("n"), Some("abc"), Some("n"), Some("n"), Some("n")]));
    // The agent was killed, and the next one did not sync before the power went.
    assert_eq!(text(&medium.after_kill().after_power_cut(Unsynced::Lost)).as_deref(), Some("abc"));
}

#[test]
fn a_stop_is_before_in_the_middle_or_after_and_nothing_comes_after_it() {
    for (operation, when, expected) in [
        (1, When::Before, Some("")),
        (1, When::Torn, Some("a")),
        (1, When::After, Some("ab")),
        (2, When::Before, Some("ab")),
        (0, When::Torn, None),
    ] {
        let medium = FakeMedium::default();
        medium.stop_at(operation, when);
        let stopped = catch_unwind(AssertUnwindSafe(|| {
            let mut file = medium.create(FILE).expect("made");
            file.append(b"ab").expect("written");
            file.sync().expect("synced");
        }));
        assert!(stopped.expect_err("stopped").is::<AgentKilled>());
        assert_eq!(medium.operations().len(), operation + 1);
        assert_eq!(text(&medium.after_kill()).as_deref(), expected, "{operation} {when:?}");
        assert!(medium.create("other").is_err());
    }
}

#[test]
fn a_full_or_broken_disk_says_so_and_recovers() {
    let medium = FakeMedium::default();
    let mut file = medium.create(FILE).expect("made");
    medium.set_room(Some(3));
    file.append(b"ab").expect("there is room");
    assert_eq!(file.append(b"cd").expect_err("full").kind(), ErrorKind::StorageFull);
    assert_eq!(text(&medium).as_deref(), Some("abc"));
    medium.set_room(None);
    medium.fail_next(Operation::Sync);
    file.append(b"d").expect("room again");
    assert_eq!(file.sync().expect_err("broken").to_string(), "input/output error");
    file.sync().expect("it says that all is well");
}

#[test]
fn one_lock_at_a_time_and_none_is_left_behind() {
    let medium = FakeMedium::default();
    let lock = medium.lock().expect("free");
    assert!(matches!(medium.clone().lock(), Err(TryLockError::WouldBlock)));
    assert!(medium.after_kill().lock().is_ok());
    drop(lock);
    assert!(medium.lock().is_ok());
}
