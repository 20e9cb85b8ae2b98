//! Whether a member still has its data. One that is started without would come back as a new one: it would do as if it had all
//! that the cluster promised to keep, and have none of it (etcd issue 2706).

use super::note::{Configured, Member};
use crate::action::Context;
use crate::facts::BOOT_ID;
use std::path::{Path, PathBuf};
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

/// Which boot of the machine this is.
#[must_use]
pub fn boot(cx: &Context<'_>) -> String {
    let read = cx.host.read(Path::new(BOOT_ID)).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&read).trim().to_owned()
}

/// Whether it is the directory that was noted. Devices are numbered anew at every boot (those of LVM, NVMe and NFS in the order
/// in which they are found), inodes are on the disk.
fn is_same(member: &Member, now: (u64, u64), cx: &Context<'_>) -> bool {
    let rebooted = !member.boot.is_empty() && member.boot != boot(cx);
    if rebooted { now.1 == member.identity.1 } else { now == member.identity }
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
        Some((now, _)) if !is_same(member, now, cx) => format!("{} was made anew", data.display()),
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

/// Refuses to start etcd in another part, under another name or with its data elsewhere than before: where its configuration was
/// replaced, a proxy comes up as a cluster of its own, and so does a member, with nothing in it.
///
/// # Errors
/// [`StepError`] that names both.
pub fn refuse_other_configuration(
    was: &Configured,
    is: &Configured,
    member: Option<&Member>,
    unit: &str,
    cx: &Context<'_>,
) -> Result<(), StepError> {
    let place = |data_dir: &Option<String>| {
        data_dir.clone().unwrap_or_else(|| "a place that its files do not tell".to_owned())
    };
    let what = if is.part != was.part {
        format!("was a {} by its configuration, and now it would be a {}", was.part, is.part)
    } else if !same_place(was, is, member, cx) {
        let (was, is) = (place(&was.data_dir), place(&is.data_dir));
        format!("had its data in {was} by its configuration, and now it would look for it in {is}")
    } else if is.wal_dir != was.wal_dir {
        let place = |wal_dir: &Option<String>| wal_dir.clone().unwrap_or_else(|| "its data".to_owned());
        let (was, is) = (place(&was.wal_dir), place(&is.wal_dir));
        format!("had its log in {was} by its configuration, and now it would look for it in {is}")
    } else if is.name != was.name {
        format!("was called {} by its configuration, and now it would be called {}", was.name, is.name)
    } else {
        return Ok(());
    };
    Err(StepError {
        what: format!("{unit} {what}: it is not started"),
        output: Vec::new(),
        next: format!(
            "compare the configuration of {unit} with the copies that the package manager left beside it (*.dpkg-*, \
             *.rpmsave, *.rpmnew), put back what made it what it was, then retry"
        ),
    })
}

/// Whether the data is looked for where it was, maybe by another name of that place.
fn same_place(was: &Configured, is: &Configured, member: Option<&Member>, cx: &Context<'_>) -> bool {
    let plain =
        |data_dir: &Option<String>| data_dir.as_ref().map(|path| path.trim_end_matches('/').to_owned());
    let now = || is.data_dir.as_ref().and_then(|data_dir| identity(data_dir, None, cx));
    plain(&was.data_dir) == plain(&is.data_dir)
        || member.is_some_and(|member| now().is_some_and(|(now, _)| is_same(member, now, cx)))
}
