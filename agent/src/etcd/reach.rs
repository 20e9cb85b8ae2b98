//! Where a member is asked, by what its cluster lists of it.

/// URLs to ask a member at, the likelier first: those that it tells clients; where those are of no use to others because they
/// name the member's own machine alone, the host at which other members reach it with the port for clients.
#[must_use]
pub fn addresses(client_urls: &[String], peer_urls: &[String]) -> Vec<String> {
    let peers: Vec<&str> = peer_urls.iter().map(|url| split(url).1).filter(|host| is_of_use(host)).collect();
    let mut all: Vec<String> = Vec::new();
    for url in client_urls {
        let (scheme, host, port) = split(url);
        if is_of_use(host) || peers.is_empty() {
            all.push(url.trim_end_matches('/').to_owned());
        } else {
            all.extend(peers.iter().map(|peer| format!("{scheme}{peer}{port}")));
        }
    }
    // The same host may have several URLs for members.
    let mut seen = Vec::new();
    all.retain(|url| {
        !seen.contains(url) && {
            seen.push(url.clone());
            true
        }
    });
    all
}

/// `http://`, the host, and `:PORT`.
pub(super) fn split(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = url.find("://").map_or(("", url), |at| url.split_at(at + 3));
    let authority = rest.split('/').next().unwrap_or_default();
    let end_of_host = authority.rfind(']').map_or(0, |at| at + 1);
    let colon = authority[end_of_host..].rfind(':').map_or(authority.len(), |at| end_of_host + at);
    let (host, port) = authority.split_at(colon);
    (scheme, host, port)
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

/// Whether it stands for every address of a machine.
pub(super) fn is_any(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "[::]")
}

fn is_of_use(host: &str) -> bool {
    !is_loopback(host) && !is_any(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(client: &[&str], peer: &[&str]) -> String {
        let owned = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        addresses(&owned(client), &owned(peer)).join(" ")
    }

    #[test]
    fn a_loopback_address_is_of_use_to_nobody_else() {
        assert_eq!(asked(&["http://10.0.0.1:2379"], &["http://10.0.0.1:2380"]), "http://10.0.0.1:2379");
        assert_eq!(
            asked(
                &["https://127.0.0.1:2379/", "http://localhost:4001"],
                &["http://10.0.0.1:2380", "http://10.0.0.1:7001"]
            ),
            "https://10.0.0.1:2379 http://10.0.0.1:4001"
        );
        assert_eq!(asked(&["http://[::1]:2379"], &["http://[fd00::1]:2380"]), "http://[fd00::1]:2379");
        assert_eq!(asked(&["http://0.0.0.0:2379"], &["http://10.0.0.1:2380"]), "http://10.0.0.1:2379");
        // A cluster of one machine.
        assert_eq!(asked(&["http://127.0.0.1:12379"], &["http://127.0.0.1:12380"]), "http://127.0.0.1:12379");
        assert_eq!(asked(&[], &["http://10.0.0.1:2380"]), "", "it never started");
    }

    #[test]
    fn urls_are_split() {
        assert_eq!(split("http://[fd00::1]:2379/x"), ("http://", "[fd00::1]", ":2379"));
        assert_eq!(split("m1.example:2379"), ("", "m1.example", ":2379"));
        assert_eq!(split("https://m1"), ("https://", "m1", ""));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), soup in "(http://|\\[|\\]|:|/|::1|127\\.|a|é){0,9}") {
            for text in [text, soup] {
                let _ = addresses(std::slice::from_ref(&text), std::slice::from_ref(&text));
            }
        }
    }
}
