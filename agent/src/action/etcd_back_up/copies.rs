//! What a copy holds: of the version 3 API a snapshot, of the version 2 API, where it has keys, a backup of the data directory
//! and the keys as JSON; a snapshot has none of these. What is in it stands in its manifest, which is written last.

use super::Source;
use super::place::Place;
use crate::action::etcd_member::gate::{endpoint, unanswered};
use crate::action::{Context, exit_failed, failed};
use crate::host::etcd::{Endpoint, EtcdError, V2Call};
use crate::host::{Command, Digested, Exit};
use crate::sha256;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use wavegate_common::outcome::StepError;

/// The file that says what is there.
pub const MANIFEST: &str = "manifest.json";

const SNAPSHOT: &str = "snapshot.db";
const V2_KEYS: &str = "v2-keys.json";
const V2_DATA: &str = "v2-data";

/// How long a copy may take to be sent, and a program to look at one.
const LONG: Duration = Duration::from_secs(600);

const NEXT: &str = "mend what is named here on the node, then retry; etcd was not touched";

#[derive(Serialize)]
struct Manifest {
    taken_at: String,
    cluster: String,
    member: String,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    v3_keys: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v2_keys: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_status: Option<String>,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    path: String,
    bytes: u64,
    sha256: String,
}

/// What a program says of a snapshot.
struct Status {
    program: &'static str,
    told: String,
}

impl File {
    fn of(path: String, content: &[u8]) -> Self {
        Self { path, bytes: content.len() as u64, sha256: sha256::of(content) }
    }
}

/// Takes the copies and writes the manifest; what is there, in a line.
///
/// # Errors
/// [`StepError`] if something can't be taken or written, or is not what was sent, and if there is nothing to take.
pub fn take(place: &Place, source: &Source, cx: &mut Context<'_>) -> Result<String, StepError> {
    let mut manifest = Manifest {
        taken_at: cx.host.now().utc(),
        cluster: source.view.id.to_string(),
        member: source.me.to_string(),
        name: source.name.clone(),
        version: source.version.to_string(),
        v3_keys: None,
        v2_keys: None,
        snapshot_status: None,
        files: Vec::new(),
    };
    let mut compared = None;
    if let Some(keys) = source.view.v3_keys {
        let (file, status) = snapshot(place, source, cx)?;
        compared = Some(match &status {
            Some(Status { program, .. }) => {
                format!("the digest of the snapshot was compared, and {program} reads it")
            }
            None => "the digest of the snapshot was compared, and no program here reads it".to_owned(),
        });
        (manifest.v3_keys, manifest.snapshot_status) = (Some(keys), status.map(|status| status.told));
        manifest.files.push(file);
    }
    if source.view.v2_keys == Some(true) {
        manifest.files.extend(v2_data(place, source, cx)?);
        let (file, keys) = v2_keys(place, source, cx)?;
        manifest.v2_keys = Some(keys);
        manifest.files.push(file);
    }
    if manifest.files.is_empty() {
        let what = format!("{} serves neither API with anything in it that could be copied", source.name);
        return Err(StepError { what, output: Vec::new(), next: NEXT.to_owned() });
    }
    place.close(cx)?;
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| failed(&error, NEXT))?;
    place.write(MANIFEST, &text, cx)?;
    Ok(in_a_line(place, &manifest, compared))
}

fn in_a_line(place: &Place, manifest: &Manifest, compared: Option<String>) -> String {
    let v3 = manifest.v3_keys.map(|keys| format!("a snapshot of {keys} keys of version 3"));
    let v2 = manifest.v2_keys.map(|keys| format!("{keys} keys of version 2 with the data directory"));
    let parts: Vec<String> = [v3, v2].into_iter().flatten().collect();
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let compared = compared.map_or_else(String::new, |compared| format!("; {compared}"));
    format!("{} holds {}, {bytes} bytes{compared}", place.directory(), parts.join(" and "))
}

fn snapshot(
    place: &Place,
    source: &Source,
    cx: &mut Context<'_>,
) -> Result<(File, Option<Status>), StepError> {
    let path = place.file(SNAPSHOT);
    (cx.output)(&format!("taking a snapshot of {} to {path}", source.name));
    let endpoint = Endpoint { timeout: LONG.min(cx.timeout), ..endpoint(&source.here) };
    let taken = cx.host.etcd(&endpoint).snapshot(Path::new(&path)).map_err(|error| {
        let next = "see in etcd's log why, that the disk has room, and that who asks may (a user needs the role root), then retry";
        failed(&error, next)
    })?;
    let status = snapshot_status(&path, cx)?;
    Ok((File { path: SNAPSHOT.to_owned(), bytes: taken.bytes, sha256: taken.sha256 }, status))
}

