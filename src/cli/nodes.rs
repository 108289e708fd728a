//! Words about single nodes, said to a running proxy through its admin port.

use super::ask::{AdminArgs, answer_within, as_it_is, tell};
use super::{Exit, show};
use crate::world::World;
use clap::Args;
use http::Method;
use std::time::Duration;

/// Longer than a promotion with its hooks is waited for at the other end.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Which node, and of which proxy.
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// The upstream's name
    #[arg(value_name = "UPSTREAM", env = "TIDEGATE_UPSTREAM_NAME")]
    upstream: String,
    /// The node's name
    #[arg(value_name = "NODE", env = "TIDEGATE_NODE")]
    node: String,
    /// Print the upstream as the admin port gives it
    #[arg(long, env = "TIDEGATE_JSON")]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Says `word`, and prints the upstream as it then is.
pub(super) fn say(word: &str, args: &NodeArgs, world: &World) -> Exit {
    let (upstream, node) = (segment(&args.upstream), segment(&args.node));
    let path = format!("/upstreams/{upstream}/nodes/{node}/{word}");
    let answered = answer_within(TIMEOUT, &args.admin, world, &Method::POST, &path, String::new());
    tell(answered, |answer| match serde_json::from_slice(answer) {
        Ok(upstream) if !args.json => show::upstream(&upstream),
        // Not a document: whatever it is, it is shown.
        Ok(_) | Err(_) => as_it_is(answer),
    })
}

/// A name as one segment of a path (RFC 3986 s2.1).
fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => text.push(char::from(byte)),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("10.0.0.1:9000"), "10.0.0.1:9000");
        assert_eq!(segment("[::1]:80"), "%5B::1%5D:80");
        assert_eq!(segment("über"), "%C3%BCber");
    }
}
