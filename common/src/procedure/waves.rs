//! Reading how a stage is cut into waves, and how much of it may be at work or go wrong at once.

use super::diagnostic::unknown_word;
use super::fields::{Fields, Node, kind, value};
use super::parse::Reader;
use super::value::Value;
use crate::waves::{Amount, Batches, DOUBLING, Mode, WavePolicy};

impl Reader<'_, '_> {
    /// The policy of a stage; what is wrong with it is reported.
    pub(super) fn waves(&mut self, fields: &Fields<'_, '_>) -> Option<WavePolicy> {
        let canary = fields.number(self.report, "canary").map(toml::Spanned::into_inner);
        let max_unavailable = self.required_amount(fields, "max_unavailable");
        let errors_allowed = self.required_amount(fields, "errors_allowed");
        let batches = match fields.optional("batches") {
            Some(node) => self.batches(node),
            None => Some(Batches::MaxUnavailable),
        };
        let group_by = fields.optional("group_by").map(|_| fields.text(self.report, "group_by"));
        let soak_s = fields.optional("soak_s").map(|_| fields.number(self.report, "soak_s"));
        let start = fields.optional("start").map(|_| self.start(fields));
        let policy = WavePolicy {
            canary: canary?,
            batches: batches?,
            group_by: match group_by {
                Some(label) => Some(label?.into_inner().to_owned()),
                None => None,
            },
            max_unavailable: max_unavailable?,
            errors_allowed: errors_allowed?,
            soak_s: match soak_s {
                Some(soak_s) => soak_s?.into_inner().into(),
                None => 0,
            },
            start: match start {
                Some(start) => start?,
                None => Mode::Auto,
            },
        };
        if let Some(refusal) = policy.refusal() {
            let field = refusal.split(' ').next().and_then(|field| fields.optional(field));
            let at = field.map_or_else(|| fields.at.clone(), Node::span);
            self.report.add(&at, refusal);
            return None;
        }
        Some(policy)
    }

    fn start(&mut self, fields: &Fields<'_, '_>) -> Option<Mode> {
        let word = fields.text(self.report, "start")?;
        let mode = word.get_ref().parse::<Mode>();
        mode.map_err(|error| self.report.add(&word.span(), unknown_word(&error))).ok()
    }

    fn required_amount(&mut self, fields: &Fields<'_, '_>, key: &str) -> Option<Amount> {
        let node = fields.required(self.report, key)?;
        self.amount(key, node)
    }

    /// A whole number, or a part of the stage as `"25%"`.
    fn amount(&mut self, key: &str, node: &Node<'_>) -> Option<Amount> {
        let amount = match value(node.get_ref()) {
            Ok(Value::Number(number)) => u32::try_from(number).ok().map(Amount::Count),
            Ok(Value::Text(text)) => text.parse().ok(),
            _ => None,
        };
        if amount.is_none() {
            let found = kind(node.get_ref());
            let message = format!(
                "'{key}' is {found}; it must be a whole number, 0 or more, or a part of the stage, e.g. \"25%\""
            );
            self.report.add(&node.span(), message);
        }
        amount
    }

    fn batches(&mut self, node: &Node<'_>) -> Option<Batches> {
        if node.get_ref().as_str() == Some(DOUBLING) {
            return Some(Batches::Doubling);
        }
        let Some(items) = node.get_ref().as_array() else {
            let found = kind(node.get_ref());
            let message = format!(
                "'batches' is {found}; it must be a list of sizes, e.g. [1, 5, \"25%\"], or \"{DOUBLING}\""
            );
            self.report.add(&node.span(), message);
            return None;
        };
        let sizes: Vec<Option<Amount>> = items.iter().map(|item| self.amount("batches", item)).collect();
        sizes.into_iter().collect::<Option<Vec<_>>>().map(Batches::Sizes)
    }
}
