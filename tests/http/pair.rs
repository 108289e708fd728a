//! `[server] pair`: the process that has the state directory serves, the other waits for it. (What survives is judged in tests/failover.)

use super::support::client::{Answer, Client};
use super::support::eventually;
use super::support::origin::bound;
use super::support::proxy::{Binary, complete, run_to_end};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::Path;

/// A process of a pair over `state`, with a file of its own.
struct One {
    binary: Binary,
    admin: SocketAddr,
    file: std::path::PathBuf,
}

fn config(state: &Path, admin: SocketAddr, says: &str) -> String {
    let text = format!(
        "[server]\nthreads = 1\npair = true\nstate_dir = \"{}\"\n[admin]\naddress = \"{admin}\"\n[[routes]]\nname = \"r\"\nrespond = {{ body = \"{says}\" }}\n",
        state.display()
    );
    complete(&text, &[])
}

fn one(state: &Path, says: &str) -> One {
    // Held, but not listened on: nobody else on this machine is given it.
    let kept = bound(([127, 0, 0, 1], 0).into());
    let admin = kept.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidegate.toml");
    std::fs::write(&file, config(state, admin, says)).unwrap();
    let binary = Binary::start(&["run", "-c", file.to_str().unwrap()], dir);
    One { binary, admin, file }
}

impl One {
    async fn ask(&self, method: &str, path: &str) -> Answer {
        let mut client = Client::connect(self.admin).await;
        let fields = [("Host", "localhost"), ("Content-Type", "application/json")];
        client.request(method, path, &fields, b"").await
    }

    async fn until_passive(&self) {
        eventually("the passive to wait", || async {
            match Client::try_connect(self.admin).await {
                Ok(mut client) => {
                    let answer = client.get_with("/ready", &[("Host", "localhost")]).await;
                    answer.status == 503 && answer.text().contains("passive")
                }
                Err(_) => false,
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_passive_is_alive_and_not_ready_changes_nothing_and_leaves_at_once_when_told() {
    let state = tempfile::tempdir().unwrap();
    let mut active = one(state.path(), "first");
    let (at, _) = active.binary.ready();
    assert_eq!(active.ask("GET", "/ready").await.status, 200);
    for leave in [Signal::TERM, Signal::INT] {
        let passive = one(state.path(), "second");
        passive.until_passive().await;
        assert_eq!(passive.ask("GET", "/live").await.status, 200);
        let status = passive.ask("GET", "/status").await;
        assert!(status.text().contains("\"pair\":\"passive\""), "{}", status.text());
        assert_eq!(passive.ask("POST", "/purge").await.status, 503);
        assert_eq!(passive.ask("POST", "/reload").await.status, 503);
        let admin = passive.admin.to_string();
        assert_eq!(run_to_end(&["healthcheck", "--admin", &admin]).await.code, Some(0));
        let checked = run_to_end(&["healthcheck", "--ready", "--admin", &admin]).await;
        assert_eq!(
            checked.code,
            Some(1),
            "keepalived gives it no address: {}",
            checked.stdout
        );
        assert!(checked.stderr.contains("passive"), "{}", checked.stderr);
        let shown = run_to_end(&["status", "--admin", &admin]).await;
        assert!(shown.stdout.contains("passive of a pair"), "{}", shown.stdout);
        passive.binary.signal(leave);
        let ended = passive.binary.ended().await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    }
    let passive = one(state.path(), "second");
    passive.until_passive().await;
    assert_eq!(passive.ask("POST", "/drain").await.status, 202);
    assert_eq!(passive.binary.ended().await.code, Some(0));
    assert_eq!(super::support::client::get(at, "/").await.text(), "first");
}

#[tokio::test]
async fn the_passive_serves_when_the_active_has_ended_with_the_file_as_it_then_is() {
    let state = tempfile::tempdir().unwrap();
    let mut active = one(state.path(), "first");
    active.binary.ready();
    let mut passive = one(state.path(), "second");
    passive.until_passive().await;
    std::fs::write(&passive.file, config(state.path(), passive.admin, "third")).unwrap();
    passive.binary.signal(Signal::HUP);
    active.binary.signal(Signal::TERM);
    assert_eq!(active.binary.ended().await.code, Some(0));
    let (at, _) = passive.binary.ready();
    eventually("the file that SIGHUP asked for while it waited", || async {
        super::support::client::get(at, "/").await.text() == "third"
    })
    .await;
    assert!(
        !state.path().join("clean-stop").exists(),
        "read and removed before it listened"
    );
    passive.binary.signal(Signal::TERM);
    passive.binary.ended().await;
    assert!(state.path().join("clean-stop").exists());
}

#[tokio::test]
async fn a_passive_that_cannot_read_what_it_takes_over_vouches_for_nothing() {
    let state = tempfile::tempdir().unwrap();
    let mut active = one(state.path(), "first");
    active.binary.ready();
    let passive = one(state.path(), "second");
    passive.until_passive().await;
    std::fs::write(state.path().join("views"), "no view").unwrap();
    active.binary.signal(Signal::KILL);
    active.binary.ended().await;
    let ended = passive.binary.ended().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        !state.path().join("clean-stop").exists(),
        "the killed process may have left writes behind"
    );
}

#[tokio::test]
async fn without_pair_a_second_process_does_not_wait() {
    let state = tempfile::tempdir().unwrap();
    let mut active = one(state.path(), "first");
    active.binary.ready();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidegate.toml");
    let text = config(state.path(), ([127, 0, 0, 1], 0).into(), "alone").replace("pair = true\n", "");
    std::fs::write(&file, text).unwrap();
    let ended = run_to_end(&["run", "-c", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("another process works with it"),
        "{}",
        ended.stderr
    );
}
