//! HTTP: questions to servers on this machine, and downloads that are kept by their digest.

use super::{file_error, files};
use crate::host::{Fetched, HostError, HttpAnswer};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of an answer that are kept.
const ANSWER_LIMIT: u64 = 64 << 10;

/// A download beyond this is no archive of ours.
const DOWNLOAD_LIMIT: u64 = 1 << 30;

fn fetch_error(url: &str, reason: impl ToString) -> HostError {
    HostError::Fetch { url: url.to_owned(), reason: reason.to_string() }
}

/// Asks a server by GET. No proxy, no redirects: the server is on this machine and nothing else is meant.
pub(super) fn get(url: &str, timeout: Duration) -> Result<HttpAnswer, HostError> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls())
        .build()
        .into();
    let mut answer = agent.get(url).call().map_err(|error| fetch_error(url, error))?;
    let mut body = Vec::new();
    let reader = answer.body_mut().as_reader();
    reader.take(ANSWER_LIMIT).read_to_end(&mut body).map_err(|error| fetch_error(url, error))?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(HttpAnswer { status: answer.status().as_u16(), body })
}

/// The certificates that the machine trusts, with the one cryptography provider that the agent has.
fn tls() -> ureq::tls::TlsConfig {
    ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

/// Fetches a file into `downloads`, where it is named by its digest.
pub(super) fn fetch(
    downloads: &Path,
    url: &str,
    expected_sha256: &str,
    timeout: Duration,
) -> Result<Fetched, HostError> {
    if expected_sha256.len() != 64 || !expected_sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(fetch_error(url, format!("'{expected_sha256}' is not a SHA-256 digest")));
    }
    let kept = downloads.join(expected_sha256);
    if let Ok(mut file) = File::open(&kept) {
        // A disk may have lost some of it since.
        let sha256 =
            files::copy(&mut file, &mut std::io::sink(), None).map_err(file_error("read", &kept))?.sha256;
        if sha256 == expected_sha256 {
            return Ok(Fetched { path: kept, sha256 });
        }
    }
    std::fs::create_dir_all(downloads).map_err(file_error("make", downloads))?;
    let part = downloads.join(format!("{expected_sha256}.part"));
    let mut file = File::create(&part).map_err(file_error("write", &part))?;
    let sha256 = read_url(url, timeout, &mut file)?;
    file.sync_all().map_err(file_error("write", &part))?;
    // What has another digest is kept for whoever wants to know what it is, under a name that says so.
    let path =
        if sha256 == expected_sha256 { kept } else { downloads.join(format!("{expected_sha256}.other")) };
    std::fs::rename(&part, &path).map_err(file_error("write", &path))?;
    Ok(Fetched { path, sha256 })
}

fn read_url(url: &str, timeout: Duration, into: &mut File) -> Result<String, HostError> {
    let cut = |error: std::io::Error| fetch_error(url, error);
    let mut copy = |from: &mut dyn Read| {
        files::copy(from, into, Some(DOWNLOAD_LIMIT)).map(|copied| copied.sha256).map_err(cut)
    };
    if let Some(path) = url.strip_prefix("file://") {
        let Some(_) = files::read(Path::new(path))? else {
            return Err(fetch_error(url, "there is no such file"));
        };
        return copy(&mut File::open(path).map_err(cut)?);
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(fetch_error(url, "only http://, https:// and file:// can be fetched"));
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        // A server that is asked over TLS does not send us elsewhere without it.
        .https_only(url.starts_with("https://"))
        .tls_config(tls())
        .build()
        .into();
    let mut answer = agent.get(url).call().map_err(|error| fetch_error(url, error))?;
    copy(&mut answer.body_mut().as_reader())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    const DIGEST_OF_HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    /// A server that gives the same answer to so many requests.
    fn serve(answer: &'static str, requests: usize) -> (String, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/x", listener.local_addr().expect("an address"));
        let thread = std::thread::spawn(move || {
            for _ in 0..requests {
                let (mut stream, _) = listener.accept().expect("a client");
                let request = BufReader::new(stream.try_clone().expect("the stream"));
                for line in request.lines() {
                    if line.expect("a line").is_empty() {
                        break;
                    }
                }
                stream.write_all(answer.as_bytes()).expect("an answer");
            }
        });
        (url, thread)
    }

    #[test]
    fn any_status_is_an_answer() {
        let (url, server) = serve("HTTP/1.1 401 No\r\nContent-Length: 4\r\nConnection: close\r\n\r\nauth", 1);
        let answer = get(&url, Duration::from_secs(10)).expect("an answer");
        assert_eq!(answer, HttpAnswer { status: 401, body: "auth".to_owned() });
        server.join().expect("it served");
        let error = get(&url, Duration::from_secs(10)).expect_err("nobody listens");
        assert!(error.to_string().starts_with(&format!("cannot fetch {url}: ")), "{error}");
    }

    #[test]
    fn downloads_are_kept_by_digest() {
        let directory = tempfile::tempdir().expect("a directory");
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        let (url, server) = serve(ok, 2);
        let fetch = |url: &str, digest: &str| fetch(directory.path(), url, digest, Duration::from_secs(10));
        let first = fetch(&url, DIGEST_OF_HELLO).expect("fetched");
        assert_eq!(
            (first.sha256.as_str(), files::read(&first.path).expect("a file")),
            (DIGEST_OF_HELLO, Some(b"hello".to_vec()))
        );

        let other = fetch(&url, &"0".repeat(64)).expect("fetched, but another");
        assert_eq!(other.sha256, DIGEST_OF_HELLO);
        assert!(other.path.to_string_lossy().ends_with(".other"));
        server.join().expect("it served");
        assert_eq!(fetch(&url, DIGEST_OF_HELLO).expect("kept, nobody serves any more"), first);

        let local = directory.path().join("local");
        std::fs::write(&local, "hello").expect("a file");
        std::fs::write(&first.path, "hell").expect("a broken copy");
        let again = fetch(&format!("file://{}", local.display()), DIGEST_OF_HELLO).expect("fetched again");
        assert_eq!(again, first);
        for bad in ["ftp://x/y", "file:///no/such/file"] {
            let error = fetch(bad, &"1".repeat(64)).expect_err("no");
            assert!(error.to_string().starts_with(&format!("cannot fetch {bad}: ")), "{error}");
        }
    }
}
