#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod model;
mod wire;

use super::token::{Keyring, Opened};
use super::*;
use crate::core::http::stored::Meta;
use crate::core::http::testing::meta;
use http::HeaderValue;

const ME: Minter = Minter(7);
const OTHER: Minter = Minter(8);
const KEY: &[u8] = b"a key of thirty-two bytes or more";

fn here(minter: Minter, us: u64, wall_s: i64) -> Here {
    Here {
        minter,
        now: MonoTime::from_micros(us),
        wall: WallTime::from_millis(wall_s * 1000),
        bound: Span::from_secs(60),
    }
}

fn ring() -> Keyring {
    Keyring::new(KEY, &[])
}

fn name(path: &str) -> Name<'_> {
    Name {
        upstream: "o",
        path,
        query: None,
    }
}

fn etag(text: &str) -> Etag {
    Etag {
        weak: text.starts_with("W/"),
        value: HeaderValue::from_str(text).unwrap(),
    }
}

/// An entry sent and received then.
fn entry(sent: u64, received: u64, tag: &str) -> Meta {
    Meta {
        sent: MonoTime::from_micros(sent),
        received: MonoTime::from_micros(received),
        valid_as_of: MonoTime::from_micros(sent),
        etag: (!tag.is_empty()).then(|| etag(tag)),
        ..meta()
    }
}

/// A session after `steps`, as its token.
fn token(here: Here, before: &[Opened], steps: impl FnOnce(&mut Session)) -> Opened {
    let ring = ring();
    let mut session = Session::of(here, ring.secret(), before);
    steps(&mut session);
    ring.open(ring.sign(&here, session.token()).as_bytes())
}

fn met(here: Here, token: &Opened, path: &str, entry: &Meta) -> bool {
    Demand::of(&here, [token], &name(path)).is_met(entry)
}

fn wrote(path: &'static str, tag: &'static str, at: u64) -> impl FnOnce(&mut Session) {
    move |s| {
        let tag = (!tag.is_empty()).then(|| etag(tag));
        s.wrote(&name(path), tag.as_ref(), MonoTime::from_micros(at));
    }
}

fn saw(path: &'static str, tag: &'static str, at: u64) -> impl FnOnce(&mut Session) {
    move |s| {
        let tag = (!tag.is_empty()).then(|| etag(tag));
        s.saw(
            &name(path),
            tag.as_ref().and_then(Etag::strong),
            MonoTime::from_micros(at),
        );
    }
}

#[test]
fn r47_an_entry_meets_a_mark_by_its_etag_or_by_its_time() {
    let (mine, theirs) = (here(ME, 1000, 100), here(OTHER, 1000, 100));
    let by_me = token(mine, &[], wrote("/a", "\"2\"", 500));
    let untagged = token(mine, &[], wrote("/a", "", 500));
    let weak = token(mine, &[], wrote("/a", "W/\"2\"", 500));
    let read = token(mine, &[], saw("/a", "", 500));
    let cases: &[(&str, Here, &Opened, Meta, bool)] = &[
        (
            "the same strong ETag, however old",
            mine,
            &by_me,
            entry(1, 2, "\"2\""),
            true,
        ),
        ("the same elsewhere", theirs, &by_me, entry(1, 2, "\"2\""), true),
        (
            "another ETag, sent before",
            mine,
            &by_me,
            entry(499, 501, "\"1\""),
            false,
        ),
        ("another ETag, sent after", mine, &by_me, entry(500, 501, "\"3\""), true),
        (
            "sent after by a clock of somebody else",
            theirs,
            &by_me,
            entry(500, 501, "\"3\""),
            false,
        ),
        ("received at that instant", mine, &read, entry(1, 500, ""), true),
        (
            "received in the instant of an ack but sent before",
            mine,
            &untagged,
            entry(1, 500, ""),
            false,
        ),
        (
            "received at that instant elsewhere",
            theirs,
            &read,
            entry(1, 500, ""),
            false,
        ),
        (
            "received later but sent before",
            mine,
            &read,
            entry(499, 600, ""),
            false,
        ),
        ("no ETag equals no ETag", theirs, &untagged, entry(1, 2, ""), false),
        (
            "a weak ETag proves nothing",
            theirs,
            &weak,
            entry(1, 2, "W/\"2\""),
            false,
        ),
    ];
    for (case, here, token, entry, expected) in cases {
        assert_eq!(met(*here, token, "/a", entry), *expected, "{case}");
        assert!(met(*here, token, "/b", entry), "{case}: another resource");
        assert!(Demand::of(here, [*token], &name("/a")).binds(), "{case}");
        assert!(!Demand::of(here, [*token], &name("/b")).binds(), "{case}");
    }
    let elsewhere = Name {
        upstream: "p",
        ..name("/a")
    };
    assert!(!Demand::of(&mine, [&by_me], &elsewhere).binds(), "another upstream");
    assert!(
        met(mine, &by_me, "/%61", &entry(1, 2, "\"2\"")),
        "one resource however it is escaped"
    );
}

