//! The token's text: round trip, every flipped bit, every length.

use super::*;
use crate::core::consistency::session::token::MAX_TOKEN;
use proptest::prelude::*;

fn moments() -> impl Strategy<Value = Moment> {
    (any::<u32>(), 0..1_u64 << 63, any::<u32>()).prop_map(|(minter, at, raised)| Moment {
        minter: Minter(minter),
        at: MonoTime::from_micros(at),
        raised,
    })
}

fn tokens() -> impl Strategy<Value = Token> {
    let marks = (any::<u64>(), any::<u64>(), moments(), any::<bool>()).prop_map(|(resource, etag, since, read)| Mark {
        resource,
        etag,
        since,
        by: if read { By::Read } else { By::Write },
    });
    let marks = proptest::collection::vec(marks, 0..=MAX_MARKS);
    (proptest::option::of(moments()), marks).prop_map(|(floor, marks)| Token::of(floor, marks))
}

proptest! {
    #[test]
    fn r47_what_was_signed_is_read_and_what_was_changed_is_not(
        token in tokens(), at in any::<proptest::sample::Index>(), bit in 0_u8..8, cut in any::<proptest::sample::Index>(),
    ) {
        let ring = ring();
        let text = ring.sign(&here(ME, 1, 1), &token).into_bytes();
        prop_assert!(text.len() <= MAX_TOKEN);
        let Opened::Verified { token: read, signs: true, .. } = ring.open(&text) else {
            return Err(TestCaseError::fail("it does not verify"));
        };
        prop_assert_eq!(read, token);
        let mut flipped = text.clone();
        flipped[at.index(text.len())] ^= 1 << bit;
        prop_assert!(matches!(ring.open(&flipped), Opened::Foreign));
        prop_assert!(matches!(ring.open(&text[..cut.index(text.len())]), Opened::Foreign));
        let other = Keyring::new(b"another key of at least thirty-two", &[]);
        prop_assert!(matches!(other.open(&text), Opened::Foreign));
    }

    #[test]
    fn whatever_comes_is_read_without_failing(text in proptest::collection::vec(any::<u8>(), 0..600), v1 in any::<bool>()) {
        let text = if v1 { [b"v1.".as_slice(), &text].concat() } else { text };
        prop_assert!(matches!(ring().open(&text), Opened::Foreign));
    }

    #[test]
    fn r48_a_token_never_grows_beyond_its_bound_and_never_asks_for_less(
        steps in proptest::collection::vec((0_usize..20, any::<bool>(), any::<bool>(), 0_u8..3), 1..80),
    ) {
        let ring = ring();
        let mut current = Vec::new();
        let mut written = std::collections::BTreeMap::new();
        for (n, (resource, write, mine, tag)) in steps.into_iter().enumerate() {
            let now = 1000 + n as u64;
            let here = here(if mine { ME } else { OTHER }, now, 100);
            let path = format!("/{resource}");
            let mut session = Session::of(here, ring.secret(), &current);
            let tag = (tag > 0).then(|| etag(&format!("\"{tag}\"")));
            if write {
                session.wrote(&name(&path), tag.as_ref(), MonoTime::from_micros(now));
                written.insert(resource, now);
            } else {
                session.saw(&name(&path), tag.as_ref().and_then(Etag::strong), MonoTime::from_micros(now));
            }
            let text = ring.sign(&here, session.token());
            prop_assert!(text.len() <= MAX_TOKEN);
            current = vec![ring.open(text.as_bytes())];
            for (resource, at) in &written {
                let path = format!("/{resource}");
                for minter in [ME, OTHER] {
                    let here = Here { minter, ..here };
                    let demand = Demand::of(&here, &current, &name(&path));
                    prop_assert!(demand.binds() && !demand.is_met(&entry(*at - 1, *at - 1, "\"old\"")));
                }
            }
        }
    }
}

#[test]
fn every_bit_of_a_full_token_counts() {
    let ring = ring();
    let mut session = Session::of(here(ME, 9, 9), ring.secret(), &[Opened::Foreign]);
    for n in 0..MAX_MARKS {
        session.wrote(&name(&format!("/{n}")), None, MonoTime::from_micros(5));
    }
    let text = ring.sign(&here(ME, 9, 9), session.token()).into_bytes();
    assert_eq!(text.len(), MAX_TOKEN);
    assert!(
        text.iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte)),
        "fit for a cookie"
    );
    for at in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(matches!(ring.open(&flipped), Opened::Foreign), "bit {at}");
    }
    let longer = [text.as_slice(), b"A"].concat();
    assert!(matches!(ring.open(&longer), Opened::Foreign));
}
