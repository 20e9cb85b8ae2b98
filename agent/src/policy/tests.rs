//! Whose file a policy may be, when it counts, what a refusal says; and policies for tests of other parts.

use super::*;
use std::fmt::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use wavegate_common::action::{ServiceDisable, ServiceRestart};
use wavegate_common::id::StepId;

/// A policy's line that permits packages of whatever name.
pub(crate) fn any_package_line() -> String {
    let patterns = ('a'..='z').chain('A'..='Z').chain('0'..='9').fold(String::new(), |mut text, first| {
        let _ = write!(text, "\"{first}*\", ");
        text
    });
    format!("packages = [{patterns}]\n")
}

/// A policy in force that permits packages of whatever name and nothing else.
pub(crate) fn any_package() -> InForce {
    let policy = Policy::parse("test", &any_package_line()).expect("a policy");
    InForce { policy: policy.into(), file: DEFAULT_FILE.into(), built_in: false }
}

/// A policy file in a directory.
pub(crate) fn policy_in(directory: &Path, text: &str) -> PolicyFile {
    let path = directory.join("policy.toml");
    std::fs::write(&path, text).expect("written");
    PolicyFile::new(path)
}

fn restart(unit: &str) -> Action {
    let (newer_than_packages, newer_than_steps) = (Vec::new(), Vec::new());
    Action::ServiceRestart(ServiceRestart {
        unit: unit.to_owned(),
        newer_than_packages,
        newer_than_steps,
        enable: true,
    })
}

fn shown(error: &StepError) -> String {
    format!("{}\nnext: {}", error.what, error.next)
}

#[test]
fn without_a_file_the_built_in_policy_holds() {
    let state = tempfile::tempdir().expect("a directory");
    let file = PolicyFile::new(state.path().join("none").join("policy.toml"));
    let in_force = file.read().expect("the built-in one");
    assert!(in_force.built_in);
    assert_eq!(in_force.judge(&restart("calico-felix")), Ok(()));
    let refused = in_force.judge(&restart("sshd")).expect_err("refused");
    insta::assert_snapshot!(shown(&refused).replace(&*state.path().to_string_lossy(), "DIR"), @r"
    service.restart is outside this node's policy: service sshd is not permitted by 'services.restart'
    next: if it is meant, root of this node permits it in DIR/none/policy.toml (there is none yet: begin with what `wavegate-agent policy --shipped` prints), which counts at once; nobody else can. Then plan again, or retry
    ");
}

#[test]
fn an_edit_counts_at_once() {
    let state = tempfile::tempdir().expect("a directory");
    let file = policy_in(state.path(), "");
    let judge = || file.read_for_order().expect("a policy").judge(&restart("calico-felix"));
    assert!(judge().is_err());
    policy_in(state.path(), "services = { restart = [\"calico-felix\"] }");
    assert_eq!(judge(), Ok(()));
    policy_in(state.path(), "");
    assert!(judge().is_err());
}

#[test]
fn what_a_file_says_is_made_out_once_while_it_says_the_same() {
    let state = tempfile::tempdir().expect("a directory");
    let file = policy_in(state.path(), "packages = [\"etcd\"]");
    let read = |file: &PolicyFile| file.read().expect("a policy").policy;
    let first = read(&file);
    policy_in(state.path(), "packages = [\"etcd\"]");
    assert!(Arc::ptr_eq(&first, &read(&file.clone())), "the same, and shared by copies");
    policy_in(state.path(), "packages = [\"etce\"]");
    let second = read(&file);
    assert!(second.permits_package("etce") && !second.permits_package("etcd"));
    policy_in(state.path(), "package = []");
    assert!(file.read().is_err() && file.read().is_err(), "what is wrong stays wrong");
    std::fs::remove_file(state.path().join("policy.toml")).expect("removed");
    assert!(file.read().expect("the built-in one").built_in);
}

#[test]
fn what_can_not_be_used_permits_nothing_and_says_where() {
    let state = tempfile::tempdir().expect("a directory");
    let file = policy_in(state.path(), "packages = [\"etcd\"]\nservice = []\n");
    let refused = shown(&file.read_for_order().expect_err("refused"));
    insta::assert_snapshot!(refused.replace(&*state.path().to_string_lossy(), "DIR"), @r"
    this node's policy cannot be used, so nothing is done here: DIR/policy.toml:2:1: unknown field 'service' in the policy; did you mean 'services'?
    next: as root on this node, mend DIR/policy.toml (`wavegate-agent policy` says whether it is right), which counts at once; then plan again, or retry
    ");
    std::fs::write(state.path().join("policy.toml"), b"packages = [\"\xff\"]").expect("written");
    let refused = shown(&file.read_for_order().expect_err("refused"));
    assert!(refused.contains("cannot read") && refused.contains("UTF-8"), "{refused}");
    let directory = PolicyFile::new(state.path());
    assert!(matches!(directory.read(), Err(PolicyError::Untrusted { .. })));
    let dangling = state.path().join("link.toml");
    symlink(state.path().join("gone"), &dangling).expect("a link");
    assert!(matches!(PolicyFile::new(dangling).read(), Err(PolicyError::File { .. })));
    let pipe = state.path().join("pipe.toml");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    assert!(matches!(PolicyFile::new(pipe).read(), Err(PolicyError::Untrusted { .. })));
    let huge = state.path().join("huge.toml");
    std::fs::File::create(&huge).and_then(|file| file.set_len(LARGEST + 1)).expect("a file");
    let error = PolicyFile::new(huge).read().expect_err("refused").to_string();
    assert!(error.ends_with("is larger than 1 MiB; no policy is"), "{error}");
}

#[test]
fn a_file_that_others_could_have_written_is_refused() {
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    };
    let state = tempfile::tempdir().expect("a directory");
    let above = state.path().join("above");
    let directory = above.join("wavegate");
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = policy_in(&directory, "");
    let path = directory.join("policy.toml");
    let link = state.path().join("link.toml");
    symlink(&path, &link).expect("a link");
    let link = PolicyFile::new(link);
    assert!(file.read().is_ok() && link.read().is_ok());
    for (wrong, bad, good) in
        [(&path, 0o664, 0o644), (&path, 0o646, 0o600), (&directory, 0o1777, 0o755), (&above, 0o775, 0o1777)]
    {
        mode(wrong, bad);
        for file in [&file, &link] {
            let error = file.read().expect_err("refused").to_string();
            let said = format!("{} can be written by others than its owner", wrong.display());
            assert!(error.starts_with(&said) && error.contains("chmod go-w"), "{error}");
        }
        mode(wrong, good);
        assert!(file.read().is_ok());
    }
    mode(state.path(), 0o777);
    assert!(link.read().is_err(), "whoever can replace the link can replace the policy");
    let none = PolicyFile::new(state.path().join("none.toml"));
    assert!(
        none.read().is_err(),
        "whoever can take a policy away could permit what the built-in one permits"
    );
    mode(state.path(), 0o700);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(1000), None).expect("given away");
        let error = file.read().expect_err("refused").to_string();
        assert!(error.contains("belongs to user 1000, not to root"), "{error}");
    }
}

