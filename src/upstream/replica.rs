//! Nodes that follow a primary at their own pace (`replication = "primary"`): which node that is, what its probes report, and how far
//! behind it the node that answered may have been (R43). Over one shared store none of it matters.

use super::One;
use super::pool::Tried;
use crate::core::consistency::bound::{Lag, Position};
use crate::core::time::{MonoTime, Span};
use http::HeaderMap;

impl One {
    /// The nodes that may answer no strong read and no write.
    pub(super) fn replicas(&self) -> Tried {
        match self.config.primary() {
            None => Tried::new(),
            Some(primary) => (0..self.nodes.len()).filter(|node| *node != primary).collect(),
        }
    }

    /// What a node is, where one is unlike the others.
    pub(super) fn role(&self, node: usize) -> Option<&'static str> {
        let primary = self.config.primary()?;
        Some(if node == primary { "primary" } else { "replica" })
    }

    /// The position the primary's probes reported last.
    pub(super) fn position(&self, node: usize) -> Option<u64> {
        let reported = || self.probes.lock().last().map(|position| position.0);
        (self.config.primary() == Some(node)).then(reported).flatten()
    }

    /// A probe of a node that was sent at `sent` has been answered.
    pub(super) fn probed(&self, node: usize, sent: MonoTime, answer: &HeaderMap) {
        if self.config.primary() == Some(node)
            && let Some(position) = self.told(answer)
        {
            let epoch = self.view.load().epoch;
            self.probes.lock().note(epoch, sent, position);
        }
    }

    /// R43: how far behind the primary a node's answer may be: by its position, else by the owner's word.
    pub(super) fn lag(&self, node: usize, answer: &HeaderMap) -> Lag {
        match self.config.primary() {
            None => return Lag::None,
            Some(primary) if primary == node => return Lag::None,
            Some(_) => {}
        }
        let epoch = self.view.load().epoch;
        let known = self
            .told(answer)
            .map(|position| self.probes.lock().lag(epoch, Some(position)));
        match known {
            Some(lag) if lag != Lag::Unknown => lag,
            Some(_) | None => self
                .config
                .max_lag
                .map_or(Lag::Unknown, |lag| Lag::Declared(Span::from(lag))),
        }
    }

    /// The position an answer tells: one number, or none at all.
    fn told(&self, answer: &HeaderMap) -> Option<Position> {
        let name = self.config.health_check.as_ref()?.position_header.as_ref()?;
        let mut lines = answer.get_all(name).iter();
        let (line, second) = (lines.next()?, lines.next());
        let digits = line
            .to_str()
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        second.is_none().then(|| digits.parse().ok().map(Position)).flatten()
    }
}
