//! Dates among stored values: four bytes in place of twenty-nine. A thread has the texts of a few at hand, as answers stored together have
//! the same ones.

use crate::core::http::dates;
use crate::core::time::WallTime;
use http::HeaderValue;
use std::cell::RefCell;

/// The length of a date as it is spelt today.
const LENGTH: usize = 29;

/// How many texts a thread has at hand.
const AT_HAND: u32 = 64;

thread_local! {
    static TEXTS: RefCell<Vec<(u32, HeaderValue)>> = const { RefCell::new(Vec::new()) };
}

/// The seconds since 1970 that a value says, when its text can be made of them again.
pub(super) fn seconds(value: &HeaderValue) -> Option<u32> {
    if value.len() != LENGTH || value.is_sensitive() {
        return None;
    }
    let at = dates::parse(value.as_bytes())?;
    let seconds = u32::try_from(at.as_millis() / 1000).ok()?;
    (text(seconds) == *value).then_some(seconds)
}

/// The text.
pub(super) fn text(seconds: u32) -> HeaderValue {
    let made = || dates::format(WallTime::from_millis(i64::from(seconds) * 1000));
    TEXTS.with_borrow_mut(|texts| {
        if texts.is_empty() {
            texts.resize_with(AT_HAND as usize, || (0, dates::format(WallTime::default())));
        }
        let Some((of, text)) = texts.get_mut((seconds % AT_HAND) as usize) else {
            return made();
        };
        if *of != seconds {
            (*of, *text) = (seconds, made());
        }
        text.clone()
    })
}