#[test]
fn a_later_step_that_is_refused_keeps_the_task_from_going_on() {
    let policy = Policy::parse("test", "services = { restart = [\"a\"] }").expect("a policy");
    let in_force = InForce { policy: policy.into(), file: DEFAULT_FILE.into(), built_in: false };
    let step = |id: &str, action: Action| PlannedStep {
        id: StepId::new(id).expect("an id"),
        title: String::new(),
        work: Work::Run { action, timeout_s: 1 },
    };
    let disable = Action::ServiceDisable(ServiceDisable { unit: "a".to_owned() });
    let steps = [step("first", restart("a")), step("second", disable)];
    assert_eq!(in_force.judge_steps(&steps[..1]), Ok(()));
    insta::assert_snapshot!(shown(&in_force.judge_steps(&steps).expect_err("refused")), @r"
    not begun, because of a later step, second: service.disable is outside this node's policy: service a is not permitted by 'services.disable'
    next: if it is meant, root of this node permits it in /etc/wavegate/policy.toml, which counts at once; nobody else can. Then plan again, or retry
    ");
    let own = in_force.judge_steps(&steps[1..]).expect_err("refused").what;
    assert!(own.starts_with("service.disable is outside"), "{own}");
}

#[test]
fn a_transaction_may_change_permitted_packages_alone() {
    let policy = Policy::parse("test", "packages = [\"calico-*\", \"libipset*\"]").expect("a policy");
    let in_force = InForce { policy: policy.into(), file: DEFAULT_FILE.into(), built_in: false };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(in_force.judge_transaction(&names(&["calico-felix", "libipset13"])), Ok(()));
    let refused = in_force.judge_transaction(&names(&["calico-felix", "haproxy"])).expect_err("refused");
    insta::assert_snapshot!(shown(&refused), @r"
    what the transaction would change is outside this node's policy: package haproxy is not permitted by 'packages'
    next: if it is meant, root of this node permits it in /etc/wavegate/policy.toml, which counts at once; nobody else can. Then plan again, or retry
    ");
}
