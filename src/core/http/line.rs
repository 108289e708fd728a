//! A short field value put together on the stack, without the formatting machinery: several are made for every hit.

use http::HeaderValue;

const ROOM: usize = 96;

/// A field value in the making. What does not fit makes it none.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; ROOM],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; ROOM],
            length: 0,
        }
    }

    /// Goes on with a text.
    #[inline]
    pub fn text(&mut self, text: &str) -> &mut Self {
        let end = self.length.saturating_add(text.len());
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(text.as_bytes());
        }
        self.length = end;
        self
    }

    /// Goes on with a number.
    #[inline]
    pub fn number(&mut self, number: impl itoa::Integer) -> &mut Self {
        self.text(itoa::Buffer::new().format(number))
    }

    /// What was written; none when it did not fit, or is no field value.
    #[must_use]
    pub fn value(&self) -> Option<HeaderValue> {
        let written = self.bytes.get(..self.length)?;
        HeaderValue::from_bytes(written).ok()
    }
}

/// A number as a field value.
#[must_use]
pub fn number(number: u64) -> HeaderValue {
    Line::new()
        .number(number)
        .value()
        .unwrap_or_else(|| HeaderValue::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_joined() {
        let mut line = Line::new();
        line.text("a=").number(i64::MIN).text(";b=").number(u64::MAX);
        let expected = format!("a={};b={}", i64::MIN, u64::MAX);
        assert_eq!(line.value().expect("fits"), expected.as_str());
        assert_eq!(number(0), "0");
    }

    #[test]
    fn what_does_not_fit_is_none_whatever_comes_behind() {
        let mut line = Line::new();
        line.text(&"a".repeat(ROOM));
        assert!(line.value().is_some());
        line.text("b");
        assert_eq!(line.value(), None);
        line.text("");
        assert_eq!(line.value(), None);
    }
}
