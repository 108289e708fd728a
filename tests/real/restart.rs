//! What a process must believe of the one before it (CONSISTENCY.md section 1, Start).

use super::run::EXCLUSIVE;
use super::support::client::{Answer, Client, get};
use super::support::eventually;
use super::support::proxy::{Binary, config_file, run_to_end};
use super::support::register::{Node, Point, Register};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Of the one test that waits for it: far above what its reads take on a loaded machine.
const SETTLE_AFTER: Duration = Duration::from_secs(4);

/// One store, one node, and the folder that one process after the other keeps its state in.
struct House {
    register: Register,
    node: Node,
    state: tempfile::TempDir,
    settle_after: &'static str,
}

impl House {
    async fn new(settle_after: &'static str) -> Self {
        let register = Register::new();
        register.write("/x", "old");
        let node = register.node("a").await;
        let state = tempfile::tempdir().unwrap();
        Self {
            register,
            node,
            state,
            settle_after,
        }
    }

    fn config(&self) -> String {
        format!(
            "[server]\nthreads = 2\ndrain_timeout = \"1s\"\nstate_dir = \"{}\"\n\n\
            [upstreams.o]\nnodes = [{{ url = \"{}\" }}]\n\n\
            [[routes]]\nupstream = \"o\"\nconsistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"{}\"\n",
            self.state.path().to_str().unwrap(),
            self.node.url(),
            self.settle_after
        )
    }

    fn open(&self) -> (Binary, SocketAddr) {
        let mut proxy = Binary::run(&self.config(), &[]);
        let (address, _) = proxy.ready();
        (proxy, address)
    }

    /// A process that trusts the past, as if the one before it had left cleanly.
    async fn open_trusted(&self) -> (Binary, SocketAddr) {
        std::fs::write(self.marker(), "{\"o\":60000}").unwrap();
        let (proxy, address) = self.open();
        assert_eq!(read(address).await.consistency(), "strong;proof=validated");
        assert_eq!(read(address).await.consistency(), EXCLUSIVE);
        (proxy, address)
    }

    fn marker(&self) -> PathBuf {
        self.state.path().join("clean-stop")
    }
}

async fn read(address: SocketAddr) -> Answer {
    get(address, "/x").await
}

async fn kill(proxy: Binary) {
    proxy.signal(Signal::KILL);
    assert_eq!(proxy.ended().await.code, None, "killed");
}

/// Sends a PUT and does not wait.
async fn put(address: SocketAddr) -> Client {
    let mut writer = Client::connect(address).await;
    writer.ask("PUT", "/x", &[], b"new").await;
    writer
}

#[tokio::test]
async fn after_a_kill_with_a_write_in_flight_reads_are_validated_until_it_can_no_longer_be_applied() {
    let house = House::new("4s").await;
    let (proxy, address) = house.open_trusted().await;
    let mut hold = house.register.hold("PUT", "/x", Point::Arrived);
    let _writer = put(address).await;
    let in_flight = hold.next().await;
    let killed = Instant::now();
    kill(proxy).await;
    assert!(!house.marker().exists());

    let (_proxy, address) = house.open();
    for _ in 0..3 {
        let before = read(address).await;
        assert_eq!((before.text(), before.consistency()), ("old", "strong;proof=validated"));
    }
    // The application gets round to it only now. Nothing tells the proxy.
    in_flight.release();
    drop(hold);
    eventually("the abandoned write to be applied", || async {
        house.register.read("/x").as_deref() == Some("new")
    })
    .await;
    let after = read(address).await;
    assert_eq!((after.text(), after.consistency()), ("new", "strong;proof=validated"));

    eventually("hits to come back", || async {
        read(address).await.consistency() == EXCLUSIVE
    })
    .await;
    assert!(killed.elapsed() >= SETTLE_AFTER, "hits came back too early");
    assert_eq!(read(address).await.text(), "new");
}

#[tokio::test]
async fn a_stop_with_an_unsettled_write_leaves_no_word() {
    let house = House::new("60s").await;
    let (proxy, address) = house.open_trusted().await;
    let mut hold = house.register.hold("PUT", "/x", Point::Applied);
    let mut writer = put(address).await;
    hold.next().await.answer(500);
    assert_eq!(writer.answer().await.status, 500);
    drop(writer);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().await.code, Some(0));
    still_distrusted(&house).await;
}

#[tokio::test]
async fn a_stop_that_cuts_a_write_off_leaves_no_word() {
    let house = House::new("60s").await;
    let (proxy, address) = house.open_trusted().await;
    let mut hold = house.register.hold("PUT", "/x", Point::Arrived);
    let _writer = put(address).await;
    let _in_flight = hold.next().await;
    proxy.signal(Signal::TERM);
    proxy.ended().await;
    still_distrusted(&house).await;
}

#[tokio::test]
async fn a_clean_stop_leaves_the_word_that_makes_the_next_start_hit_at_once() {
    let house = House::new("60s").await;
    let (proxy, address) = house.open_trusted().await;
    let writer = put(address).await.answer().await;
    assert_eq!(writer.status, 204);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().await.code, Some(0));
    assert!(house.marker().exists());

    let (_proxy, address) = house.open();
    assert!(!house.marker().exists(), "a crash from here on must not look clean");
    assert_eq!(read(address).await.consistency(), "strong;proof=validated");
    let hit = read(address).await;
    assert_eq!((hit.text(), hit.consistency()), ("new", EXCLUSIVE));
}

async fn still_distrusted(house: &House) {
    assert!(!house.marker().exists());
    let (_proxy, address) = house.open();
    for _ in 0..3 {
        assert_eq!(read(address).await.consistency(), "strong;proof=validated");
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_address_exits_with_1() {
    let house = House::new("60s").await;
    let (_first, address) = house.open_trusted().await;
    // In a state directory of its own: only the address is taken.
    let elsewhere = tempfile::tempdir().unwrap();
    let own = house.marker().parent().unwrap().display().to_string();
    let config = house.config().replace(&own, &elsewhere.path().display().to_string());
    let config = config + &format!("\n[listeners.main]\naddress = \"{address}\"\n");
    let (_dir, path) = config_file(&config, &[]);
    let second = run_to_end(&["run", "-c", &path]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("in use"), "{}", second.stderr);
    assert_eq!(second.stdout, "", "it was never ready");
    assert_eq!(read(address).await.consistency(), EXCLUSIVE, "the first goes on");
}
