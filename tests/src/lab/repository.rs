//! Changing what a fleet's own repository offers while the fleet runs: broken, slow and mended packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::command::run;
use super::fleet::Fleet;
use super::prepare::sources;
use super::spec::Family;

/// The revision a mended package has: newer than the new version, by a revision alone.
const MENDED: &str = "+mended1";

impl Fleet {
    /// Replaces the new version of a Debian fixture package by one of the same version whose postinst exits 1: it is
    /// unpacked and stays half-configured.
    ///
    /// # Errors
    ///
    /// When there is no such fixture package.
    pub fn publish_broken(&self, package: &str) -> Result<()> {
        self.publish(Family::Apt, package, "", "postinst-fails")
    }

    /// Replaces the new version of a Debian fixture package by one of the same version whose preinst exits 1: nothing
    /// of it is unpacked and the old version stays.
    ///
    /// # Errors
    ///
    /// When there is no such fixture package.
    pub fn publish_refusing(&self, package: &str) -> Result<()> {
        self.publish(Family::Apt, package, "", "preinst-fails")
    }

    /// Replaces the new version of a Debian fixture package by one of the same version whose postinst sleeps; when its
    /// `sleep` is ended it goes on.
    ///
    /// # Errors
    ///
    /// When there is no such fixture package.
    pub fn publish_slow(&self, package: &str, seconds: u32) -> Result<()> {
        self.publish(Family::Apt, package, "", &format!("postinst-sleeps-{seconds}"))
    }

    /// What a maintainer does about a broken package: the good new version comes back under its own number, and a
    /// still higher `VERSION+mended1`, which repairs hosts where the broken one is half-configured, beside it.
    ///
    /// # Errors
    ///
    /// When there is no such fixture package.
    pub fn mend(&self, package: &str) -> Result<()> {
        self.publish(Family::Apt, package, "", "")?;
        self.publish(Family::Apt, package, MENDED, "")
    }

    /// Puts the good new version back under its own number, and nothing else.
    ///
    /// # Errors
    ///
    /// When there is no such fixture package.
    pub fn mend_in_place(&self, package: &str) -> Result<()> {
        self.publish(Family::Apt, package, "", "")
    }

    /// Replaces the new calico-felix rpm by one of the same version whose %pre exits 1: the transaction fails and the
    /// old version stays.
    ///
    /// # Errors
    ///
    /// When it cannot be built.
    pub fn publish_broken_rpm(&self) -> Result<()> {
        self.publish(Family::Rpm, "calico-felix", "", "pre-fails")
    }

    /// Replaces the new calico-felix or openstack-nova-api rpm by one of the same version whose %post sleeps; when its
    /// `sleep` is ended it goes on.
    ///
    /// # Errors
    ///
    /// When it cannot be built.
    pub fn publish_slow_rpm(&self, package: &str, seconds: u32) -> Result<()> {
        self.publish(Family::Rpm, package, "", &format!("post-sleeps-{seconds}"))
    }

    /// Puts the good new version of an rpm back under its own number.
    ///
    /// # Errors
    ///
    /// When it cannot be built.
    pub fn mend_rpm(&self, package: &str) -> Result<()> {
        self.publish(Family::Rpm, package, "", "")
    }

    /// Copies a package file of this machine into the repository (a .deb or an .rpm).
    ///
    /// # Errors
    ///
    /// When it is neither, or cannot be copied.
    pub fn publish_file(&self, package: &Path) -> Result<()> {
        let family = match package.extension().and_then(|extension| extension.to_str()) {
            Some("deb") => Family::Apt,
            Some("rpm") => Family::Rpm,
            _ => anyhow::bail!("{}: neither a .deb nor an .rpm", package.display()),
        };
        let name = package.file_name().with_context(|| format!("{}: no file name", package.display()))?;
        let to = self.dir.join("repo").join(family.word()).join(name);
        std::fs::copy(package, &to).with_context(|| format!("copying {}", package.display()))?;
        self.index()
    }

    /// Offers Debian's etcd of the next minor version beside the others.
    ///
    /// # Errors
    ///
    /// When the lab has none, or the repository can't be written.
    pub fn publish_next_etcd(&self) -> Result<()> {
        let next =
            std::fs::read_dir(self.dir.join("next")).context("listing the packages of the next suite")?;
        let mut found = false;
        for package in next {
            let package = package.context("listing the packages of the next suite")?.path();
            let name = package.file_name().with_context(|| format!("{}: no file name", package.display()))?;
            let to = self.dir.join("repo").join(Family::Apt.word()).join(name);
            std::fs::copy(&package, &to).with_context(|| format!("copying {}", package.display()))?;
            found = true;
        }
        anyhow::ensure!(
            found,
            "no etcd newer than that of the lab's suite: WAVEGATE_LAB_SUITE=bookworm has one"
        );
        self.index()
    }

    fn publish(&self, family: Family, package: &str, suffix: &str, fault: &str) -> Result<()> {
        let tool = match family {
            Family::Apt => "deb",
            Family::Rpm => "rpm",
        };
        let mut build = Command::new("sh");
        build.arg(sources().join("packages").join(tool).join("build.sh")).args([package, "new"]);
        build.arg(self.dir.join("repo").join(family.word())).arg(fault);
        build.env("LAB_SUFFIX", suffix);
        build.env("DNSMASQ_OLD", &self.manifest.dnsmasq.old).env("DNSMASQ_NEW", &self.manifest.dnsmasq.new);
        run(&mut build).with_context(|| format!("publishing {package}"))?;
        self.index()
    }

    fn index(&self) -> Result<()> {
        let script = sources().join("prepare").join("index.sh");
        run(Command::new("sh").arg(script).arg(self.dir.join("repo"))).map(|_| ())
    }
}
