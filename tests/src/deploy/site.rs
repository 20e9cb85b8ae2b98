//! The lab's site: what differs here from the shipped procedure's defaults, and from the shipped policy of a node.

use wavegate_common::policy::SHIPPED;

use crate::lab::Manifest;

/// Where the coordinator's host has them.
pub const SITE_FILE: &str = "/etc/wavegate/site.toml";

/// Where every node has its policy.
pub const POLICY_FILE: &str = "/etc/wavegate/policy.toml";

/// The shipped policy, with the site's mirror of archives.
pub fn policy() -> String {
    SHIPPED.replace("archives = [", "archives = [\n    \"http://deploy-1/archives/\",")
}

/// The parameters as the file's text.
pub fn parameters(manifest: &Manifest) -> String {
    format!(
        r#"# What differs at this site from the procedure's defaults.

# Debian has etcd in two packages.
etcd_packages = ["etcd-server", "etcd-client"]

# The lab's Felix answers --version, as Felix does from 2.0 on.
felix_reports_version = true

# The site's mirror of etcd's release archive, for etcd on Red Hat.
etcd_archive_url = "{etcd_url}"
etcd_archive_sha256 = "{etcd_sha256}"

# The site's mirror of python-etcd, for the Red Hat nodes.
python_etcd_archive_url = "{url}"
python_etcd_archive_sha256 = "{sha256}"
python_etcd_version = "{version}"
"#,
        etcd_url = manifest.etcd_archive.url,
        etcd_sha256 = manifest.etcd_archive.sha256,
        url = manifest.python_etcd_archive.url,
        sha256 = manifest.python_etcd_archive.sha256,
        version = manifest.python_etcd.new,
    )
}
