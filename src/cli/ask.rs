//! Commands that ask a running proxy through its admin port.

use super::{Exit, load, show};
use crate::world::World;
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than the admin port ever takes; a health check must end.
const TIMEOUT: Duration = Duration::from_secs(5);

/// More than `/status` of a large configuration.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Where the proxy is, and what opens it.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// The admin port [default: that of --config, or 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_ADMIN")]
    admin: Option<String>,
    /// The admin token, or file:PATH [default: that of --config]
    #[arg(long, value_name = "TOKEN", env = "TIDEGATE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The proxy's configuration file, for its admin address and token
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

/// What to purge.
#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    what: What,
    /// Mark it stale instead: the next read asks the origin, and stale windows still hold
    #[arg(long, env = "TIDEGATE_SOFT")]
    soft: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// One URL: absolute, or its path as clients send it
    #[arg(long, env = "TIDEGATE_URL")]
    url: Option<String>,
    /// Whatever begins with this URL or path
    #[arg(long, env = "TIDEGATE_PREFIX")]
    prefix: Option<String>,
    /// Whatever the route of this name has stored
    #[arg(long, value_name = "NAME", env = "TIDEGATE_ROUTE")]
    route: Option<String>,
    /// Whatever carries this tag
    #[arg(long, env = "TIDEGATE_TAG")]
    tag: Option<String>,
    /// Everything
    #[arg(long, env = "TIDEGATE_ALL")]
    all: bool,
}

/// What is settled.
#[derive(Debug, Args)]
pub(super) struct SettleArgs {
    /// One URL: absolute, or its path as clients send it
    #[arg(long, env = "TIDEGATE_URL")]
    url: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// How to show the status.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print the document as the admin port gives it
    #[arg(long, env = "TIDEGATE_JSON")]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What to check.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Ask whether it is ready for traffic, not only alive
    #[arg(long, env = "TIDEGATE_READY")]
    ready: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn purge(args: &PurgeArgs, world: &World) -> Exit {
    let what = &args.what;
    let named = [
        ("url", &what.url),
        ("prefix", &what.prefix),
        ("route", &what.route),
        ("tag", &what.tag),
    ];
    let named = named.into_iter().find_map(|(name, text)| Some((name, text.as_ref()?)));
    let soft = args.soft;
    let wish = match named {
        Some((name, text)) => serde_json::json!({ name: text, "soft": soft }),
        None => serde_json::json!({ "all": true, "soft": soft }),
    };
    ask(&args.admin, world, &Method::POST, "/purge", wish.to_string())
}

pub(super) fn settle(args: &SettleArgs, world: &World) -> Exit {
    let word = serde_json::json!({ "url": args.url });
    ask(&args.admin, world, &Method::POST, "/settle", word.to_string())
}

pub(super) fn status(args: &StatusArgs, world: &World) -> Exit {
    let shown = |answer: &[u8]| match serde_json::from_slice(answer) {
        Ok(document) if !args.json => show::status(&document),
        // Not a document: whatever it is, it is shown.
        Ok(_) | Err(_) => as_it_is(answer),
    };
    ask_and_show(&args.admin, world, &Method::GET, "/status", String::new(), shown)
}

pub(super) fn reload(args: &AdminArgs, world: &World) -> Exit {
    match answer(args, world, &Method::POST, "/reload", String::new()) {
        Ok((StatusCode::UNPROCESSABLE_ENTITY, text)) => {
            let problem: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            let errors = problem.get("errors").and_then(serde_json::Value::as_array);
            for error in errors.into_iter().flatten().filter_map(serde_json::Value::as_str) {
                eprintln!("{error}");
            }
            eprintln!("tidegate: not reloaded, nothing has changed");
            Exit::Config
        }
        Ok((status, text)) if status.is_success() => {
            // A reader that has left is not our failure.
            let _ = writeln!(std::io::stdout(), "{}", as_it_is(&text).trim_end());
            Exit::Clean
        }
        Ok((status, text)) => {
            eprintln!("tidegate: {status}: {}", why(&text));
            Exit::Failure
        }
        Err(exit) => exit,
    }
}

pub(super) fn drain(args: &AdminArgs, world: &World) -> Exit {
    ask(args, world, &Method::POST, "/drain", String::new())
}

pub(super) fn healthcheck(args: &HealthArgs, world: &World) -> Exit {
    let path = if args.ready { "/ready" } else { "/live" };
    ask(&args.admin, world, &Method::GET, path, String::new())
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0:?} is not HOST:PORT")]
    Address(String),
    #[error("token file {0}: {1}")]
    Token(String, std::io::Error),
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("{0} did not answer in time")]
    TimedOut(String),
    #[error("{0} did not answer in HTTP: {1}")]
    Http(String, Box<dyn std::error::Error + Send + Sync>),
}

fn ask(args: &AdminArgs, world: &World, method: &Method, path: &str, body: String) -> Exit {
    ask_and_show(args, world, method, path, body, as_it_is)
}

