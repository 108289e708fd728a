//! Structured Fields (RFC 9651): dictionaries of directives (RFC 9213) and lists of strings (RFC 9875). Every member is checked to the
//! letter of the grammar, since one mistake voids the field; of the values only what somebody needs is kept. Never fails loudly.

use crate::core::http::syntax::is_token_byte;
use http::{HeaderMap, HeaderName};
use std::borrow::Cow;

/// The most digits of an integer (RFC 9651 s3.3.1) and of a decimal's integer part (s3.3.2).
const INTEGER_DIGITS: usize = 15;
const DECIMAL_DIGITS: usize = 12;
const FRACTION_DIGITS: usize = 3;

/// What a member of a dictionary is said to be.
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

/// All lines of a field as one (RFC 9651 s4.2).
pub(super) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let mut text = Cow::Borrowed(lines.next()?.as_bytes());
    for line in lines {
        let text = text.to_mut();
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    Some(text)
}

/// RFC 9651 s4.2.1: the strings of a list of strings, in order; the parameters of its members are ignored. None when anything in it breaks
/// the grammar, or a member is no string.
pub(super) fn strings(text: &[u8]) -> Option<Vec<String>> {
    let mut input = Input(text);
    let mut found = Vec::new();
    input.skip(b" ");
    while !input.0.is_empty() {
        if input.peek() != Some(b'"') {
            return None; // a list, but not of strings: as if it did not parse (s1.1)
        }
        found.push(input.string()?);
        input.parameters()?;
        if !input.next_member()? {
            break;
        }
    }
    Some(found)
}

/// RFC 9651 s4.2.2. None when anything in it breaks the grammar.
pub(super) fn dictionary(text: &[u8], mut take: impl FnMut(&str, Value)) -> Option<()> {
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
        if !input.next_member()? {
            break;
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

    /// Steps over the comma to the next member of a list or dictionary; false at the end.
    fn next_member(&mut self) -> Option<bool> {
        self.skip(b" \t");
        if self.0.is_empty() {
            return Some(false);
        }
        if !self.eat(b',') {
            return None;
        }
        self.skip(b" \t");
        (!self.0.is_empty()).then_some(true) // else: a comma at the end
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
            b'"' => self.string().map(|_| Value::Other),
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
    fn string(&mut self) -> Option<String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next()? {
                b'"' => return Some(text),
                b'\\' => match self.next()? {
                    escaped @ (b'"' | b'\\') => text.push(char::from(escaped)),
                    _ => return None,
                },
                plain @ 0x20..=0x7e => text.push(char::from(plain)),
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
