//! `balance` and `hash_on`.

use crate::config::compile::header_name;
use crate::config::diagnostic::Sink;
use crate::config::effective::Table;
use crate::config::runtime::{Balance, HashOn};

pub(super) fn compile(table: &Table, sink: &mut Sink) -> Balance {
    let by = table.text("balance");
    let on = hash_on(table, sink);
    if by != Some("hash") && on != HashOn::Path {
        sink.error(&table.place_of("hash_on"), "only with balance = \"hash\"");
    }
    match by {
        Some("round-robin") => Balance::RoundRobin,
        Some("random") => Balance::Random,
        Some("peak-ewma") => Balance::PeakEwma,
        Some("hash") => Balance::Hash(on),
        Some(_) | None => Balance::LeastRequest,
    }
}

fn hash_on(table: &Table, sink: &mut Sink) -> HashOn {
    let text = table.text("hash_on").unwrap_or("path");
    let compiled = match text.split_once(':') {
        None if text == "path" => Ok(HashOn::Path),
        None if text == "client-ip" => Ok(HashOn::ClientIp),
        Some(("header", name)) => header_name(name).map(HashOn::Header),
        // A cookie's name is a token as a field's is (RFC 6265 s4.1.1), but its case matters.
        Some(("cookie", name)) => header_name(name).map(|_| HashOn::Cookie(name.to_owned())),
        Some(_) | None => Err(format!(
            "expected \"path\", \"client-ip\", \"header:NAME\" or \"cookie:NAME\", found \"{text}\""
        )),
    };
    compiled.unwrap_or_else(|message| {
        sink.error(&table.place_of("hash_on"), message);
        HashOn::Path
    })
}