pub(super) fn as_it_is(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

/// Asks, and prints what came.
fn ask_and_show(
    args: &AdminArgs,
    world: &World,
    method: &Method,
    path: &str,
    body: String,
    show: impl FnOnce(&[u8]) -> String,
) -> Exit {
    tell(answer(args, world, method, path, body), show)
}

/// Prints a good answer on stdout and any other on stderr.
pub(super) fn tell(answered: Result<(StatusCode, Bytes), Exit>, show: impl FnOnce(&[u8]) -> String) -> Exit {
    match answered {
        Ok((status, text)) if status.is_success() => {
            // A reader that has left is not our failure.
            let _ = writeln!(std::io::stdout(), "{}", show(&text).trim_end());
            Exit::Clean
        }
        Ok((status, text)) => {
            eprintln!("tidegate: {status}: {}", why(&text));
            Exit::Failure
        }
        Err(exit) => exit,
    }
}

/// What a problem (RFC 9457) tells a person; anything else as it is.
fn why(answer: &[u8]) -> String {
    let problem: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let detail = problem.get("detail").and_then(serde_json::Value::as_str);
    detail.map_or_else(|| as_it_is(answer).trim_end().to_owned(), show::printable)
}

/// Asks; an error has been printed.
pub(super) fn answer(
    args: &AdminArgs,
    world: &World,
    method: &Method,
    path: &str,
    body: String,
) -> Result<(StatusCode, Bytes), Exit> {
    answer_within(TIMEOUT, args, world, method, path, body)
}

/// The same for what takes its time.
pub(super) fn answer_within(
    limit: Duration,
    args: &AdminArgs,
    world: &World,
    method: &Method,
    path: &str,
    body: String,
) -> Result<(StatusCode, Bytes), Exit> {
    let place = place(args, world)?;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return Err(Exit::Failure);
        }
    };
    let answer = async {
        let asked = tokio::time::timeout(limit, exchange(&place, world, method, path, body)).await;
        asked.unwrap_or_else(|_| Err(AskError::TimedOut(place.address.clone())))
    };
    runtime.block_on(answer).map_err(|error| {
        eprintln!("tidegate: {error}");
        match error {
            AskError::Address(_) => Exit::Usage,
            AskError::Token(..) => Exit::Config,
            AskError::Connect(..) | AskError::TimedOut(_) | AskError::Http(..) => Exit::Failure,
        }
    })
}

/// An admin port.
struct Place {
    address: String,
    token: Option<String>,
}

fn place(args: &AdminArgs, world: &World) -> Result<Place, Exit> {
    let from_file = match (&args.config, &args.admin, &args.token) {
        (None, ..) | (Some(_), Some(_), Some(_)) => None,
        (Some(file), ..) => Some(load(file, world)?.config.ok_or(Exit::Config)?.admin),
    };
    let address = args.admin.clone();
    let address = address.or_else(|| from_file.as_ref().map(|admin| admin.address.to_string()));
    let token = args.token.clone();
    Ok(Place {
        address: address.unwrap_or_else(|| "127.0.0.1:9901".to_owned()),
        token: token.or_else(|| Some(from_file?.token?.reveal().to_owned())),
    })
}

async fn exchange(
    place: &Place,
    world: &World,
    method: &Method,
    path: &str,
    body: String,
) -> Result<(StatusCode, Bytes), AskError> {
    let at = || place.address.clone();
    let (host, port) = split(&place.address).ok_or_else(|| AskError::Address(at()))?;
    let token = place
        .token
        .as_deref()
        .map(|token| read_token(token, world))
        .transpose()?;
    let connect = |error| AskError::Connect(at(), error);
    let addresses = world.net.resolve(&host, port).await.map_err(connect)?;
    let mut stream = Err(std::io::ErrorKind::NotFound.into());
    for address in addresses {
        stream = world.net.connect(address).await;
        if stream.is_ok() {
            break;
        }
    }
    let stream = stream.map_err(connect)?;
    let http = |error: hyper::Error| AskError::Http(at(), error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, format!("{host}:{port}"))
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| AskError::Http(at(), error.into()))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(http)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| AskError::Http(at(), error))?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(asked, connection);
    tokio::select! {
        biased;
        answer = &mut asked => answer,
        // The answer may be complete when the connection ends.
        _ = &mut connection => asked.await,
    }
}

/// Host and port; an address of every interface, or none at all, is reached here.
fn split(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    Some((host.to_owned(), port.parse().ok()?))
}

fn read_token(token: &str, world: &World) -> Result<String, AskError> {
    let Some(path) = token.strip_prefix("file:") else {
        return Ok(token.to_owned());
    };
    let text = world.disk.read_to_string(Path::new(path));
    let text = text.map_err(|error| AskError::Token(path.to_owned(), error))?;
    Ok(text.trim().to_owned())
}
