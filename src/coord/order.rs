//! The operator's word on a node: given to the owner, and waited for until it has taken effect.

use super::{Coord, NotDone};
use crate::core::failover::event::{Event, Word};
use crate::core::failover::view::{NoPrimary, Primary};
use std::time::Duration;

/// What came of the operator's word.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// It is so.
    Done,
    /// A promotion has not ended in the time there was.
    UnderWay,
    /// Another node was promoted instead: the one that was wanted died meanwhile.
    Other(usize),
    /// Nobody is the primary now, and nobody will be by itself.
    Nobody(NoPrimary),
}

impl Coord {
    /// Tells the owner the operator's word, and waits until it has taken effect, or until the promotion it began has ended; no longer
    /// than `limit`.
    ///
    /// # Errors
    /// When it is refused or cannot be made durable: nothing changed.
    pub async fn order(&self, upstream: usize, word: Word, limit: Duration) -> Result<Came, NotDone> {
        // Before the word, so that no change after it is missed.
        let mut changed = self.changed.subscribe();
        self.tell(upstream, Event::Operator(word)).await?;
        let wanted = match word {
            Word::Promote { node } => Some(node),
            Word::Drain { .. } => None,
            Word::Undrain { .. } | Word::Resynced { .. } => return Ok(Came::Done),
        };
        let came = async {
            loop {
                changed.borrow_and_update();
                let primary = self.cell(upstream).map(|view| view.load().primary);
                match (primary, wanted) {
                    (Some(Primary::Pending), _) => {}
                    (Some(Primary::Node(node)), Some(wanted)) if node != wanted => return Came::Other(node),
                    (Some(Primary::None(why)), Some(_)) => return Came::Nobody(why),
                    (Some(_) | None, _) => return Came::Done,
                }
                if changed.changed().await.is_err() {
                    return Came::UnderWay;
                }
            }
        };
        Ok(tokio::time::timeout(limit, came).await.unwrap_or(Came::UnderWay))
    }
}
