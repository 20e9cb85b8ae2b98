//! Whether a member still has its data. One that is started without would come back as a new one: it would do as if it had all
//! that the cluster promised to keep, and have none of it (etcd issue 2706).

use super::note::Member;
use crate::action::Context;
use std::path::{Path, PathBuf};
use wavegate_common::etcd::Part;
use wavegate_common::outcome::StepError;

fn of(data_dir: &str, what: &str) -> PathBuf {
    Path::new(data_dir).join(what)
}

/// Device and inode of the member's data, and whether its log is there.
#[must_use]
pub fn identity(data_dir: &str, wal_dir: Option<&str>, cx: &Context<'_>) -> Option<((u64, u64), bool)> {
    let identity = cx.host.identity(&of(data_dir, "member"))?;
    Some((identity, !cx.host.list(&log(data_dir, wal_dir)).is_empty()))
}

fn log(data_dir: &str, wal_dir: Option<&str>) -> PathBuf {
    wal_dir.map_or_else(|| of(data_dir, "member/wal"), PathBuf::from)
}

/// Refuses to start a member on other data than it had.
///
/// # Errors
/// [`StepError`] that says what is otherwise.
pub fn refuse_other(member: &Member, cx: &Context<'_>) -> Result<(), StepError> {
    let data = of(&member.data_dir, "member");
    let wal_dir = member.wal_dir.as_deref();
    let why = match identity(&member.data_dir, wal_dir, cx) {
        None => format!("{} is gone", data.display()),
        Some((now, _)) if now != member.identity => format!("{} was made anew", data.display()),
        Some((_, false)) if member.wal => format!("{} is empty", log(&member.data_dir, wal_dir).display()),
        Some(_) if cx.host.exists(&of(&member.data_dir, "proxy")) => {
            format!("{} has come beside it, the data of a proxy", of(&member.data_dir, "proxy").display())
        }
        Some(_) => return Ok(()),
    };
    Err(lost(member, &why))
}

/// That a member's data is not what it was.
#[must_use]
pub fn lost(member: &Member, why: &str) -> StepError {
    let Member { name, id, data_dir, .. } = member;
    StepError {
        what: format!("the data directory of {name} is not the one it had, and so it is not started: {why}"),
        output: Vec::new(),
        next: format!(
            "touch no other member: they keep the quorum without {name}. If the data is still there (a file system that is not \
             mounted, a directory that was renamed), bring it back to {data_dir} and retry. If it is lost, take the member out \
             and add it anew on one of the others ('etcdctl member remove {id}', 'etcdctl member add'), start it with an empty \
             {data_dir} and --initial-cluster-state=existing, wait until it has caught up, then plan again"
        ),
    }
}

/// Refuses to start etcd in another role than the one that it had: where its configuration was replaced, a proxy comes up as a
/// cluster of its own, and a member as a proxy.
///
/// # Errors
/// [`StepError`] that names both.
pub fn refuse_other_part(was: Option<Part>, is: Option<Part>, unit: &str) -> Result<(), StepError> {
    if is == was {
        return Ok(());
    }
    let word = |part: Option<Part>| {
        part.map_or_else(|| "nothing that is known".to_owned(), |part| format!("a {part}"))
    };
    let (was, is) = (word(was), word(is));
    Err(StepError {
        what: format!("{unit} was {was} by its configuration, and now it would be {is}: it is not started"),
        output: Vec::new(),
        next: format!(
            "compare the configuration of {unit} with the copies that the package manager left beside it (*.dpkg-*, \
             *.rpmsave, *.rpmnew), put back what made it {was}, then retry"
        ),
    })
}
