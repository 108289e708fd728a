//! Lines that know whether they are whole: a checksum in front of JSON. It is no protection against people, only against torn writes and
//! bad blocks.

use serde::Serialize;
use serde::de::DeserializeOwned;
use siphasher::sip::SipHasher13;

/// Hexadecimal digits of the checksum.
const DIGITS: usize = 16;

/// One line, its end included.
pub(super) fn line<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(value)?;
    Ok(format!("{:0DIGITS$x} {json}\n", checksum(json.as_bytes())))
}

/// The value of one line, its end not included; none unless it is whole.
pub(super) fn value<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (digits, json) = line.split_at_checked(DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    let told = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    if told != checksum(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn checksum(bytes: &[u8]) -> u64 {
    SipHasher13::new_with_keys(0, 0).hash(bytes)
}
