//! What commands say that change something other than a rollout: the coordinator's answer.

use super::exit::Exit;
use super::output::Output;
use super::{CliError, document};
use wavegate_proto::v1;

/// Shows what was done.
///
/// # Errors
/// [`CliError::Output`].
pub fn show(done: &v1::Done, output: &Output) -> Result<Exit, CliError> {
    let v1::Done { changed, text } = done;
    if output.is_json() {
        let json = serde_json::json!({ "changed": changed, "text": text });
        output.write(&format!("{json:#}\n"))?;
    } else {
        output.write(&format!("{}\n", document::printable(text)))?;
    }
    Ok(Exit::Ok)
}
