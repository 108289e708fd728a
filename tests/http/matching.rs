//! INTERFACE.md "Matching": which route takes a request, what `rewrite`, `redirect` and `respond` do.

use super::support::client::{Client, HOST};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::tls::{Authority, Talk, connect};

/// Routes that answer their own name.
fn named(routes: &[(&str, &str)]) -> String {
    let route = |(name, matches): &(&str, &str)| {
        format!(
            "[[routes]]\nname = \"{name}\"\nmatch = {{ {matches} }}\nrespond = {{ status = 200, body = \"{name}\" }}\n"
        )
    };
    routes.iter().map(route).collect()
}

async fn taken_by(proxy: &Proxy, target: &str) -> String {
    let answer = proxy.get(target).await;
    match answer.status {
        200 => answer.text().to_owned(),
        status => status.to_string(),
    }
}

#[tokio::test]
async fn the_first_route_that_matches_takes_the_request() {
    let config = named(&[("one", r#"path = "/a""#), ("two", r#"path = "/{*rest}""#)]);
    let proxy = Proxy::start(&config, &[]).await;
    assert_eq!(taken_by(&proxy, "/a").await, "one");
    assert_eq!(taken_by(&proxy, "/b").await, "two");
}

#[tokio::test]
async fn no_route_is_404_with_a_problem_of_type_about_blank() {
    let proxy = Proxy::start(&named(&[("one", r#"path = "/a""#)]), &[]).await;
    let answer = proxy.get("/b").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.problem(), "about:blank");
}

#[tokio::test]
async fn a_route_whose_method_host_or_header_does_not_match_is_passed_over_and_never_405() {
    let config = named(&[
        ("method", r#"path = "/m", methods = ["POST"]"#),
        ("host", r#"path = "/h", host = "other.example""#),
        ("header", r#"path = "/x", headers = { "X-Tenant" = "a" }"#),
        ("rest", r#"path = "/m""#),
    ]);
    let proxy = Proxy::start(&config, &[]).await;
    assert_eq!(taken_by(&proxy, "/m").await, "rest");
    assert_eq!(proxy.request("POST", "/m", &[], "").await.text(), "method");
    assert_eq!(taken_by(&proxy, "/h").await, "404");
    assert_eq!(proxy.get_with("/h", &[("Host", "other.example")]).await.text(), "host");
    assert_eq!(taken_by(&proxy, "/x").await, "404");
    assert_eq!(proxy.get_with("/x", &[("X-Tenant", "b")]).await.status, 404);
    let two_lines = [("X-Tenant", "b"), ("X-Tenant", "a")];
    assert_eq!(proxy.get_with("/x", &two_lines).await.text(), "header");
    assert_eq!(proxy.get_with("/x", &[("X-Tenant", "b, a")]).await.status, 404);
}

#[tokio::test]
async fn get_in_methods_includes_head() {
    let proxy = Proxy::start(&named(&[("get", r#"methods = ["GET"]"#)]), &[]).await;
    let answer = proxy.request("HEAD", "/", &[], "").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(proxy.request("DELETE", "/", &[], "").await.status, 404);
}

#[tokio::test]
async fn hosts_match_without_case_and_port_and_a_star_takes_one_or_more_labels() {
    let config = named(&[
        ("exact", r#"host = "shop.example""#),
        ("star", r#"host = "*.example.com""#),
    ]);
    let proxy = Proxy::start(&config, &[]).await;
    for (host, route) in [
        ("shop.example", "exact"),
        ("SHOP.example", "exact"),
        ("shop.example:8443", "exact"),
        ("a.example.com", "star"),
        ("a.b.Example.com:80", "star"),
    ] {
        assert_eq!(proxy.get_with("/", &[("Host", host)]).await.text(), route, "{host}");
    }
    for host in ["example.com", "shop.example.evil", "xexample.com", "[::1]:80"] {
        assert_eq!(proxy.get_with("/", &[("Host", host)]).await.status, 404, "{host}");
    }
}

#[tokio::test]
async fn a_segment_is_whole_and_not_empty_and_the_rest_may_be_empty() {
    let config = named(&[
        ("segment", r#"path = "/s/{id}/end""#),
        ("under", r#"path = "/u/{*rest}""#),
        ("prefix", r#"path = "/p{*rest}""#),
    ]);
    let proxy = Proxy::start(&config, &[]).await;
    for (target, route) in [
        ("/s/1/end", "segment"),
        ("/s/a%2Fb/end", "segment"),
        ("/s//end", "404"),
        ("/s/1/2/end", "404"),
        ("/s/1/end/", "404"),
        ("/u/", "under"),
        ("/u/a/b", "under"),
        ("/u", "404"),
        ("/p", "prefix"),
        ("/pser", "prefix"),
        ("/p/a/b", "prefix"),
    ] {
        assert_eq!(taken_by(&proxy, target).await, route, "{target}");
    }
}

#[tokio::test]
async fn paths_match_after_normalisation_and_what_may_differ_stays_different() {
    let config = named(&[
        ("tilde", r#"path = "/~user""#),
        ("dots", r#"path = "/a/c""#),
        ("slash", r#"path = "/x%2Fy""#),
        ("double", r#"path = "/d//e""#),
    ]);
    let proxy = Proxy::start(&config, &[]).await;
    for (target, route) in [
        ("/%7Euser", "tilde"),
        ("/%7euser", "tilde"),
        ("/a/b/../c", "dots"),
        ("/a/./c", "dots"),
        ("/a/%2e%2e/a/c", "dots"),
        ("/../../a/c", "dots"),
        ("/x%2fy", "slash"),
        ("/x/y", "404"),
        ("/d//e", "double"),
        ("/d/e", "404"),
        ("/a/c/", "404"),
        ("/a/c?q=1", "dots"),
    ] {
        assert_eq!(taken_by(&proxy, target).await, route, "{target}");
    }
}

#[tokio::test]
async fn rewrite_replaces_the_path_and_keeps_the_query() {
    let mut origin = Origin::start().await;
    let config = one_route("match = { path = \"/orders/{id}/{*rest}\" }\nrewrite = \"/v2/{id}/of/{*rest}\"");
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/orders/7/items/1?page=2&x=%20", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.target, "/v2/7/of/items/1?page=2&x=%20");
    exchange.respond(200, &[], "").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_path_reaches_the_node_normalised() {
    let mut origin = Origin::start().await;
    let proxy = Proxy::start(&one_route(""), &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/a/../b/%7ec%2fd//e?x=%2e%2E", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.target, "/b/~c%2Fd//e?x=%2e%2E");
    exchange.respond(200, &[], "").await;
    client.answer().await;
}

#[tokio::test]
async fn a_redirect_sends_the_client_elsewhere() {
    let config = "[[routes]]\nmatch = { path = \"/a\" }\nredirect = { to = \"https://else.example/b\", status = 307 }\n\
                  [[routes]]\nredirect = \"https\"\n";
    let proxy = Proxy::start(config, &[]).await;
    let there = proxy.get("/a").await;
    assert_eq!(
        (there.status, there.header("location")),
        (307, Some("https://else.example/b"))
    );
    let https = proxy.get_with("/b?c=d", &[("Host", "shop.example:8080")]).await;
    assert_eq!(https.status, 308);
    assert_eq!(https.header("location"), Some("https://shop.example/b?c=d"));
}

#[tokio::test]
async fn a_redirect_to_https_takes_nobody_who_is_there() {
    let authority = Authority::new();
    let issued = authority.issue("a", &[HOST]);
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
         [listeners.tls]\naddress = \"127.0.0.1:0\"\ntls = {{ certificate = \"{}\", key = \"{}\" }}\n\
         [[routes]]\nname = \"up\"\nredirect = \"https\"\n[[routes]]\nname = \"here\"\nrespond = {{ status = 200, body = \"here\" }}\n",
        issued.certificate, issued.key
    );
    let proxy = Proxy::start(&config, &[]).await;
    let plain = proxy.get("/a?b=c").await;
    assert_eq!(plain.header("location"), Some("https://shop.example/a?b=c"));
    let stream = connect(&authority.client(&[], None), proxy.listener(1), HOST)
        .await
        .unwrap();
    assert_eq!(
        Talk::over(stream).get("/a?b=c").await.body,
        "here",
        "else the client would go in circles"
    );
    // What ended TLS before us is believed.
    let behind = proxy.get_with("/a", &[("X-Forwarded-Proto", "https")]).await;
    assert_eq!((behind.status, behind.text()), (200, "here"));
    for (url, route, verdict, why) in [
        ("http://shop.example/a", "up", "redirect", None),
        ("https://shop.example/a", "here", "respond", Some("scheme")),
    ] {
        let told = proxy.admin_get(&format!("/explain?method=GET&url={url}")).await;
        let told: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(told["route"]["name"], route, "{url}: {told}");
        assert_eq!(told["verdict"]["does"], verdict, "{url}: {told}");
        assert_eq!(told["passed_over"][0]["mismatch"].as_str(), why, "{url}: {told}");
    }
}

#[tokio::test]
async fn a_response_of_our_own_reads_the_body_it_does_not_need() {
    let config =
        "[[routes]]\nrespond = { status = 203, body = \"hi\" }\nset_response_headers = { \"X-Own\" = \"1\" }\n";
    let proxy = Proxy::start(config, &[]).await;
    let mut client = Client::connect(proxy.address).await;
    let answer = client.request("POST", "/", &[], &[b'x'; 1000]).await;
    assert_eq!(
        (answer.status, answer.text(), answer.header("x-own")),
        (203, "hi", Some("1"))
    );
}
