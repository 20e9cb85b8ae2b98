//! `wavegate logs`: what the programs that steps ran have printed.

use super::output::Output;
use super::{CliError, Exit, Invocation, document};
use wavegate_common::platform::Stage;
use wavegate_proto::v1;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node
    node: String,
    /// Only this stage
    #[arg(long, value_parser = clap::value_parser!(Stage))]
    stage: Option<Stage>,
    /// Only this step, by its id
    #[arg(long)]
    step: Option<String>,
    /// Go on until the task has ended
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn run(invocation: &Invocation, args: Args) -> Result<Exit, CliError> {
    let request = v1::LogsRequest {
        rollout: invocation.rollout.clone(),
        node: args.node,
        stage: args.stage.map(|stage| stage.to_string()).unwrap_or_default(),
        step: args.step.unwrap_or_default(),
        follow: args.follow,
    };
    let mut pieces = invocation.connect().await?.logs(request).await?.into_inner();
    let mut printer = Printer::default();
    while let Some(piece) = pieces.message().await? {
        invocation.output.write(&printer.piece(&piece, &invocation.output))?;
    }
    if printer.last.is_none() && !invocation.output.is_json() {
        invocation.output.note("nothing was printed there");
    }
    Ok(Exit::Ok)
}

/// Puts a heading before the first piece of each step.
#[derive(Default)]
struct Printer {
    last: Option<(v1::TaskKey, String)>,
    in_line: bool,
}

impl Printer {
    fn piece(&mut self, piece: &v1::LogPiece, output: &Output) -> String {
        let text = String::from_utf8_lossy(&piece.data);
        let key = piece.key.clone().unwrap_or_default();
        if output.is_json() {
            let v1::TaskKey { rollout, stage, node, attempt, plan: _ } = &key;
            let key =
                serde_json::json!({ "rollout": rollout, "stage": stage, "node": node, "attempt": attempt });
            self.last = Some(Default::default());
            return format!("{}\n", serde_json::json!({ "key": key, "step": piece.step, "text": text }));
        }
        let text = document::printable(&text);
        let place = (key, piece.step.clone());
        let mut shown = String::new();
        if self.last.as_ref() != Some(&place) {
            let break_line = if self.in_line { "\n" } else { "" };
            let (key, step) = &place;
            shown =
                format!("{break_line}== {} {} attempt {}, step {step}\n", key.stage, key.node, key.attempt);
            self.last = Some(place);
        }
        self.in_line = !text.is_empty() && !text.ends_with('\n');
        shown + &text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;

    fn piece(step: &str, data: &[u8]) -> v1::LogPiece {
        let key = v1::TaskKey {
            rollout: "r".into(),
            stage: "compute".into(),
            node: "compute-1".into(),
            attempt: 1,
            plan: String::new(),
        };
        v1::LogPiece { key: Some(key), step: step.into(), data: data.to_vec() }
    }

    fn print(format: Format) -> String {
        let output = Output { format, look: crate::cli::render::samples::look(), live: false };
        let mut printer = Printer::default();
        let pieces = [
            piece("install", b"Get:1 "),
            piece("install", b"calico \x1b[2J\xff"),
            piece("restart", b"done\n"),
        ];
        pieces.iter().map(|piece| printer.piece(piece, &output)).collect()
    }

    #[test]
    fn pieces_are_put_together_under_their_step() {
        insta::assert_snapshot!(print(Format::Table), @r"
        == compute compute-1 attempt 1, step install
        Get:1 calico �[2J�
        == compute compute-1 attempt 1, step restart
        done
        ");
    }

    #[test]
    fn json_is_a_piece_a_line() {
        insta::assert_snapshot!(print(Format::Json), @r#"
        {"key":{"attempt":1,"node":"compute-1","rollout":"r","stage":"compute"},"step":"install","text":"Get:1 "}
        {"key":{"attempt":1,"node":"compute-1","rollout":"r","stage":"compute"},"step":"install","text":"calico \u001b[2J�"}
        {"key":{"attempt":1,"node":"compute-1","rollout":"r","stage":"compute"},"step":"restart","text":"done\n"}
        "#);
    }
}
