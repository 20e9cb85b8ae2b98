//! Mounts of nodes, overlays and small disks: made, found and undone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Mounts `lower` (topmost first) with a writable layer of its own on `merged`.
pub fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, merged: &Path) -> Result<()> {
    for directory in [upper, work, merged] {
        std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let lower = lower.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    let options = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("wavegate-lab"), merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("mounting an overlay on {}", merged.display()))
}

/// Mounts an empty disk of that size.
pub fn small_disk(on: &Path, megabytes: u32) -> Result<()> {
    std::fs::create_dir_all(on).with_context(|| format!("making {}", on.display()))?;
    let options = format!("size={megabytes}m,mode=755");
    mount(Some("wavegate-lab"), on, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("mounting a disk of {megabytes} MB on {}", on.display()))
}

/// Unmounts whatever is mounted there, if anything is.
pub fn unmount(path: &Path) -> Result<()> {
    while mounted_below(path)?.iter().any(|mounted| mounted == path) {
        umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("unmounting {}", path.display()))?;
    }
    Ok(())
}

/// The mount points at or below a directory, as the kernel lists them.
pub fn mounted_below(path: &Path) -> Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(path)).collect())
}

/// Whether any overlay has this directory among its layers.
pub fn is_layer_in_use(path: &Path) -> Result<bool> {
    let table = std::fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let path = path.display().to_string();
    Ok(table.lines().any(|line| line.split([' ', ',', ':', '=']).any(|word| word == path)))
}
