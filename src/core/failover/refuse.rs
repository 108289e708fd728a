//! The operator's word, judged before it is taken, so that who gave it hears at once why nothing would come of it. What is not refused
//! may still fail later: a hook, or the disk.

use super::event::Word;
use super::machine::Machine;
use super::node::Tracked;
use super::settings::{Promotion, Sharing, Spread};

/// Why the operator's word changes nothing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such node.
    NoNode,
    /// It is to take over, and its probes do not pass.
    NotAlive,
    /// Nobody is above the others here.
    Equals,
    /// Another node is being promoted at this moment.
    UnderWay,
    /// It is the primary, and nobody would take over.
    InOffice,
}

impl Refusal {
    /// A sentence for the operator.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::NoNode => "there is no such node now",
            Self::NotAlive => "its probes do not pass",
            Self::Equals => "here every node takes traffic, and none is above the others",
            Self::UnderWay => "another node is being promoted at this moment: ask again when that has ended",
            Self::InOffice => "it is the primary, and nobody takes over by itself: promote another node first",
        }
    }
}

impl Machine {
    /// Why a word would change nothing now; none: it is taken.
    #[must_use]
    pub fn refuses(&self, word: Word) -> Option<Refusal> {
        let (Word::Promote { node } | Word::Drain { node } | Word::Undrain { node } | Word::Resynced { node }) = word;
        let Some(tracked) = self.node(node).filter(|tracked| tracked.filled) else {
            return Some(Refusal::NoNode);
        };
        match word {
            Word::Promote { .. } => self.refuses_promotion(node, tracked),
            Word::Drain { .. } => {
                let stays = self.has_primary() && self.primary == Some(node);
                (stays && self.promotion() != Some(Promotion::Automatic)).then_some(Refusal::InOffice)
            }
            Word::Undrain { .. } | Word::Resynced { .. } => None,
        }
    }

    fn refuses_promotion(&self, node: usize, tracked: &Tracked) -> Option<Refusal> {
        match (self.settings.sharing, self.settings.spread) {
            (Sharing::Homes, _) | (Sharing::Store, Spread::All) => Some(Refusal::Equals),
            _ if !tracked.is_alive() => Some(Refusal::NotAlive),
            _ if self.promotes_another(node) => Some(Refusal::UnderWay),
            (Sharing::Store, Spread::One) | (Sharing::Primary { .. } | Sharing::Mirrored { .. }, _) => None,
        }
    }
}
