//! What commands that change a rollout say: the coordinator's answer.

use super::exit::Exit;
use super::output::Output;
use super::{CliError, document};
use wavegate_proto::v1;

/// Shows an answer.
///
/// # Errors
/// [`CliError::Output`].
pub fn show(answer: &v1::Answer, output: &Output) -> Result<Exit, CliError> {
    let v1::Answer { rollout, changed, text } = answer;
    if output.is_json() {
        let json = serde_json::json!({ "rollout": rollout, "changed": changed, "text": text });
        output.write(&format!("{json:#}\n"))?;
    } else {
        output.write(&format!("{}\n", document::printable(text)))?;
    }
    Ok(Exit::Ok)
}