#[test]
fn r47_a_read_of_the_marked_state_leaves_the_mark_and_a_write_never_does() {
    let here = here(ME, 1000, 100);
    let first = token(here, &[], wrote("/a", "\"2\"", 500));
    // The entry it was served from may be older than the mark: instants of its own would ask for less.
    let again = token(here, std::slice::from_ref(&first), saw("/a", "\"2\"", 3));
    assert!(!met(here, &again, "/a", &entry(499, 501, "\"1\"")));
    let newer = token(here, std::slice::from_ref(&first), saw("/a", "\"3\"", 700));
    assert!(
        !met(here, &newer, "/a", &entry(500, 501, "\"2\"")),
        "monotonic: not back"
    );
    let rewritten = token(here, &[first], wrote("/a", "\"2\"", 900));
    assert!(
        !met(here, &rewritten, "/a", &entry(600, 601, "\"1\"")),
        "the same content, written again later"
    );
}

#[test]
fn r47_a_mark_ends_when_every_usable_entry_is_younger() {
    let token = token(here(ME, 1000, 100), &[], wrote("/a", "\"2\"", 500));
    for (wall, binds) in [(100, true), (165, true), (166, false), (50, true)] {
        let later = here(OTHER, 0, wall);
        assert_eq!(Demand::of(&later, [&token], &name("/a")).binds(), binds, "{wall}");
        let next = self::token(later, std::slice::from_ref(&token), |_| {});
        let Opened::Verified { token, .. } = next else { panic!() };
        assert_eq!(token.marks.len(), usize::from(binds), "{wall}");
    }
}

#[test]
fn r48_the_oldest_mark_becomes_the_floor_and_floors_of_two_processes_ask_the_primary() {
    let paths: Vec<String> = (0..=MAX_MARKS).map(|n| format!("/{n}")).collect();
    let (mine, theirs) = (here(ME, 1000, 100), here(OTHER, 1000, 100));
    let write_all = |s: &mut Session| {
        for (n, path) in paths.iter().enumerate() {
            s.wrote(&name(path), None, MonoTime::from_micros(100 + n as u64));
        }
    };
    let full = token(mine, &[], write_all);
    let Opened::Verified { token: inner, .. } = &full else {
        panic!()
    };
    assert_eq!(
        (inner.marks.len(), inner.floor),
        (MAX_MARKS, Some(mine.moment(MonoTime::from_micros(100))))
    );
    for path in ["/0", "/never-seen"] {
        assert!(met(mine, &full, path, &entry(100, 101, "")), "{path}");
        assert!(
            !met(mine, &full, path, &entry(99, 100, "")),
            "{path}: received then is for marks alone"
        );
        assert!(
            !met(theirs, &full, path, &entry(100, 101, "")),
            "{path}: somebody else's clock"
        );
    }
    let mixed = token(theirs, &[full], |s| {
        s.wrote(&name("/x"), None, MonoTime::from_micros(900));
        s.wrote(&name("/y"), None, MonoTime::from_micros(901));
        for n in 0..MAX_MARKS {
            s.wrote(&name(&format!("/z{n}")), None, MonoTime::from_micros(902));
        }
    });
    for here in [mine, theirs] {
        assert!(!met(here, &mixed, "/0", &entry(5000, 5001, "")));
    }
    assert!(met(theirs, &mixed, "/z0", &entry(5000, 5001, "")));
}

#[test]
fn r47_a_cookie_is_kept_until_all_that_it_tells_has_ended() {
    let raised = here(ME, 1000, 100);
    let token = token(raised, &[], wrote("/a", "", 500));
    let kept = raised.seconds_to_keep();
    assert_eq!(kept, 66);
    for (after, binds) in [(kept - 1, true), (kept, false)] {
        let later = here(ME, 1000, 100 + i64::try_from(after).unwrap());
        assert_eq!(Demand::of(&later, [&token], &name("/a")).binds(), binds, "{after}");
    }
}

#[test]
fn r48_an_unverifiable_token_is_not_forgotten() {
    let here = here(ME, 1000, 100);
    let foreign = Opened::Foreign;
    assert!(
        !met(here, &foreign, "/a", &entry(5000, 5001, "\"1\"")),
        "this request asks the primary"
    );
    let next = token(here, &[foreign], |_| {});
    for path in ["/a", "/b"] {
        assert!(!met(here, &next, path, &entry(999, 1001, "\"1\"")));
        assert!(met(here, &next, path, &entry(1000, 1001, "\"1\"")));
    }
}

