//! Targeted fields (RFC 9213): a Structured Fields dictionary (RFC 9651 s4.2.2) that governs us in place of `Cache-Control` and
//! `Expires`. The first field of our target list that is there, parses and is not empty counts; one that does not parse is ignored
//! whole, and the next is tried. Never fails loudly, and allocates only to join several lines.
//!
//! Every member is checked to the letter of the grammar, since one mistake voids the field; of the values only what directives need
//! is kept.

use crate::core::http::syntax::is_token_byte;
use http::{HeaderMap, HeaderName};
use std::borrow::Cow;

/// Our target list (RFC 9213 s2.2), the narrowest first.
static TARGETS: [HeaderName; 2] = [
    HeaderName::from_static("tidegate-cache-control"),
    HeaderName::from_static("cdn-cache-control"),
];

/// The most digits of an integer (RFC 9651 s3.3.1) and of a decimal's integer part (s3.3.2).
const INTEGER_DIGITS: usize = 15;
const DECIMAL_DIGITS: usize = 12;
const FRACTION_DIGITS: usize = 3;

/// What a directive is said to be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `?1`, or nothing but the name.
    True,
    /// `?0`.
    False,
    /// An integer.
    Integer(i64),
    /// Any other type: a decimal, string, token, byte sequence, date, display string or inner list.
    Other,
}

/// Whether `name` is a field of our target list.
#[must_use]
pub(super) fn is_target(name: &HeaderName) -> bool {
    TARGETS.contains(name)
}

/// Gives the members of the targeted field that governs us, in order, and says whether there is one. Of two members of one name the
/// later counts (RFC 9651 s4.2.2): `take` is given both.
pub(super) fn read(headers: &HeaderMap, mut take: impl FnMut(&str, Value)) -> bool {
    for target in &TARGETS {
        let Some(text) = joined(headers, target) else { continue };
        let mut members = 0;
        if dictionary(&text, |_, _| members += 1).is_none() || members == 0 {
            continue; // RFC 9213 s2.1: ignored, and the next of the list governs
        }
        let again = dictionary(&text, &mut take);
        return again.is_some();
    }
    false
}

/// All lines of a field as one (RFC 9651 s4.2).
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let mut text = Cow::Borrowed(lines.next()?.as_bytes());
    for line in lines {
        let text = text.to_mut();
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    Some(text)
}

/// RFC 9651 s4.2.2. None when anything in it breaks the grammar.
fn dictionary(text: &[u8], mut take: impl FnMut(&str, Value)) -> Option<()> {
    let mut input = Input(text);
    input.skip(b" ");
    while !input.0.is_empty() {
        let key = input.key()?;
        let value = if input.eat(b'=') {
            input.item_or_list()?
        } else {
            Value::True
        };
        input.parameters()?;
        take(key, value);
        input.skip(b" \t");
        if input.0.is_empty() {
            break;
        }
        if !input.eat(b',') {
            return None;
        }
        input.skip(b" \t");
        if input.0.is_empty() {
            return None; // a comma at the end
        }
    }
    Some(())
}

/// What is left to parse.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    fn skip(&mut self, any_of: &[u8]) {
        while self.peek().is_some_and(|b| any_of.contains(&b)) {
            self.next();
        }
    }

    /// As many bytes as satisfy `is`.
    fn run(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|b| !is(*b)).unwrap_or(self.0.len());
        let (found, rest) = self.0.split_at(end);
        self.0 = rest;
        found
    }

    /// RFC 9651 s4.2.3.3.
    fn key(&mut self) -> Option<&'a str> {
        if !matches!(self.peek()?, b'a'..=b'z' | b'*') {
            return None;
        }
        let key = self.run(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
        std::str::from_utf8(key).ok()
    }

    /// RFC 9651 s4.2.1.1, without the parameters of the whole.
    fn item_or_list(&mut self) -> Option<Value> {
        if !self.eat(b'(') {
            return self.bare_item();
        }
        loop {
            self.skip(b" ");
            if self.eat(b')') {
                return Some(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.peek()?, b' ' | b')') {
                return None;
            }
        }
    }

    /// RFC 9651 s4.2.3.2.
    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            self.skip(b" ");
            self.key()?;
            if self.eat(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    /// RFC 9651 s4.2.3.1.
    fn bare_item(&mut self) -> Option<Value> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'?' => self.boolean(),
            b':' => self.bytes(),
            b'@' => {
                self.next();
                // A date is an integer of seconds (s4.2.9).
                match self.number()? {
                    Value::Integer(_) => Some(Value::Other),
                    _ => None,
                }
            }
            b'%' => self.display_string(),
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.run(|b| is_token_byte(b) || matches!(b, b':' | b'/')); // s4.2.6
                Some(Value::Other)
            }
            _ => None,
        }
    }

    /// RFC 9651 s4.2.4.
    fn number(&mut self) -> Option<Value> {
        let negative = self.eat(b'-');
        let whole = self.run(|b| b.is_ascii_digit());
        if whole.is_empty() {
            return None;
        }
        if self.eat(b'.') {
            let fraction = self.run(|b| b.is_ascii_digit());
            let fits = whole.len() <= DECIMAL_DIGITS && (1..=FRACTION_DIGITS).contains(&fraction.len());
            return fits.then_some(Value::Other);
        }
        if whole.len() > INTEGER_DIGITS {
            return None;
        }
        let n: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
        Some(Value::Integer(if negative { -n } else { n }))
    }

    /// RFC 9651 s4.2.5.
    fn string(&mut self) -> Option<Value> {
        self.next();
        loop {
            match self.next()? {
                b'"' => return Some(Value::Other),
                b'\\' => {
                    if !matches!(self.next()?, b'"' | b'\\') {
                        return None;
                    }
                }
                0x20..=0x7e => {}
                _ => return None,
            }
        }
    }

    /// RFC 9651 s4.2.8.
    fn boolean(&mut self) -> Option<Value> {
        self.next();
        match self.next()? {
            b'1' => Some(Value::True),
            b'0' => Some(Value::False),
            _ => None,
        }
    }

    /// RFC 9651 s4.2.7: base64, whose padding a parser may do without.
    fn bytes(&mut self) -> Option<Value> {
        self.next();
        let coded = self.run(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
        let padding = self.run(|b| b == b'=');
        let sound = coded.len() % 4 != 1 && (padding.is_empty() || (coded.len() + padding.len()).is_multiple_of(4));
        (sound && padding.len() <= 2 && self.eat(b':')).then_some(Value::Other)
    }

    /// RFC 9651 s4.2.10: percent-encoded UTF-8.
    fn display_string(&mut self) -> Option<Value> {
        self.next();
        if !self.eat(b'"') {
            return None;
        }
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return std::str::from_utf8(&text).is_ok().then_some(Value::Other),
                b'%' => text.push(self.hex()? << 4 | self.hex()?),
                b @ 0x20..=0x7e => text.push(b),
                _ => return None,
            }
        }
    }

    /// One lower-case hexadecimal digit.
    fn hex(&mut self) -> Option<u8> {
        match self.next()? {
            b @ b'0'..=b'9' => Some(b - b'0'),
            b @ b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
