//! Nodes that follow a primary at their own pace (`replication = "primary"`): which node that is, what its probes report, and how far
//! behind it the node that answered may have been (R43). Over one shared store none of it matters.

use super::One;
use crate::core::consistency::bound::{Lag, Position};
use crate::core::failover::event::{Role, Said};
use crate::core::failover::view::{Epoch, Primary};
use crate::core::time::{MonoTime, Span};
use http::{HeaderMap, HeaderName};

impl One {
    /// The one node that the others follow; none over a shared store, where no node is behind another.
    fn node_in_office(&self) -> Option<usize> {
        if self.is_shared() {
            return None;
        }
        match self.primary(&self.view.load()) {
            Primary::Node(node) => Some(node),
            Primary::Any | Primary::Homes | Primary::Pending | Primary::None(_) => None,
        }
    }

    /// What a node is, where one is unlike the others.
    pub(super) fn role(&self, node: usize) -> Option<&'static str> {
        let primary = self.node_in_office()?;
        Some(if node == primary { "primary" } else { "replica" })
    }

    /// The position the primary's probes reported last.
    pub(super) fn position(&self, node: usize) -> Option<u64> {
        let reported = || self.probes.lock().last().map(|position| position.0);
        (self.node_in_office() == Some(node)).then(reported).flatten()
    }

    /// A probe of a node that was sent at `sent`, in this epoch, reported a position. One from before the node was promoted tells what a
    /// replica had then.
    pub(super) fn probed(&self, node: usize, (sent, sent_in): (MonoTime, Epoch), position: Position) {
        if self.node_in_office() == Some(node) && self.view.load().epoch == sent_in {
            self.probes.lock().note(sent_in, sent, position);
        }
    }

    /// What a node says of itself on a probe.
    pub(super) fn said(&self, answer: &HeaderMap) -> Said {
        let Some(check) = &self.config.health_check else {
            return Said::default();
        };
        let word = |name: &Option<HeaderName>| name.as_ref().and_then(|name| one_line(answer, name));
        Said {
            role: word(&check.role_header).and_then(|word| match word {
                "primary" => Some(Role::Primary),
                "replica" => Some(Role::Replica),
                _ => None,
            }),
            term: word(&check.term_header).and_then(number),
            position: self.told(answer),
        }
    }

    /// R43: how far behind the primary a node's answer to a request of this epoch may be: by its position, else by the owner's word. When
    /// another epoch has begun since nobody can say: who has just been promoted was a replica when it was asked, and who was deposed may
    /// have been for longer than we know.
    pub(super) fn lag(&self, node: usize, sent_in: Epoch, answer: &HeaderMap) -> Lag {
        if self.is_shared() {
            return Lag::None;
        }
        let office = self.node_in_office();
        let epoch = self.view.load().epoch;
        if epoch != sent_in {
            return Lag::Unknown;
        }
        if office == Some(node) {
            return Lag::None;
        }
        let known = self.told(answer).and_then(|position| {
            let probes = self.probes.lock();
            // Below all of them it is further behind than anybody can say: no word of the owner's is better than that.
            probes.know(epoch).then(|| probes.lag(epoch, Some(position)))
        });
        let declared = || self.config.max_lag.map(|lag| Lag::Declared(Span::from(lag)));
        known.or_else(declared).unwrap_or(Lag::Unknown)
    }

    /// The position an answer tells: one number, or none at all.
    pub(super) fn told(&self, answer: &HeaderMap) -> Option<Position> {
        let name = self.config.health_check.as_ref()?.position_header.as_ref()?;
        one_line(answer, name).and_then(number).map(Position)
    }
}

/// The value of a field that came once; one that came twice says nothing.
fn one_line<'a>(answer: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = answer.get_all(name).iter();
    let (line, second) = (lines.next()?, lines.next());
    line.to_str().ok().filter(|_| second.is_none())
}

fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
