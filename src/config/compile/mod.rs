//! Meaning: typed values become the runtime types, names become `Arc`s, contradictions become errors. Always goes to the end, with
//! harmless stand-ins for what is wrong, so that one run reports everything.

mod fields;
mod invalidates;
mod listener;
mod pair;
mod policy;
mod route;
mod session;
mod socket;
mod upstream;
mod warn;

pub(super) use upstream::listed;

use super::catalogue;
use super::diagnostic::{Sink, did_you_mean};
use super::effective::{Effective, Node, Table, Value};
use super::print;
use super::runtime::{Admin, Cache, Config, LogFormat, Meter, Network, Numbers, Secret, Server, Sources, Telemetry};
use super::shape::constant;
use crate::core::discovery::UNIX;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;

/// Builds the configuration. When the sink holds errors afterwards, it is not to be used.
pub(super) fn compile(mut root: Table, sink: &mut Sink) -> Config {
    let policies = root.take("policies");
    let raw_routes = root.take("routes");
    fill(&mut root);

    let mut taken = listener::Taken::default();
    let listeners = root
        .tables("listeners")
        .map(|(name, table)| Arc::new(listener::compile(name, table, &mut taken, sink)))
        .collect();
    let nothing = Table::empty();
    let section = |name| root.table(name).unwrap_or(&nothing);
    let server = server(section("server"), &root, sink);
    let admin = admin(section("admin"), &mut taken, sink);
    let cache = cache(section("cache"), sink);
    let telemetry = telemetry(section("telemetry"), sink);
    let session = session::compile(section("session"), sink);
    let upstreams: Vec<_> = root
        .tables("upstreams")
        .enumerate()
        .map(|(id, (name, table))| upstream::compile(id, name, table, sink))
        .collect();
    let compiled = route::compile(
        raw_routes.as_ref(),
        policies.as_ref(),
        upstreams,
        section("cache"),
        sink,
    );
    warn::unused(&root, policies.as_ref(), raw_routes.as_ref(), sink);
    warn::shadowed(&compiled.routes, &compiled.places, sink);
    warn::shared_nodes(&compiled, &root, sink);
    warn::forgotten(&compiled, &root, server.state_dir.is_some(), sink);
    session::warn(&session, &compiled, sink);

    if let Some(node) = raw_routes {
        root.push(
            "routes",
            Node {
                value: Value::List(compiled.tables),
                ..node
            },
        );
    }
    let effective = Effective {
        file: sink.source.name.clone(),
        root,
    };
    Config {
        server,
        listeners,
        admin,
        cache,
        telemetry,
        session,
        numbers: Numbers::first(&compiled.upstreams, &compiled.routes),
        upstreams: compiled.upstreams,
        routes: compiled.routes,
        hash: print::hash(&effective),
        effective: Arc::new(effective),
    }
}

/// Defaults that depend on the machine or on what else is there.
fn fill(root: &mut Table) {
    let place = root.place.clone();
    if root
        .get("listeners")
        .is_none_or(|node| node.as_table().is_some_and(|table| table.entries.is_empty()))
    {
        root.take("listeners");
        let kind = catalogue::find(catalogue::ROOT, "listeners").map(|key| &key.kind);
        let place = place.child("listeners", place.span.clone());
        if let Some(node) = kind.and_then(|kind| constant(kind, "{ main = {} }", place)) {
            root.insert_after("server", "listeners", node);
        }
    }
    if let Some(main) = root
        .table_mut("listeners")
        .and_then(|listeners| listeners.table_mut("main"))
    {
        main.fill_first("address", Value::Text(":8080".into()));
    }
    if let Some(upstreams) = root.table_mut("upstreams") {
        for (_, node) in &mut upstreams.entries {
            if let Value::Table(upstream) = &mut node.value {
                upstream::fill(upstream);
            }
        }
    }
    // One thread per core, of those this process may use.
    let cores = std::thread::available_parallelism().map_or(1, |n| u64::try_from(n.get()).unwrap_or(1));
    if let Some(server) = root.table_mut("server") {
        server.fill_first("threads", Value::Count(cores));
    }
}

fn server(table: &Table, root: &Table, sink: &mut Sink) -> Server {
    let names: Vec<&str> = root.tables("upstreams").map(|(name, _)| name).collect();
    let mut ready_requires = Vec::new();
    for (name, node) in table.texts("ready_requires") {
        match names.iter().position(|n| *n == name) {
            Some(id) if !ready_requires.contains(&id) => ready_requires.push(id),
            Some(_) => {}
            None => {
                let hint = did_you_mean(name, names.iter().copied());
                sink.error(&node.place, format!("there is no upstream \"{name}\"{hint}"));
            }
        }
    }
    Server {
        pair: pair::compile(table, sink),
        threads: table.count("threads"),
        state_dir: table.text("state_dir").map(Into::into),
        drain_delay: table.duration("drain_delay").unwrap_or_default(),
        drain_timeout: table.duration("drain_timeout").unwrap_or_default(),
        ready_requires,
    }
}

