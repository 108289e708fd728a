//! The tour: each step does over real HTTP what a visitor would do with `curl`, prints the answers as they came, and claims only
//! what it measured. No claim depends on how fast the machine is.

use super::client::NoAnswer;
use super::setting::{BOUND_MS, SHOP};
use super::stage::Stage;
use http::Method;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Runs every step; true when every claim was shown.
pub(super) async fn run(stage: &Stage) -> bool {
    let mut number = 0;
    macro_rules! step {
        ($title:literal, $step:expr) => {
            number += 1;
            println!("\n{number}. {}", $title);
            if let Err(e) = $step.await {
                stage.claim(false, &format!("the step broke off: {e}"));
            }
        };
    }
    step!("off: nothing is stored", off(stage));
    step!("weak: whatever was produced within the ttl", weak(stage));
    step!("eventual: never older than the bound", eventual(stage));
    step!("strong: always the last acknowledged write, from memory", strong(stage));
    step!("strong with writers nobody told us about", shared(stage));
    step!("twenty at once are one request upstream", together(stage));
    step!("purge", purge(stage));
    step!("a node dies: no read is lost", node_loss(stage));
    step!("the active dies: its hot standby takes over", standby(stage));
    step!("a reply is lost: the outcome is said to be unknown", lost_reply(stage));
    step!("every node is gone: each contract keeps its word", partition(stage));
    let broken = stage.broken_claims.load(Ordering::Relaxed);
    match broken {
        0 => println!("\nEvery step showed what it claims."),
        n => println!("\n{n} claims were not shown."),
    }
    broken == 0
}

async fn off(stage: &Stage) -> Result<(), NoAnswer> {
    stage.put("/off/greeting", "hello").await?;
    let before = stage.shop_requests();
    stage.show(Method::GET, "/off/greeting", "").await?;
    stage.show(Method::GET, "/off/greeting", "").await?;
    let asked = stage.shop_requests() - before;
    stage.claim(asked == 2, &format!("two reads, {asked} requests at the nodes"));
    Ok(())
}

async fn weak(stage: &Stage) -> Result<(), NoAnswer> {
    stage.put("/weak/greeting", "one").await?;
    stage.show(Method::GET, "/weak/greeting", "").await?;
    let before = stage.shop_requests();
    stage.show(Method::GET, "/weak/greeting", "").await?;
    let mut hits = 0;
    for _ in 0..50 {
        hits += usize::from(stage.get("/weak/greeting").await?.is_hit());
    }
    let asked = stage.shop_requests() - before;
    stage.claim(
        hits == 50 && asked == 0,
        &format!("{hits} of 50 reads were hits, {asked} requests at the nodes"),
    );
    println!("    (an import job writes \"two\" to the store, past the proxy)");
    stage.backend.store.write("/weak/greeting", "two");
    let old = stage.show(Method::GET, "/weak/greeting", "").await?;
    stage.claim(
        old.value() == "one",
        "the price: within the ttl a write past the proxy is not seen",
    );
    stage.put("/weak/greeting", "three").await?;
    let new = stage.show(Method::GET, "/weak/greeting", "").await?;
    stage.claim(new.value() == "three", "a write through the proxy is");
    Ok(())
}

