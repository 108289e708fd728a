//! An entry in the records of its tags (R12a). It is listed in each of them before it is listed under its resource, which puts it in
//! service, and leaves all of them when it is unlisted there; a tag that is killed revokes it first and unlists it there then. So no
//! step holds two records, and none is missed: whoever puts an entry in service sees that it was revoked, and whoever revoked it comes
//! by later to unlist it.

use super::super::{Entry, EntryRef, ResourceId};
use super::{Index, Token};
use crate::core::consistency::gate::{Alone, Published, Since, TokenId};
use crate::core::consistency::listed::Entry as _;
use crate::core::consistency::write::Ended;
use crate::core::key::KeyDigest;
use crate::core::reason::NotStored;
use crate::core::time::MonoTime;

impl Index {
    /// A refusal revokes: the tags' records know the entry already.
    pub(in crate::store) fn refuse(&self, entry: &EntryRef, why: NotStored) -> Published<EntryRef> {
        entry.revoke();
        self.leave_tags(std::slice::from_ref(entry));
        Published::Refused(why)
    }

    pub(in crate::store) fn list(&self, tag: u128, token: &Token, entry: &EntryRef) -> Result<(), NotStored> {
        let mut record = self.records.entry(tag).or_default();
        let since = Since {
            registered: token.registered,
            // Under the record's lock: see `tags`.
            killed: self.kills.killed_since(token.resource.upstream, tag, token.mark),
        };
        let listed = record.step(|gate| gate.tag(since, entry));
        drop(record);
        if listed.is_err() {
            self.step(MonoTime::default(), tag, |_| Vec::new()); // a record that was made for this alone goes
        }
        listed
    }

    /// What is unlisted anywhere leaves the records of its tags. Called without a lock: records share shards.
    pub(super) fn leave_tags(&self, gone: &[EntryRef]) {
        for entry in gone {
            for tag in entry.tags() {
                self.step(MonoTime::default(), *tag, |gate| {
                    gate.untag(entry);
                    Vec::new()
                });
            }
        }
    }

    /// A step on one record took these out of service: what a tag's record gave up is still listed under its resource. Returns what was
    /// in service until now.
    pub(super) fn unlisted(&self, record: u128, gone: Vec<EntryRef>) -> Vec<EntryRef> {
        if !KeyDigest(record).is_tag() {
            self.uncount(&gone);
            self.leave_tags(&gone);
            return gone;
        }
        let mut left = Vec::new();
        for entry in gone {
            left.extend(self.step(MonoTime::default(), entry.resource().digest, |gate| {
                gate.evict(entry.key_digest(), entry.id()).into_iter().collect()
            }));
        }
        left
    }

    /// A write to the record begins; where an exclusive route can read it, its entries go at once. Returns those.
    pub(in crate::store) fn write_begins(
        &self,
        now: MonoTime,
        record: ResourceId,
        exclusive: bool,
    ) -> (Vec<EntryRef>, Option<Alone>) {
        if KeyDigest(record.digest).is_tag() {
            self.kills.begin(record.upstream);
        }
        self.killing(record);
        self.begin(now, record.digest, exclusive)
    }

    /// It ends; `mine` is the token of the fill that its own answer is.
    pub(in crate::store) fn write_ends(
        &self,
        now: MonoTime,
        record: ResourceId,
        ended: Ended,
        mine: Option<TokenId>,
    ) -> Vec<EntryRef> {
        self.killing(record);
        let gone = self.end(now, record.digest, ended, mine);
        if KeyDigest(record.digest).is_tag() {
            self.kills.end(record.upstream, ended);
        }
        gone
    }

    /// What `leaves` names goes, and every fill in flight is refused.
    pub(in crate::store) fn purge(
        &self,
        now: MonoTime,
        record: ResourceId,
        leaves: impl Fn(&Entry) -> bool,
    ) -> Vec<EntryRef> {
        self.killing(record);
        self.drop_where(now, record.digest, leaves)
    }

    /// The connection of one that ended open has closed: after [`Index::closed`].
    pub(in crate::store) fn has_closed(&self, record: ResourceId, settled_at: MonoTime) {
        if KeyDigest(record.digest).is_tag() {
            self.kills.closed(record.upstream, settled_at);
        }
    }

    /// Whoever kills a tag says so first (R12a).
    pub(in crate::store) fn killing(&self, record: ResourceId) {
        if KeyDigest(record.digest).is_tag() {
            self.kills.note(record.upstream, record.digest);
        }
    }
}