/// What etcd's own program says of a snapshot, and which; `None` where no program that knows that is installed.
fn snapshot_status(path: &str, cx: &mut Context<'_>) -> Result<Option<Status>, StepError> {
    for program in ["etcdutl", "etcdctl"] {
        if cx.host.which(program).is_none() {
            continue;
        }
        let command = Command::new([program, "snapshot", "status", path, "--write-out=json"]);
        let exit = run(&command.env("ETCDCTL_API", "3").timeout(LONG), cx)?;
        let status = exit.stdout.trim();
        if exit.code == 0 && serde_json::from_str::<serde_json::Value>(status).is_ok() {
            return Ok(Some(Status { program, told: status.to_owned() }));
        }
        // etcdctl lost the command in 3.6; its version 2 never had it, and says so where it likes.
        let said = [&exit.stdout, &exit.stderr];
        let unknown = ["unknown command", "No help topic", "unknown flag"];
        if exit.code != 0 && !unknown.iter().any(|text| said.iter().any(|said| said.contains(text))) {
            let what = format!("{program} does not take {path} for a snapshot (exit code {})", exit.code);
            return Err(exit_failed(what, &exit, NEXT));
        }
    }
    (cx.output)("no etcdutl or etcdctl here tells the status of a snapshot: its digest alone was compared");
    Ok(None)
}

/// `etcdctl backup` of the data directory while etcd runs, as its documentation has it (v2/admin_guide.md, Disaster Recovery).
fn v2_data(place: &Place, source: &Source, cx: &mut Context<'_>) -> Result<Vec<File>, StepError> {
    let Some(data_dir) = source.here.data_dir.as_deref() else {
        let what = format!("where {} has its data can't be found out", source.name);
        return Err(StepError { what, output: Vec::new(), next: NEXT.to_owned() });
    };
    let to = place.file(V2_DATA);
    let mut words = vec!["etcdctl", "backup", "--data-dir", data_dir, "--backup-dir", &to];
    words.extend(source.here.wal_dir.iter().flat_map(|log| ["--wal-dir", log.as_str()]));
    let command = Command::new(words);
    (cx.output)(&command.argv.join(" "));
    let exit = run(&command.env("ETCDCTL_API", "2").timeout(LONG), cx)?;
    if exit.code != 0 {
        let what = format!("etcdctl could not back {data_dir} up (exit code {})", exit.code);
        return Err(exit_failed(what, &exit, NEXT));
    }
    let mut files = Vec::new();
    for below in ["member/snap", "member/wal"] {
        for name in cx.host.list(&Path::new(&to).join(below)) {
            let path = format!("{V2_DATA}/{below}/{name}");
            // A log of etcd has room for 64 MB taken beforehand.
            let found =
                cx.host.digest(Path::new(&place.file(&path))).map_err(|error| failed(&error, NEXT))?;
            files.extend(found.map(|Digested { bytes, sha256 }| File { path, bytes, sha256 }));
        }
    }
    if files.is_empty() {
        return Err(exit_failed(format!("etcdctl left nothing in {to}"), &exit, NEXT));
    }
    Ok(files)
}

/// Every key of version 2 as etcd tells them, but the hidden ones, and how many they are.
fn v2_keys(place: &Place, source: &Source, cx: &mut Context<'_>) -> Result<(File, u64), StepError> {
    let endpoint = Endpoint { timeout: LONG.min(cx.timeout), ..endpoint(&source.here) };
    let path = "/v2/keys/?recursive=true&sorted=true&quorum=true".to_owned();
    let call = V2Call { method: "GET", path, form: Vec::new() };
    let answer = cx.host.etcd(&endpoint).v2(&call).map_err(|error| unanswered(&error))?;
    let tree = serde_json::from_str::<serde_json::Value>(&answer.body).ok().filter(|_| answer.status == 200);
    let Some(tree) = tree else {
        let reason = format!("{} is answered with status {}", call.path, answer.status);
        return Err(unanswered(&EtcdError::Refused { url: endpoint.url, reason }));
    };
    place.write(V2_KEYS, answer.body.as_bytes(), cx)?;
    Ok((File::of(V2_KEYS.to_owned(), answer.body.as_bytes()), leaves(&tree["node"])))
}

/// Keys below a node of the answer.
fn leaves(node: &serde_json::Value) -> u64 {
    match node["nodes"].as_array() {
        Some(below) => below.iter().map(leaves).sum(),
        None => u64::from(node["dir"].as_bool() != Some(true)),
    }
}

fn run(command: &Command, cx: &Context<'_>) -> Result<Exit, StepError> {
    cx.host.run(command).map_err(|error| failed(&error, NEXT))
}
