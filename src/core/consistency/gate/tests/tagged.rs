//! The record of a tag (R12a).

use super::*;

fn since(registered: u64, killed: bool) -> Since {
    Since {
        registered: at(registered),
        killed,
    }
}

#[test]
fn r12a_a_tag_that_was_killed_or_busy_since_the_fill_began_refuses() {
    let unknown = |settled_at| Ended::Unknown {
        settled_at: at(settled_at),
    };
    type Events<'a> = &'a dyn Fn(&mut Gate<Kept>);
    let cases: &[(&str, Events<'_>, Since, bool)] = &[
        ("nothing happened", &|_| {}, since(10, false), true),
        ("killed since", &|_| {}, since(10, true), false),
        ("a write is pending", &|gate| gate.begin(), since(10, false), false),
        (
            "two were, one has ended",
            &|gate| {
                gate.begin();
                gate.begin();
                gate.end(Ended::Applied);
            },
            since(10, false),
            false,
        ),
        (
            "one has ended, before the fill began",
            &|gate| {
                gate.begin();
                gate.end(Ended::Applied);
            },
            since(10, false),
            true,
        ),
        (
            "unsettled when the fill began, and settled since",
            &|gate| {
                gate.begin();
                gate.end(unknown(20));
            },
            since(10, false),
            false,
        ),
        (
            "settled when the fill began",
            &|gate| {
                gate.begin();
                gate.end(unknown(20));
            },
            since(20, false),
            true,
        ),
        (
            "the connection of an unknown write is open",
            &|gate| {
                gate.begin();
                gate.end(Ended::UnknownOpen);
            },
            since(1_000, false),
            false,
        ),
    ];
    for (name, events, since, listed) in cases {
        let mut gate = Gate::default();
        events(&mut gate);
        let entry = kept(1, 1);
        assert_eq!(gate.tag(*since, &entry).is_ok(), *listed, "{name}");
        assert_eq!(gate.entries().contains(&entry), *listed, "{name}");
    }
}

#[test]
fn r12a_an_entry_that_one_of_its_tags_has_revoked_is_not_put_in_service() {
    let mut resource: Gate<Kept> = Gate::default();
    let mut tag: Gate<Kept> = Gate::default();
    let entry = kept(1, 1);
    resource.register(NOW, TokenId(1), true);
    tag.tag(since(1000, false), &entry).unwrap();
    assert_eq!(tag.drop_all().len(), 1);
    let published = resource.publish(TokenId(1), entry);
    assert_eq!(refused(&published), Some(NotStored::TokenDead));
    assert!(!resource.is_pinned(NOW), "nothing is left behind");
}

#[test]
fn r5_r12a_a_304_of_an_entry_that_a_tag_has_just_revoked_brings_nothing_back() {
    let mut resource: Gate<Kept> = Gate::default();
    let old = kept(1, 1);
    store(&mut resource, &old);
    resource.register(NOW, TokenId(2), true);
    old.revoke(); // and not yet unlisted
    let published = resource.publish_validated(TokenId(2), &old, kept(2, 1));
    assert_eq!(refused(&published), Some(NotStored::TokenDead));
}

#[test]
fn an_entry_that_leaves_its_tag_unpins_the_record() {
    let mut tag: Gate<Kept> = Gate::default();
    let (one, two) = (kept(1, 1), kept(2, 1));
    tag.tag(since(1, false), &one).unwrap();
    tag.tag(since(1, false), &two).unwrap();
    tag.untag(&one);
    tag.untag(&one);
    assert!(tag.is_pinned(NOW) && tag.entries().contains(&two));
    tag.untag(&two);
    assert!(!tag.is_pinned(NOW));
    assert!(!one.revoked.get(), "to leave a tag is not to leave service");
}