#[test]
fn two_tokens_ask_for_what_both_ask_for() {
    let (mine, theirs) = (here(ME, 1000, 100), here(OTHER, 1000, 100));
    let a = token(mine, &[], wrote("/a", "\"2\"", 500));
    let b = token(theirs, &[], wrote("/b", "\"3\"", 500));
    let floor = token(mine, &[Opened::Foreign], |_| {});
    let both = |one: &Opened, other: &Opened| token(mine, &[one.clone(), other.clone()], |_| {});
    let old = entry(1, 2, "\"1\"");
    for (case, merged) in [("ab", both(&a, &b)), ("ba", both(&b, &a))] {
        assert!(
            !met(mine, &merged, "/a", &old) && !met(mine, &merged, "/b", &old),
            "{case}"
        );
        assert!(met(mine, &merged, "/a", &entry(1, 2, "\"2\"")), "{case}");
        assert!(met(mine, &merged, "/b", &entry(1, 2, "\"3\"")), "{case}");
        assert!(met(mine, &merged, "/c", &old), "{case}");
    }
    for (case, merged) in [("a floor", both(&a, &floor)), ("floor a", both(&floor, &a))] {
        assert!(
            !met(mine, &merged, "/a", &entry(1, 2, "\"2\"")),
            "{case}: below the floor"
        );
        assert!(!met(mine, &merged, "/c", &old), "{case}");
    }
    let later = token(mine, &[], wrote("/a", "\"4\"", 600));
    let merged = both(&a, &later);
    for tag in ["\"2\"", "\"4\"", "\"5\""] {
        assert!(
            !met(mine, &merged, "/a", &entry(5000, 5001, tag)),
            "{tag}: which is newer cannot be told"
        );
    }
}

#[test]
fn a_token_of_an_older_key_is_read_and_becomes_a_floor_under_the_new_one() {
    let (old, new) = (ring(), Keyring::new(b"another key of at least thirty-two", &[KEY]));
    let here = here(ME, 1000, 100);
    let mut session = Session::of(here, old.secret(), &[]);
    session.wrote(&name("/a"), Some(&etag("\"2\"")), MonoTime::from_micros(500));
    let text = old.sign(&here, session.token());
    let opened = new.open(text.as_bytes());
    assert!(
        met(here, &opened, "/a", &entry(1, 2, "\"2\"")),
        "its hashes are its own key's"
    );
    assert!(!met(here, &opened, "/a", &entry(1, 2, "\"1\"")));
    let session = Session::of(here, new.secret(), [&opened]);
    let next = new.open(new.sign(&here, session.token()).as_bytes());
    assert!(matches!(
        old.open(new.sign(&here, session.token()).as_bytes()),
        Opened::Foreign
    ));
    for path in ["/a", "/b"] {
        assert!(!met(here, &next, path, &entry(499, 501, "\"2\"")), "{path}");
        assert!(met(here, &next, path, &entry(500, 501, "\"1\"")), "{path}");
    }
}

#[test]
fn r47_what_was_received_at_the_same_instant_is_not_the_same_entry() {
    let me = here(ME, 1_000, 1_000);
    let seen = token(me, &[], saw("/x", "\"2\"", 500));
    assert!(met(me, &seen, "/x", &entry(300, 500, "\"2\"")), "the very entry");
    assert!(!met(me, &seen, "/x", &entry(100, 500, "\"1\"")), "an older variant");
    assert!(met(me, &seen, "/x", &entry(500, 600, "\"1\"")), "asked for after it");
    let plain = token(me, &[], saw("/x", "", 500));
    assert!(
        met(me, &plain, "/x", &entry(300, 500, "")),
        "the very entry, without an ETag"
    );
    assert!(
        !met(me, &plain, "/x", &entry(100, 500, "\"1\"")),
        "one that has an ETag"
    );
}

#[test]
fn r47_what_is_said_of_all_queries_is_said_of_each() {
    let me = here(ME, 1_000, 1_000);
    let query = |query| Name { query, ..name("/x") };
    let done = token(me, &[], |s| {
        s.wrote(&name("/x").every_query(), None, MonoTime::from_micros(500));
        s.saw(&query(Some("a")), None, MonoTime::from_micros(400)); // a mark of its own does not hide it
    });
    for (asked, sent, expected) in [
        (Some("a"), 450, false),
        (Some("b"), 450, false),
        (Some("b"), 500, true),
        (None, 450, true),
    ] {
        let demand = Demand::of(&me, [&done], &query(asked));
        assert_eq!(
            demand.is_met(&entry(sent, 900, "")),
            expected,
            "{asked:?}, sent at {sent}"
        );
        assert_eq!(
            query(asked).slot(),
            name("/x").every_query().slot(),
            "R49: one cookie tells of both"
        );
    }
}
