//! What a visitor reads: what is running, and what to try.

use super::setting::BOUND_MS;
use super::stage::Stage;
use std::net::SocketAddr;

/// The guide, with the real ports.
pub(super) fn text(stage: &Stage, fault: SocketAddr) -> String {
    let (proxy, admin) = (stage.proxy, stage.admin);
    let node = |name: &str| stage.backend.node(name).map_or(proxy, |n| n.address);
    let (a, north) = (node("a"), node("north"));
    let bound = BOUND_MS / 1000;
    format!(
        "\
Tidegate is on http://{proxy}, in front of three active nodes (a, b, c) and a pair (north, and south as its hot standby).
All of them serve one store of small JSON documents. Try, in another terminal:

  Strong: always the last acknowledged write. Every write of /strong/ comes through the proxy, so the second read is a hit from memory.
    curl -i -X PUT http://{proxy}/strong/greeting -d 'hello'
    curl -i http://{proxy}/strong/greeting
    curl -i http://{proxy}/strong/greeting                            # Cache-Status: hit; Tidegate-Consistency: strong;proof=exclusive

  Strong, with writers nobody told us about: a node confirms each read (fwd-status=304), memory gives the body.
    curl -i -X PUT http://{proxy}/shared/greeting -d 'hello'
    curl -i -X PUT http://{a}/shared/greeting -d 'past the proxy'     # straight to node a
    curl -i http://{proxy}/shared/greeting                            # and still seen at once

  Eventual: never older than {bound} s. Watch Age and Tidegate-Consistency count up, then the new value arrive.
    curl -i -X PUT http://{proxy}/eventual/greeting -d 'one'
    curl -i http://{proxy}/eventual/greeting                          # fetched, and stored
    curl -i -X PUT http://{a}/eventual/greeting -d 'two'              # past the proxy
    curl -i http://{proxy}/eventual/greeting                          # a hit on \"one\" until the bound

  Weak: whatever was produced in the last 30 s. Off: nothing is stored. The same lines with /weak/ and /off/.

  Kill a node: reads go on. Watch X-Node name the others.
    curl -X POST http://{fault}/nodes/b/kill
    for i in 1 2 3 4 5 6; do curl -si http://{proxy}/off/any | grep -i x-node; done
    curl -X POST http://{fault}/nodes/b/revive

  Kill the active: its standby takes over with every acknowledged write.
    curl -i -X PUT http://{proxy}/ledger/balance -d '100'
    curl -X POST http://{fault}/nodes/north/kill                      # north was http://{north}
    curl -i http://{proxy}/ledger/balance

  Lose a reply after the write was applied: the client is told 504 `unknown`, never a guess.
    curl -X POST http://{fault}/lose-next-reply
    curl -i -X PUT http://{proxy}/strong/greeting -d 'did it happen?'
    curl -i http://{proxy}/strong/greeting

  Kill all three, wait {bound} s, and compare what each contract does:
    for l in strong shared eventual available; do curl -X PUT http://{proxy}/$l/greeting -d last; curl http://{proxy}/$l/greeting; done
    for n in a b c; do curl -X POST http://{fault}/nodes/$n/kill; done
    curl -i http://{proxy}/shared/greeting                            # no proof, no answer
    curl -i http://{proxy}/strong/greeting                            # proven without a node: nobody can have written
    curl -i http://{proxy}/eventual/greeting                          # beyond the bound: 504 (CP)
    curl -i http://{proxy}/available/greeting                         # rather old than nothing: flagged breached (AP)
    for n in a b c; do curl -X POST http://{fault}/nodes/$n/revive; done

  Look inside: curl http://{admin}/status   curl http://{admin}/metrics   curl http://{fault}/nodes
  Purge:       curl -X POST http://{admin}/purge -H 'Content-Type: application/json' -d '{{\"all\": true}}'

Ctrl-C ends it. `tidegate demo --once` runs all of this by itself and checks every claim."
    )
}