fn admin(table: &Table, taken: &mut listener::Taken, sink: &mut Sink) -> Admin {
    let place = table.place_of("address");
    let bind = table.text("address").map(|text| match text.starts_with(UNIX) {
        true => Err("the admin port is a port: an address like \"127.0.0.1:9901\"".to_owned()),
        false => listener::bind(text),
    });
    let address = match bind {
        Some(Ok(bind)) => {
            taken.take(bind.clone(), &place, sink);
            listener::single(&bind).unwrap_or(listener::NOWHERE)
        }
        Some(Err(message)) => {
            sink.error(&place, message);
            listener::NOWHERE
        }
        None => listener::NOWHERE,
    };
    let token = table.text("token");
    if token.is_some_and(|token| token.trim().is_empty()) {
        sink.error(&table.place_of("token"), "the token is empty");
    } else if token.is_some_and(|token| token.chars().any(|c| c.is_ascii_control() || !c.is_ascii())) {
        sink.error(
            &table.place_of("token"),
            "a token is printable ASCII: it travels in an Authorization header",
        );
    } else if token.is_some_and(|token| token.len() < 16) {
        sink.warn(
            &table.place_of("token"),
            "the token has fewer than 16 characters and can be guessed",
        );
    }
    // A bad token is reported already; without this it would count as missing too.
    if table.get("token").is_none() {
        if !address.ip().is_loopback() {
            sink.error(&place, "needs admin.token: the address is not loopback");
        }
        if table.flag("metrics_token") {
            sink.error(&table.place_of("metrics_token"), "needs admin.token");
        }
    }
    Admin {
        address,
        token: token.map(|token| Secret(token.to_owned())),
        metrics_token: table.flag("metrics_token"),
    }
}

fn cache(table: &Table, sink: &mut Sink) -> Cache {
    let (max_memory, max_object) = (table.size("max_memory"), table.size("max_object"));
    if let (Some(memory), Some(object)) = (max_memory, max_object)
        && object > memory
    {
        sink.warn(
            &table.place_of("max_object"),
            "larger than cache.max_memory: nothing of that size can be stored",
        );
    }
    Cache {
        max_memory: max_memory.unwrap_or_default(),
        max_object: max_object.unwrap_or_default(),
    }
}

fn telemetry(table: &Table, sink: &mut Sink) -> Telemetry {
    let log = table.text("log").unwrap_or_default();
    if let Err(e) = tracing_subscriber::EnvFilter::builder().parse(log) {
        sink.error(
            &table.place_of("log"),
            format!("expected a filter like \"info\" or \"tidegate=debug,warn\": {e}"),
        );
    }
    let log_format = if table.text("log_format") == Some("json") {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    Telemetry {
        log: log.to_owned(),
        log_format,
        access_log: match table.text("access_log") {
            Some("text") => Some(LogFormat::Text),
            Some("json") => Some(LogFormat::Json),
            _ => None, // "off", or a mistake that is already reported
        },
        meter: table.table("meter").and_then(|meter| {
            let (sample, max_per_second) = (meter.percent("sample"), meter.count_u32("max_per_second"));
            (sample > 0).then_some(Meter { sample, max_per_second })
        }),
    }
}

/// The networks of a list.
/// Networks, and `unix:` for whoever comes over a unix socket.
fn sources(table: &Table, name: &str, sink: &mut Sink) -> Sources {
    let mut sources = Sources::default();
    for (text, node) in table.texts(name) {
        match Network::parse(text) {
            Ok(network) => sources.networks.push(network),
            Err(_) if text == UNIX => sources.unix = true,
            Err(_) if text.starts_with(UNIX) => sink.error(
                &node.place,
                format!("peers over unix sockets have no address: \"{UNIX}\" means all of them"),
            ),
            Err(message) => sink.error(&node.place, message),
        }
    }
    sources
}

/// The span, or nothing where its mistake is already reported.
fn span(table: &Table, name: &str) -> Duration {
    table.duration(name).unwrap_or_default()
}

/// A field name.
fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(text).map_err(|_| format!("\"{}\" is no header name", text.escape_debug()))
}

/// A field value.
fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::try_from(text).map_err(|_| {
        format!(
            "\"{}\" is no header value: it holds control characters",
            text.escape_debug()
        )
    })
}

/// A name that appears in paths of the admin port and in labels.
fn plain_name(name: &str) -> Result<(), String> {
    let fits = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '?' | '#' | '%' | '"');
    if name.is_empty() || !name.chars().all(fits) {
        return Err(format!(
            "\"{}\" is no name: it needs characters other than spaces and / ? # %",
            name.escape_debug()
        ));
    }
    Ok(())
}
