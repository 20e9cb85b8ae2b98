//! Join tokens as people read them: `wavegate token list` and `wavegate token show`.

use super::{Look, Tone, cell, counted, time};
use crate::status::tokens::{TokenDetail, TokenStatus, Worth};
use wavegate_common::id::Timestamp;

/// The tokens there are.
#[must_use]
pub fn tokens(tokens: &[TokenStatus], now: Timestamp, look: &Look) -> String {
    if tokens.is_empty() {
        return "There is no join token. Make one: wavegate token create\n".to_owned();
    }
    let mut table = look.table(&["TOKEN", "STATE", "FOR", "USED", "EXPIRES", "MADE BY"]);
    for token in tokens {
        let left = token.expires_at.millis_since(now);
        let expires = if left > 0 {
            format!("in {}", time::duration(left))
        } else {
            time::moment(token.expires_at, look)
        };
        table.add_row([
            cell(Tone::Plain, &token.id),
            cell(if token.worth == Worth::Valid { Tone::Good } else { Tone::Plain }, state(token)),
            cell(
                Tone::Plain,
                whom(token.node.as_ref().map(|node| node.as_str()), token.uses, token.declared),
            ),
            cell(Tone::Plain, token.times_used),
            cell(Tone::Plain, expires),
            cell(Tone::Plain, &token.created_by),
        ]);
    }
    look.lay_out(table, 0)
}

/// One token, and who has used it.
#[must_use]
pub fn token(detail: &TokenDetail, look: &Look) -> String {
    let TokenDetail { token, used_by } = detail;
    let made = match token.created_at {
        Some(at) => format!("{} by {}", time::moment(at, look), token.created_by),
        None => format!("by {}", token.created_by),
    };
    let mut rows = vec![
        ("token", token.id.clone()),
        ("state", state(token)),
        ("for", whom(token.node.as_ref().map(|node| node.as_str()), token.uses, token.declared)),
        ("made", made),
        ("expires", time::moment(token.expires_at, look)),
    ];
    rows.extend(
        token
            .revoked
            .as_ref()
            .map(|revoked| ("revoked", format!("{} by {}", time::moment(revoked.at, look), revoked.by))),
    );
    rows.push(("used by", counted(used_by.len(), "node")));
    let rows: Vec<(&str, &str)> = rows.iter().map(|(what, says)| (*what, says.as_str())).collect();
    let mut text = look.labelled(&rows, 0);
    if !used_by.is_empty() {
        let mut table = look.table(&["NODE", "ENROLLED"]);
        for used in used_by {
            table.add_row([used.node.to_string(), time::moment(used.at, look)]);
        }
        text.push('\n');
        text.push_str(&look.lay_out(table, 0));
    }
    text
}

/// Whom a token is for.
#[must_use]
pub fn whom(node: Option<&str>, uses: u32, declared: bool) -> String {
    let kind = if declared { "declared " } else { "" };
    match (node, uses) {
        (Some(node), _) => format!("node {node} alone, once"),
        (None, 1) => format!("any {kind}node, once"),
        (None, uses) => format!("any {uses} {kind}nodes, once each"),
    }
}

fn state(token: &TokenStatus) -> String {
    match token.worth {
        Worth::Valid => "valid",
        Worth::Used => "used",
        Worth::Expired => "expired",
        Worth::Revoked => "revoked",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::store::{Revocation, TokenUse};
    use wavegate_common::id::Actor;

    fn status(id: &str, worth: Worth) -> TokenStatus {
        TokenStatus {
            id: id.repeat(4),
            worth,
            node: None,
            uses: 1,
            times_used: 0,
            declared: false,
            created_by: Actor("alice".to_owned()),
            created_at: Some(samples::at(0)),
            expires_at: samples::at(3600),
            revoked: None,
        }
    }

    #[test]
    fn what_tokens_are_worth() {
        let list = [
            TokenStatus { uses: 10_000, times_used: 9_412, declared: true, ..status("0a1b", Worth::Valid) },
            TokenStatus {
                node: Some(samples::node("compute-1")),
                times_used: 1,
                ..status("77c0", Worth::Used)
            },
            TokenStatus { expires_at: samples::at(10), created_at: None, ..status("5555", Worth::Expired) },
        ];
        insta::assert_snapshot!(tokens(&list, samples::at(60), &samples::look()), @r"
        TOKEN             STATE    FOR                         USED  EXPIRES                    MADE BY
        0a1b0a1b0a1b0a1b  valid    any 10000 declared nodes,   9412  in 59 min                  alice
                                   once each
        77c077c077c077c0  used     node compute-1 alone, once  1     in 59 min                  alice
        5555555555555555  expired  any node, once              0     2026-11-22T12:00:10+00:00  alice
        ");
        insta::assert_snapshot!(tokens(&[], samples::at(60), &samples::look()), @"There is no join token. Make one: wavegate token create");
    }

    #[test]
    fn a_leaked_one() {
        let revoked = Some(Revocation { by: Actor("bob".to_owned()), at: samples::at(90) });
        let token_status = TokenStatus { uses: 40, times_used: 2, revoked, ..status("0a1b", Worth::Revoked) };
        let used = |name: &str, at| TokenUse { node: samples::node(name), at: samples::at(at) };
        let detail =
            TokenDetail { token: token_status, used_by: vec![used("compute-1", 20), used("compute-2", 21)] };
        insta::assert_snapshot!(token(&detail, &samples::look()), @r"
        token    0a1b0a1b0a1b0a1b
        state    revoked
        for      any 40 nodes, once each
        made     2026-11-22T12:00:00+00:00 by alice
        expires  2026-11-22T13:00:00+00:00
        revoked  2026-11-22T12:01:30+00:00 by bob
        used by  2 nodes

        NODE       ENROLLED
        compute-1  2026-11-22T12:00:20+00:00
        compute-2  2026-11-22T12:00:21+00:00
        ");
    }
}
