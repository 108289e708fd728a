//! What a 304 makes of the entry that was asked about.

use super::{Fetch, Led, as_read};
use crate::core::admit::{self, Admission};
use crate::core::consistency::bound;
use crate::core::http::stored::Meta;
use crate::core::http::validate::{self, Change};
use crate::core::http::{dates, freshness};
use crate::core::time::WallTime;
use crate::proxy::flights::Landed;
use crate::proxy::{headers, session};
use crate::store::entry::Head;
use crate::store::{EntryRef, Text, Token, new_entry, renewed_entry};
use crate::upstream::Answered;
use http::header::{DATE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;

/// How long a date is in the form that everybody writes (RFC 9110 s5.6.7).
const DATE_BYTES: usize = 29;

thread_local! {
    /// The `Date` that was read last, and what it says: nodes say the same for a second.
    static READ: Cell<Option<([u8; DATE_BYTES], WallTime)>> = const { Cell::new(None) };
}

/// What `Date` says, if it can be read.
fn dated(fields: &HeaderMap) -> Option<WallTime> {
    let mut lines = fields.get_all(DATE).iter().map(HeaderValue::as_bytes);
    let line: Option<[u8; DATE_BYTES]> = lines.next().and_then(|line| line.try_into().ok());
    let line = line.filter(|_| lines.next().is_none());
    if let (Some(line), Some((read, says))) = (line, READ.get())
        && line == read
    {
        return Some(says);
    }
    let says = dates::field(fields, &DATE).valid();
    if let (Some(line), Some(says)) = (line, says) {
        READ.set(Some((line, says)));
    }
    says
}

impl Fetch {
    /// A 304 is a fill (R5): a new entry with the stored body, in service only if the token is alive and the very entry it was sent
    /// for is still listed. Whoever asked is answered either way: the origin has just said that this is what it has.
    pub(super) fn confirmed(&mut self, old: &EntryRef, answered: &Answered, token: Token) {
        if let Some(entry) = self.renewed(old, answered, &token) {
            return self.confirmed_as(entry, old, answered.node, token, Vec::new());
        }
        let (store, node) = (Arc::clone(&self.core.shared.store), answered.node);
        let mut fields = answered.parts.headers.clone();
        headers::from_node(&mut fields);
        session::strip_answer(&mut fields); // R17
        // A cookie on a 304 is for who asked: it is passed on, and changes nothing that is stored. Where cookies are stored it is a
        // field as any other, and takes the place of the stored one (RFC 9111 s3.2).
        let mut cookies: Vec<HeaderValue> = Vec::new();
        if !self
            .job
            .policy
            .caching()
            .is_some_and(|caching| caching.store_set_cookie)
        {
            cookies.extend(fields.get_all(SET_COOKIE).iter().cloned());
            fields.remove(SET_COOKIE);
        }
        let mut merged = old.headers();
        validate::merge_304(&mut merged, &fields);
        let answer = self.answer(answered, &fields);
        let admission = admit::freshen(
            &old.meta(),
            &merged,
            &answer,
            &as_read(&self.job, false),
            &self.job.policy,
        );
        match admission {
            Admission::Store(mut meta) => {
                meta.proven = token.is_provable();
                let head = Arc::new(Head {
                    meta: *meta,
                    headers: merged,
                });
                let entry = self.entry(head, old.body()).after(old);
                self.confirmed_as(entry, old, node, token, cookies);
            }
            Admission::PassOn(why) => {
                if why.is_of_the_answer() {
                    // What was stored may be stored no longer.
                    store.differs(self.job.resource, Some(&token));
                }
                self.refused(why);
                let meta = Meta {
                    sent: answered.sent,
                    epoch: answered.epoch,
                    received: answered.received,
                    initial_age: freshness::age_field(&fields).unwrap_or_default(),
                    valid_as_of: bound::valid_as_of(answered.sent, freshness::age_field(&fields), answered.lag)
                        .unwrap_or_default(),
                    ..old.meta()
                };
                let entry = self.entry(Arc::new(Head { meta, headers: merged }), old.body());
                self.tell(Landed::Alone, Led::Confirmed(entry, node, cookies));
            }
        }
    }

    /// The entry that nearly every 304 makes: the fields say what they said, but for `Date`, so that nothing is judged again.
    fn renewed(&self, old: &EntryRef, answered: &Answered, token: &Token) -> Option<EntryRef> {
        if !old.is_under(self.terms()) {
            return None; // what is made of the fields has changed by a reload
        }
        let fields = &answered.parts.headers;
        let stored: SmallVec<[(&str, Text<'_>); 16]> = old.lines().collect();
        let change = validate::change(&stored, fields);
        if change == Change::More {
            return None;
        }
        let (read, answer) = (as_read(&self.job, false), self.answer(answered, fields));
        let mut meta = admit::renew(old.meta(), &answer, &read, &self.job.policy, dated(fields))?;
        meta.proven = token.is_provable();
        let id = self.core.shared.store.next_entry_id();
        if change == Change::Nothing {
            return Some(renewed_entry(id, old, meta));
        }
        let mut headers = old.headers();
        headers.insert(DATE, fields.get(DATE)?.clone());
        let head = Arc::new(Head { meta, headers });
        let entry = new_entry(id, old.identity(), head, old.body());
        Some(entry.under(self.terms()).after(old))
    }

    fn confirmed_as(&mut self, entry: EntryRef, old: &EntryRef, node: usize, token: Token, cookies: Vec<HeaderValue>) {
        if let Err(why) = self.core.shared.store.publish(token, &entry, Some(old)) {
            self.refused(why);
        }
        self.tell(
            Landed::Confirmed(entry.clone(), node),
            Led::Confirmed(entry, node, cookies),
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_date_is_what_it_says_whatever_was_read_before() {
        let of = |lines: &[&str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(DATE, line.parse().unwrap());
            }
            fields
        };
        let (one, other) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        let cases: [&[&str]; 8] = [
            &[one],
            &[one],
            &[other],
            &[one, other],
            &[one, one],
            &["Sunday, 06-Nov-94 08:49:37 GMT"],
            &["Sun, 06 Nov 1994 08:49:37 CET"],
            &[],
        ];
        for lines in cases {
            let fields = of(lines);
            assert_eq!(dated(&fields), dates::field(&fields, &DATE).valid(), "{lines:?}");
        }
        assert_eq!(
            dated(&of(&[one])).unwrap().as_millis() + 1000,
            dated(&of(&[other])).unwrap().as_millis()
        );
    }
}