async fn eventual(stage: &Stage) -> Result<(), NoAnswer> {
    stage.put("/eventual/greeting", "one").await?;
    let fill_begins = stage.now();
    stage.show(Method::GET, "/eventual/greeting", "").await?;
    let fill_ends = stage.now();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let least = stage.now().since(fill_ends).as_secs();
    let hit = stage.show(Method::GET, "/eventual/greeting", "").await?;
    let most = stage.now().since(fill_begins).as_secs();
    let age = hit.field("age").parse::<u64>().ok();
    stage.claim(
        hit.is_hit() && age.is_some_and(|age| (least..=most).contains(&age)),
        &format!("a hit whose Age is true: fetched {least} to {most} s ago"),
    );
    stage.put("/eventual/greeting", "two").await?;
    stage.get("/eventual/greeting").await?;
    println!("    (an import job writes \"three\" to the store, past the proxy)");
    stage.backend.store.write("/eventual/greeting", "three");
    let written = stage.now();
    let (mut stalest, mut old_reads) = (0, 0);
    loop {
        let begins = stage.now();
        let answer = stage.get("/eventual/greeting").await?;
        if answer.value() != "two" {
            let staleness = stage.now().since(written).as_millis();
            println!(
                "    GET /eventual/greeting -> {:?} after {staleness} ms",
                answer.value()
            );
            stage.claim(answer.value() == "three", "the write arrives");
            break;
        }
        old_reads += 1;
        stalest = begins.since(written).as_millis();
        if stalest > 10 * BOUND_MS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stage.claim(
        stalest <= BOUND_MS,
        &format!("{old_reads} old reads, the last one begun {stalest} ms after the write; the bound is {BOUND_MS} ms"),
    );
    Ok(())
}

async fn strong(stage: &Stage) -> Result<(), NoAnswer> {
    let mut seen = 0;
    for n in 0..20 {
        let value = format!("write {n}");
        let acked = stage.put("/strong/greeting", &value).await?.status.is_success();
        seen += usize::from(acked && stage.get("/strong/greeting").await?.value() == value);
    }
    stage.claim(seen == 20, &format!("{seen} of 20 writes were read back at once"));
    stage.show(Method::GET, "/strong/greeting", "").await?;
    let before = stage.shop_requests();
    let hit = stage.show(Method::GET, "/strong/greeting", "").await?;
    let mut hits = 0;
    for _ in 0..50 {
        hits += usize::from(stage.get("/strong/greeting").await?.is_hit());
    }
    let asked = stage.shop_requests() - before;
    stage.claim(
        hit.is_hit() && hits == 50 && asked == 0,
        &format!("{hits} of 50 reads were hits, {asked} requests at the nodes"),
    );
    stage.claim(
        hit.field("tidegate-consistency") == "strong;proof=exclusive",
        "the answer says what proved it: every write comes through here, and none has",
    );
    stage.put("/strong/greeting", "the next one").await?;
    let next = stage.show(Method::GET, "/strong/greeting", "").await?;
    stage.claim(next.value() == "the next one", "a write is seen by the next read");
    Ok(())
}

async fn shared(stage: &Stage) -> Result<(), NoAnswer> {
    stage.put("/shared/greeting", "hello").await?;
    stage.get("/shared/greeting").await?;
    let same = stage.show(Method::GET, "/shared/greeting", "").await?;
    stage.claim(
        same.field("cache-status").contains("fwd-status=304"),
        "an unchanged document: the nodes confirm it, the body comes from memory",
    );
    stage.claim(
        same.field("tidegate-consistency") == "strong;proof=validated",
        "the answer says what proved it",
    );
    println!("    (an import job writes \"surprise\" to the store, past the proxy)");
    stage.backend.store.write("/shared/greeting", "surprise");
    let new = stage.show(Method::GET, "/shared/greeting", "").await?;
    stage.claim(
        new.value() == "surprise",
        "even a write past the proxy is seen by the next read",
    );
    Ok(())
}

async fn together(stage: &Stage) -> Result<(), NoAnswer> {
    stage.put("/weak/popular", "one fetch will do").await?;
    for node in &stage.backend.nodes {
        node.slow_down(Duration::from_millis(500));
    }
    let before = stage.shop_requests();
    let reads = (0..20).map(|_| stage.get("/weak/popular"));
    let mut answered = 0;
    for answer in join_all(reads).await {
        answered += usize::from(answer?.value() == "one fetch will do");
    }
    let asked = stage.shop_requests() - before;
    for node in &stage.backend.nodes {
        node.slow_down(Duration::ZERO);
    }
    stage.claim(
        answered == 20 && asked == 1,
        &format!("{answered} of 20 readers answered, {asked} request at the nodes"),
    );
    Ok(())
}

async fn purge(stage: &Stage) -> Result<(), NoAnswer> {
    stage.get("/weak/greeting").await?;
    let body = format!(r#"{{"url": "http://{}/weak/greeting"}}"#, stage.proxy);
    let json = (http::header::CONTENT_TYPE, "application/json");
    let purged = super::client::ask(&stage.world, stage.admin, Method::POST, "/purge", &[json], &body).await?;
    println!(
        "    POST /purge {body} -> {} {}",
        purged.status.as_u16(),
        purged.body.trim()
    );
    let next = stage.show(Method::GET, "/weak/greeting", "").await?;
    stage.claim(
        purged.status.is_success() && !next.is_hit(),
        "after the answer to the purge nothing of it is served",
    );
    Ok(())
}

async fn node_loss(stage: &Stage) -> Result<(), NoAnswer> {
    let Some(node) = stage.backend.node("b") else {
        return Ok(());
    };
    stage.put("/off/steady", "here").await?;
    let (mut read, mut lost) = (0, 0);
    for n in 0..300 {
        if n == 100 {
            node.kill().await;
        }
        match stage.get("/off/steady").await {
            Ok(answer) if answer.value() == "here" => read += 1,
            _ => lost += 1,
        }
    }
    println!("    node b was killed after 100 of 300 reads: {read} read, {lost} lost");
    stage.claim(lost == 0, "no read was lost");
    stage.claim(
        stage.until_state("shop", "b", "unhealthy").await,
        "/status says that b is unhealthy",
    );
    let revived = node.revive().is_ok();
    stage.claim(
        revived && stage.until_state("shop", "b", "active").await,
        "revived, it takes traffic again",
    );
    Ok(())
}

async fn standby(stage: &Stage) -> Result<(), NoAnswer> {
    let (Some(north), Some(south)) = (stage.backend.node("north"), stage.backend.node("south")) else {
        return Ok(());
    };
    stage.put("/ledger/balance", "100").await?;
    stage.show(Method::GET, "/ledger/balance", "").await?;
    let (at_north, at_south) = (north.requests(), south.requests());
    stage.claim(
        at_north > 0 && at_south == 0,
        &format!("{at_north} requests at north, {at_south} at the standby south"),
    );
    north.kill().await;
    let killed = stage.now();
    let (mut refused, mut wrong) = (0, 0);
    let taken_over = loop {
        let answer = stage.get("/ledger/balance").await?;
        let after = stage.now().since(killed).as_millis();
        match answer.status.as_u16() {
            200 if answer.value() == "100" => break after,
            200 => wrong += 1,
            _ => refused += 1,
        }
        if after > 15_000 {
            break after;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    stage.show(Method::GET, "/ledger/balance", "").await?;
    let served = south.requests();
    println!("    north was killed; {refused} reads refused; the next was answered {taken_over} ms later by south");
    stage.claim(
        served > 0 && wrong == 0,
        "the standby answers with the acknowledged write, never with less",
    );
    let written = stage.show(Method::PUT, "/ledger/balance", "90").await?;
    let read = stage.show(Method::GET, "/ledger/balance", "").await?;
    stage.claim(written.status.is_success() && read.value() == "90", "writes go on");
    let revived = north.revive().is_ok();
    let healthy = revived && !stage.until_not("ledger", "north", "unhealthy").await.is_empty();
    stage.claim(healthy, "revived, north is back in service or in reserve");
    Ok(())
}

async fn lost_reply(stage: &Stage) -> Result<(), NoAnswer> {
    stage.put("/strong/account", "100").await?;
    let writes = || -> u64 { stage.backend.nodes.iter().map(|n| n.writes()).sum() };
    let before = writes();
    stage.backend.store.lose_next_reply();
    let answer = stage.show(Method::PUT, "/strong/account", "50").await?;
    let applied = writes() - before;
    stage.claim(
        answer.status.as_u16() == 504 && answer.body.contains("urn:tidegate:problem:unknown"),
        "the client is told that the write may have happened",
    );
    stage.claim(
        applied == 1,
        &format!("it was not repeated behind the client's back: applied {applied} time"),
    );
    let read = stage.show(Method::GET, "/strong/account", "").await?;
    stage.claim(read.value() == "50", "and reads go on telling the truth");
    Ok(())
}

async fn partition(stage: &Stage) -> Result<(), NoAnswer> {
    for path in ["/eventual/last", "/available/last", "/shared/last", "/strong/last"] {
        stage.put(path, "last words").await?;
        stage.get(path).await?;
    }
    for name in SHOP {
        if let Some(node) = stage.backend.node(name) {
            node.kill().await;
        }
    }
    println!("    (a, b and c are killed, and the bound of {BOUND_MS} ms passes)");
    tokio::time::sleep(Duration::from_millis(BOUND_MS + 200)).await;
    let shared = stage.show(Method::GET, "/shared/last", "").await?;
    stage.claim(
        matches!(shared.status.as_u16(), 503 | 504),
        "strong, writers anybody: no answer rather than one that cannot be proven",
    );
    let strong = stage.show(Method::GET, "/strong/last", "").await?;
    stage.claim(
        strong.value() == "last words" && strong.field("tidegate-consistency") == "strong;proof=exclusive",
        "strong, all writers through here: proven without a node, as nobody can have written",
    );
    let consistent = stage.show(Method::GET, "/eventual/last", "").await?;
    stage.claim(
        consistent.status.as_u16() == 504,
        "eventual with on_unreachable = \"error\": no answer beyond the bound",
    );
    let available = stage.show(Method::GET, "/available/last", "").await?;
    stage.claim(
        available.value() == "last words" && available.field("tidegate-consistency").contains("breached"),
        "eventual with on_unreachable = \"stale\": the old answer, flagged",
    );
    let mut back = true;
    for name in SHOP {
        if let Some(node) = stage.backend.node(name) {
            back = back && node.revive().is_ok() && stage.until_state("shop", name, "active").await;
        }
    }
    let again = stage.show(Method::GET, "/strong/last", "").await?;
    stage.claim(
        back && again.value() == "last words",
        "the nodes are back, and so is every route",
    );
    Ok(())
}

/// Polls a handful of futures on this task until all are done.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut all = true;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}
