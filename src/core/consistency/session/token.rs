//! A token as it travels (R47): `v1.`, base64url of key id, second of issue, floor and marks, `.`, HMAC-SHA256 over all before it, cut
//! to 128 bits. The first key signs, all verify, a key's id picks. Bounded: what is longer than the longest token is none, and nothing
//! is looked at before it is verified, in constant time.

use super::{By, Here, MAX_MARKS, Mark, Minter, Moment, Token, second};
use crate::core::key::KeySecret;
use crate::core::time::MonoTime;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The shortest key, in bytes.
pub const MIN_KEY: usize = 32;

const VERSION: &str = "v1.";
/// Key id and second of issue.
const HEAD: usize = 4 + 4;
/// What follows is a floor, or is not.
const FLOOR: usize = 4 + 8 + 4;
const MARK: usize = 8 + 8 + FLOOR;
/// In an instant's highest bit, which no clock reaches: the mark was set by a read.
const READ: u64 = 1 << 63;
const MAX_PAYLOAD: usize = HEAD + 1 + FLOOR + MAX_MARKS * MARK;
const MAC: usize = 16;

/// The longest token, in characters.
pub const MAX_TOKEN: usize = VERSION.len() + (MAX_PAYLOAD * 4).div_ceil(3) + 1 + (MAC * 4).div_ceil(3);

/// A token that came with a request.
#[derive(Clone, Debug)]
pub enum Opened {
    /// One of ours.
    Verified {
        /// What its hashes are made with.
        secret: KeySecret,
        /// Whether its key is the one that signs.
        signs: bool,
        /// What it says.
        token: Token,
    },
    /// Not verified: nothing is known of what it asked for.
    Foreign,
}

/// The keys of one process.
pub struct Keyring {
    first: Key,
    rest: Vec<Key>,
}

struct Key {
    id: [u8; 4],
    secret: KeySecret,
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

impl Key {
    fn of(key: &[u8]) -> Self {
        #[allow(clippy::expect_used, reason = "RFC 2104: any length will do")]
        let mac: Hmac<Sha256> = Mac::new_from_slice(key).expect("HMAC takes keys of any length");
        // Two uses of one key: the text says which, and no token begins like this.
        let derived = mac
            .clone()
            .chain_update(b"tidegate session names")
            .finalize()
            .into_bytes();
        let mut bytes = derived.iter().copied();
        let mut word = || {
            bytes
                .by_ref()
                .take(8)
                .fold(0_u64, |word, byte| word << 8 | u64::from(byte))
        };
        let (secret, id) = (KeySecret(word(), word()), word());
        let [_, _, _, _, id @ ..] = id.to_be_bytes();
        Self { id, secret, mac }
    }
}

impl Keyring {
    /// The first signs, all verify.
    #[must_use]
    pub fn new(first: &[u8], rest: &[&[u8]]) -> Self {
        Self {
            first: Key::of(first),
            rest: rest.iter().map(|key| Key::of(key)).collect(),
        }
    }

    /// What the hashes of a new token are made with.
    #[must_use]
    pub fn secret(&self) -> KeySecret {
        self.first.secret
    }

    /// Reads a token.
    #[must_use]
    pub fn open(&self, text: &[u8]) -> Opened {
        self.verified(text).unwrap_or(Opened::Foreign)
    }

    fn verified(&self, text: &[u8]) -> Option<Opened> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let dot = text.iter().rposition(|byte| *byte == b'.')?;
        let (signed, mac) = (text.get(..dot)?, text.get(dot + 1..)?);
        let mut payload = [0; MAX_PAYLOAD];
        let mut tag = [0; MAC];
        let length = decode(signed.strip_prefix(VERSION.as_bytes())?, &mut payload)?;
        if decode(mac, &mut tag)? != MAC {
            return None;
        }
        let mut reader = Reader(payload.get(..length)?);
        let id = reader.take::<4>()?;
        let mut keys = std::iter::once(&self.first)
            .chain(&self.rest)
            .filter(|key| key.id == id);
        let of_key = |key: &&Key| key.mac.clone().chain_update(signed).verify_truncated_left(&tag).is_ok();
        let key = keys.find(of_key)?;
        Some(Opened::Verified {
            secret: key.secret,
            signs: std::ptr::eq(key, &raw const self.first),
            token: reader.token()?,
        })
    }

    /// Writes a token down.
    #[must_use]
    pub fn sign(&self, here: &Here, token: &Token) -> String {
        let mut payload = Vec::with_capacity(MAX_PAYLOAD);
        payload.extend_from_slice(&self.first.id);
        payload.extend_from_slice(&second(here.wall).to_be_bytes());
        payload.push(u8::from(token.floor.is_some()));
        if let Some(floor) = &token.floor {
            write_instant(&mut payload, floor, 0);
        }
        for mark in token.marks.iter().take(MAX_MARKS) {
            payload.extend_from_slice(&mark.resource.to_be_bytes());
            payload.extend_from_slice(&mark.etag.to_be_bytes());
            let by = match mark.by {
                By::Write => 0,
                By::Read => READ,
            };
            write_instant(&mut payload, &mark.since, by);
        }
        let mut text = String::with_capacity(MAX_TOKEN);
        text.push_str(VERSION);
        BASE64.encode_string(&payload, &mut text);
        let mac = self
            .first
            .mac
            .clone()
            .chain_update(text.as_bytes())
            .finalize()
            .into_bytes();
        text.push('.');
        BASE64.encode_string(mac.get(..MAC).unwrap_or_default(), &mut text);
        text
    }
}

/// How many bytes a text stands for; none when it is no base64url, or too long.
fn decode(text: &[u8], into: &mut [u8]) -> Option<usize> {
    BASE64.decode_slice(text, into).ok()
}

fn write_instant(out: &mut Vec<u8>, moment: &Moment, by: u64) {
    out.extend_from_slice(&moment.minter.0.to_be_bytes());
    out.extend_from_slice(&((moment.at.as_micros() & !READ) | by).to_be_bytes());
    out.extend_from_slice(&moment.raised.to_be_bytes());
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn moment(&mut self) -> Option<(Moment, By)> {
        let minter = Minter(u32::from_be_bytes(self.take()?));
        let at = u64::from_be_bytes(self.take()?);
        let moment = Moment {
            minter,
            at: MonoTime::from_micros(at & !READ),
            raised: u32::from_be_bytes(self.take()?),
        };
        Some((moment, if at & READ == 0 { By::Write } else { By::Read }))
    }

    fn token(&mut self) -> Option<Token> {
        let _issued = self.take::<4>()?;
        let floor = match self.take()? {
            [0] => None,
            [1] => Some(self.moment()?.0),
            [_] => return None,
        };
        let mut marks = Vec::with_capacity(MAX_MARKS + 1);
        while !self.0.is_empty() {
            let resource = u64::from_be_bytes(self.take()?);
            let etag = u64::from_be_bytes(self.take()?);
            let (since, by) = self.moment()?;
            marks.push(Mark {
                resource,
                etag,
                since,
                by,
            });
        }
        (marks.len() <= MAX_MARKS).then(|| Token::of(floor, marks))
    }
}
