//! Beginnings of URLs that a policy permits, compared part by part: a host is never the beginning of another host.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where something may come from. One that ends in `/` permits everything below it, any other permits itself alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UrlPrefix {
    text: String,
    url: Url,
}

/// Why a text is not a URL that could be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a URL that a policy can judge: {what}", text.escape_debug())]
pub struct BadUrl {
    /// The text.
    pub text: String,
    /// What is wrong; what would be right.
    pub what: &'static str,
}

impl UrlPrefix {
    /// Whether a URL is meant.
    ///
    /// # Errors
    /// [`BadUrl`] for a text that programs could read in more than one way; it is not meant by any prefix.
    pub fn covers(&self, url: &str) -> Result<bool, BadUrl> {
        let asked = Url::read(url)?;
        let own = &self.url;
        if (own.scheme, &own.host, own.port) != (asked.scheme, &asked.host, asked.port) {
            return Ok(false);
        }
        if own.path.ends_with('/') && own.query.is_none() {
            return Ok(asked.path.starts_with(&own.path));
        }
        Ok((&own.path, &own.query) == (&asked.path, &asked.query))
    }
}

impl TryFrom<String> for UrlPrefix {
    type Error = BadUrl;
    fn try_from(text: String) -> Result<Self, BadUrl> {
        let url = Url::read(&text)?;
        Ok(Self { text, url })
    }
}

impl From<UrlPrefix> for String {
    fn from(prefix: UrlPrefix) -> Self {
        prefix.text
    }
}

impl fmt::Display for UrlPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    File,
}

/// A URL in parts. Whatever could be read in more than one way is none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    scheme: Scheme,
    /// In lower case; empty for a file.
    host: String,
    port: u16,
    path: String,
    query: Option<String>,
}

impl Url {
    fn read(text: &str) -> Result<Self, BadUrl> {
        Self::parts(text).map_err(|what| BadUrl { text: text.to_owned(), what })
    }

    fn parts(text: &str) -> Result<Self, &'static str> {
        if !text.chars().all(|c| c.is_ascii_graphic() && !"\\\"<>^`{|}#".contains(c)) {
            return Err("write it of printable ASCII without spaces, quotes, backslashes and '#'");
        }
        let schemes =
            [("http://", Scheme::Http, 80), ("https://", Scheme::Https, 443), ("file://", Scheme::File, 0)];
        let found = schemes
            .into_iter()
            .find_map(|(word, scheme, port)| text.strip_prefix(word).map(|rest| (scheme, port, rest)));
        let (scheme, port, rest) = found.ok_or("begin it with http://, https:// or file:///")?;
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(at);
        let (host, port) = match scheme {
            Scheme::File if authority.is_empty() => (String::new(), port),
            Scheme::File => return Err("a file has no host: write file:///PATH"),
            Scheme::Http | Scheme::Https => read_authority(authority, port)?,
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        let path = if path.is_empty() { "/".to_owned() } else { read_path(path)? };
        Ok(Self { scheme, host, port, path, query })
    }
}

fn read_authority(authority: &str, default: u16) -> Result<(String, u16), &'static str> {
    if authority.contains('@') {
        return Err("leave out the user before '@'");
    }
    // The brackets of an IPv6 address belong to the host.
    let end = authority.find(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority[end..].split_once(':') {
        Some((rest, port)) => (&authority[..end + rest.len()], Some(port)),
        None => (authority, None),
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let well_formed = match address {
        Some(address) => {
            !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c))
        }
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    if !well_formed {
        return Err("write a host name, an address or an [IPv6 address] after the scheme");
    }
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => default,
        Some(port) => port.parse().ok().filter(|_| digits(port)).ok_or("write the port as a number")?,
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// A path as it stands, if no reader of it could come out elsewhere.
fn read_path(path: &str) -> Result<String, &'static str> {
    let lower = path.to_ascii_lowercase();
    if ["%2f", "%5c", "%00"].iter().any(|hidden| lower.contains(hidden)) {
        return Err("write no encoded '/', '\\' or zero byte in the path");
    }
    if lower.replace("%2e", ".").split('/').any(|part| part == "." || part == "..") {
        return Err("write the path without '.' and '..'");
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> UrlPrefix {
        UrlPrefix::try_from(text.to_owned()).expect(text)
    }

    #[test]
    fn hosts_ports_and_paths_are_compared_whole() {
        for (own, url, meant) in [
            ("https://github.com/", "https://github.com/coreos/etcd", true),
            ("https://github.com", "https://github.com/", true),
            ("https://github.com/", "https://GitHub.com:443/x", true),
            ("https://github.com/", "https://github.com.evil/x", false),
            ("https://github.com/", "https://githubXcom/x", false),
            ("https://github.com/", "https://github.com:444/x", false),
            ("https://github.com/", "http://github.com/x", false),
            ("https://h/a/", "https://h/a/b?c=d", true),
            ("https://h/a/", "https://h/ab", false),
            ("https://h/a/", "https://h/a", false),
            ("https://h/a", "https://h/a", true),
            ("https://h/a", "https://h/a/b", false),
            ("https://h/a", "https://h/a?x", false),
            ("https://h/a?x", "https://h/a?x", true),
            ("http://[::1]:80/", "http://[::1]/x", true),
            ("http://[::1]/", "http://[::2]/x", false),
            ("file:///srv/archives/", "file:///srv/archives/a.tar.gz", true),
            ("file:///srv/archives/", "file:///srv/other", false),
        ] {
            assert_eq!(prefix(own).covers(url), Ok(meant), "{own} {url}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "",
            "github.com/",
            "ftp://h/",
            "HTTPS://h/",
            "https:///x",
            "https://github.com@evil/",
            "https://user:secret@github.com/",
            "https://github.com/a/../b",
            "https://github.com/a/%2E%2e/b",
            "https://github.com/a%2f..%2fb",
            "https://github.com\\@evil/",
            "https://github.com/a b",
            "https://github.com/#a",
            "https://github.com:/",
            "https://github.com:+1/",
            "https://github.com:99999/",
            "https://[::1/",
            "https://[]/",
            "https://gıthub.com/",
            "file://host/x",
            "http://h\n/",
        ] {
            assert!(UrlPrefix::try_from(bad.to_owned()).is_err(), "{bad}");
            assert!(prefix("https://github.com/").covers(bad).is_err(), "{bad}");
        }
        let error = prefix("http://h/").covers("http://h/../x").expect_err("refused");
        insta::assert_snapshot!(error, @"'http://h/../x' is not a URL that a policy can judge: write the path without '.' and '..'");
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "(https?|file)?:?//?[a-z@:\\[\\].%/?]{0,20}|\\PC{0,20}") {
            let _ = UrlPrefix::try_from(text);
        }

        /// A URL that a prefix covers has its scheme and host, up to the end of the host.
        #[test]
        fn what_is_covered_is_of_that_host(tail in "[a-z.@:/?%]{0,16}") {
            let url = format!("https://h.example{tail}");
            if prefix("https://h.example/").covers(&url) == Ok(true) {
                let ends = ["", "/", "?", ":443"].iter().any(|end| match *end {
                    "" => tail.is_empty(),
                    end => tail.starts_with(end),
                });
                prop_assert!(ends, "{}", url);
            }
        }
    }
}
