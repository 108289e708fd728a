//! `balance = "hash"`: requests that are alike go to one node, by what `hash_on` names.

use super::support::proxy::Proxy;
use super::support::register::{Node, Register};
use std::collections::BTreeMap;

async fn over(nodes: &[Node], hash_on: &str) -> Proxy {
    let list: Vec<_> = nodes
        .iter()
        .map(|node| format!("{{ url = \"{}\", name = \"{}\" }}", node.url(), node.name))
        .collect();
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n\n\
         [upstreams.o]\nnodes = [{}]\nbalance = \"hash\"\nhash_on = \"{hash_on}\"\n\n\
         [[routes]]\nname = \"r\"\nupstream = \"o\"\nconsistency = \"off\"\n",
        list.join(", ")
    );
    Proxy::start(&config, &[]).await
}

#[tokio::test]
async fn requests_that_are_alike_go_to_one_node_and_the_others_are_spread() {
    // What is hashed, and one request of each kind: its path and its fields.
    type Kind = fn(usize) -> (String, Vec<(&'static str, String)>);
    let kinds: [(&str, Kind); 4] = [
        ("path", |n| (format!("/{n}?any"), Vec::new())),
        ("client-ip", |n| {
            // The last one is who spoke to the proxy in front; what stands before it anybody may have written.
            (
                "/x".to_owned(),
                vec![("X-Forwarded-For", format!("203.0.113.9, 10.1.0.{n}"))],
            )
        }),
        ("header:X-Tenant", |n| {
            ("/x".to_owned(), vec![("X-Tenant", format!("t{n}"))])
        }),
        ("cookie:basket", |n| {
            ("/x".to_owned(), vec![("Cookie", format!("a=1; basket=b{n}; z={n}"))])
        }),
    ];
    for (hash_on, kind) in kinds {
        let register = Register::new();
        register.write("/x", "v");
        let nodes = [
            register.node("a").await,
            register.node("b").await,
            register.node("c").await,
        ];
        let proxy = over(&nodes, hash_on).await;
        let mut owners: BTreeMap<usize, String> = BTreeMap::new();
        for round in 0..3 {
            for n in 0..30 {
                let (path, fields) = kind(n);
                let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                proxy.get_with(&path, &fields).await;
                let node = register.seen().last().unwrap().node.clone();
                let owner = owners.entry(n).or_insert_with(|| node.clone());
                assert_eq!(*owner, node, "{hash_on}: {n} in round {round}");
            }
        }
        for node in ["a", "b", "c"] {
            assert!(
                owners.values().any(|owner| owner == node),
                "{hash_on}: {node} has its share"
            );
        }
    }
}

#[tokio::test]
async fn a_request_without_what_is_hashed_goes_where_there_is_room() {
    for hash_on in ["header:X-Tenant", "cookie:basket"] {
        let register = Register::new();
        register.write("/x", "v");
        let nodes = [register.node("a").await, register.node("b").await];
        let proxy = over(&nodes, hash_on).await;
        for _ in 0..40 {
            assert_eq!(proxy.get("/x").await.text(), "v");
        }
        for node in ["a", "b"] {
            assert!(register.count_at(node) > 0, "{hash_on}: {node}");
        }
    }
}
