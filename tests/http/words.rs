//! The operator's word on a node, over the admin port: it has taken effect when the answer comes, or the answer says why not.

use super::support::proxy::{Proxy, run_to_end};
use super::support::register::{Node, Register};
use serde_json::Value;

async fn over(a: &Node, b: &Node, upstream: &str, failover: &str) -> Proxy {
    let config = format!(
        "[upstreams.o]\nmode = \"active-passive\"\nnodes = [{{ url = \"{}\", name = \"a\" }}, {{ url = \"{}\", name = \"b\" }}]\n{upstream}\n\n\
         [upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"20ms\"\ntimeout = \"2s\"\n\n[upstreams.o.failover]\n{failover}\n\n\
         [[routes]]\nname = \"r\"\nupstream = \"o\"\nconsistency = \"strong\"\n",
        a.url(),
        b.url()
    );
    let proxy = Proxy::start(&config, &[]).await;
    proxy.until_state("o", "b", "standby").await;
    proxy
}

/// Says it, and returns the status with the answer.
async fn say(proxy: &Proxy, node: &str, word: &str) -> (u16, Value) {
    let answer = proxy.admin_post(&format!("/upstreams/o/nodes/{node}/{word}"), "").await;
    let body = serde_json::from_str(answer.text()).unwrap();
    (answer.status, body)
}

fn node<'a>(upstream: &'a Value, name: &str) -> &'a Value {
    let nodes = upstream["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).unwrap()
}

#[tokio::test]
async fn over_one_store_traffic_moves_at_the_operators_word() {
    let register = Register::new();
    register.write("/x", "v");
    let (a, b) = (register.node("a").await, register.node("b").await);
    let proxy = over(&a, &b, "", "").await;
    let (status, before) = say(&proxy, "a", "promote").await;
    assert_eq!((status, &before["primary"]), (200, &"a".into()), "{before}");
    let (status, now) = say(&proxy, "b", "promote").await;
    assert_eq!((status, &now["primary"]), (200, &"b".into()), "{now}");
    assert!(now["epoch"].as_u64() > before["epoch"].as_u64(), "{before} {now}");
    assert_eq!(node(&now, "b")["state"], "active");
    assert_eq!(proxy.put("/x", "w").await.status, 204);
    assert_eq!((register.count_at("a"), register.count_at("b")), (0, 1));
    // Out, and the other one takes over; back, and it waits.
    let (status, now) = say(&proxy, "b", "drain").await;
    assert_eq!((status, &now["primary"]), (200, &"a".into()), "{now}");
    assert_eq!(node(&now, "b")["state"], "draining");
    let (status, now) = say(&proxy, "b", "undrain").await;
    assert_eq!((status, &now["primary"]), (200, &"a".into()), "{now}");
    assert_eq!(node(&now, "b")["state"], "standby");
}

#[tokio::test]
async fn what_nothing_would_come_of_is_refused() {
    let register = Register::new();
    let (a, b) = (register.node("a").await, register.node("b").await);
    let proxy = over(&a, &b, "", "").await;
    let before = proxy.status().await["upstreams"][0].clone();
    for (target, said) in [
        ("/upstreams/o/nodes/c/promote", "no node \\\"c\\\""),
        ("/upstreams/p/nodes/a/promote", "no upstream \\\"p\\\""),
    ] {
        let answer = proxy.admin_post(target, "").await;
        assert_eq!(answer.status, 404, "{target}");
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    b.down().await;
    proxy.until_state("o", "b", "unhealthy").await;
    let (status, problem) = say(&proxy, "b", "promote").await;
    assert_eq!((status, &problem["detail"]), (409, &"its probes do not pass".into()));
    let after = &proxy.status().await["upstreams"][0];
    assert_eq!(
        (&after["primary"], &after["epoch"]),
        (&before["primary"], &before["epoch"])
    );
}

#[tokio::test]
async fn r29_the_answer_to_a_promotion_comes_after_its_hooks() {
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let hook = |name: &str| format!("[\"sh\", \"-c\", \"echo {name} {{node}} >> {}\"]", done.display());
    let failover = format!("fence = {}\non_promote = {}", hook("fence"), hook("promote"));
    let register = Register::new();
    register.write("/x", "v");
    let (a, b) = (register.node("a").await, register.node("b").await);
    let proxy = over(&a, &b, "replication = \"primary\"", &failover).await;
    let (status, problem) = say(&proxy, "a", "drain").await;
    assert_eq!(status, 409, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("promote another node first"),
        "{problem}"
    );
    let admin = proxy.admin.to_string();
    let refused = run_to_end(&["drain-node", "o", "a", "--admin", &admin]).await;
    assert_eq!(
        (refused.code, refused.stderr.trim_end()),
        (
            Some(1),
            "tidegate: 409 Conflict: it is the primary, and nobody takes over by itself: promote another node first"
        )
    );
    let promoted = run_to_end(&["promote", "o", "b", "--json", "--admin", &admin]).await;
    assert_eq!(promoted.code, Some(0), "{}", promoted.stderr);
    assert_eq!(std::fs::read_to_string(&done).unwrap(), "fence a\npromote b\n");
    let now: Value = serde_json::from_str(&promoted.stdout).unwrap();
    assert_eq!(now["primary"], "b", "{now}");
    assert_eq!(
        (&node(&now, "a")["in_sync"], &node(&now, "b")["in_sync"]),
        (&false.into(), &true.into())
    );
    assert_eq!(node(&now, "a")["state"], "quarantined");
    assert_eq!(proxy.put("/x", "w").await.status, 204);
    assert_eq!((register.count_at("a"), register.count_at("b")), (0, 1));
    // Said to a person: as `status` does.
    let undrained = run_to_end(&["undrain", "o", "b", "--admin", &admin]).await;
    let first = undrained.stdout.lines().next().unwrap_or_default();
    assert_eq!(
        first.split_whitespace().collect::<Vec<_>>(),
        ["UPSTREAM", "NODE", "STATE", "ROLE", "URL"],
        "{}",
        undrained.stdout
    );
    assert!(undrained.stdout.contains("quarantined"), "{}", undrained.stdout);
    // R36: back by the operator's word.
    let (status, now) = say(&proxy, "a", "resynced").await;
    assert_eq!((status, &node(&now, "a")["in_sync"]), (200, &true.into()), "{now}");
}

#[tokio::test]
async fn r29_a_fence_that_fails_is_told_and_nobody_is_promoted() {
    let register = Register::new();
    register.write("/x", "v");
    let (a, b) = (register.node("a").await, register.node("b").await);
    let failover = "fence = [\"false\"]\nhold = \"100ms\"";
    let proxy = over(&a, &b, "replication = \"primary\"", failover).await;
    let (status, problem) = say(&proxy, "b", "promote").await;
    assert_eq!(status, 409, "{problem}");
    assert!(
        problem["detail"].as_str().unwrap().contains("the fence command failed"),
        "{problem}"
    );
    let refused = proxy.put("/x", "w").await;
    assert_eq!((refused.status, register.count_at("b")), (503, 0), "{}", refused.text());
}
