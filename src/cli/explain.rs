//! `explain`: from a file, or asked of a running proxy; one document either way.

use super::ask::{AdminArgs, answer};
use super::{Exit, Given, explained, load};
use crate::app::App;
use crate::proxy::{Question, Supposed};
use crate::world::World;
use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;

/// What to explain.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The request's method
    #[arg(value_name = "METHOD", env = "TIDEGATE_METHOD")]
    method: String,
    /// Its URL, or its path as clients send it
    #[arg(value_name = "URL", env = "TIDEGATE_URL")]
    url: String,
    /// A field of the request; its value is never printed
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", env = "TIDEGATE_HEADER")]
    headers: Vec<String>,
    /// The listener it comes to [default: the first]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_LISTENER")]
    listener: Option<String>,
    /// The client's address [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_FROM")]
    from: Option<IpAddr>,
    /// Suppose that the origin answers with this status: would it be stored, and for how long?
    #[arg(long, value_name = "CODE", env = "TIDEGATE_STATUS")]
    status: Option<u16>,
    /// A field of the supposed answer
    #[arg(long, value_name = "NAME: VALUE", env = "TIDEGATE_RESPONSE_HEADER")]
    response_header: Vec<String>,
    /// Print the document as data
    #[arg(long, env = "TIDEGATE_JSON")]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl ExplainArgs {
    fn question(&self) -> Question {
        let supposes = self.status.is_some() || !self.response_header.is_empty();
        Question {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            listener: self.listener.clone(),
            from: self.from,
            answer: supposes.then(|| Supposed {
                status: self.status,
                headers: self.response_header.clone(),
            }),
        }
    }
}

pub(super) fn explain(args: &ExplainArgs, given: Given<'_>, world: &World) -> Exit {
    let question = args.question();
    // A file on the command line alone is explained as it stands; else the running proxy is asked.
    let file = args.admin.config.as_deref();
    let file = file.filter(|_| given.on_command_line("config") && !given.on_command_line("admin"));
    let told = match file {
        Some(file) => from_file(&question, file, world),
        None => from_running(&question, &args.admin, world),
    };
    let told = match told {
        Ok(told) => told,
        Err(exit) => return exit,
    };
    let text = if args.json {
        format!("{told:#}")
    } else {
        explained::text(&told)
    };
    // A reader that has left is not our failure.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Exit::Clean
}

fn from_file(question: &Question, file: &Path, world: &World) -> Result<Value, Exit> {
    let config = load(file, world)?.config.ok_or(Exit::Config)?;
    let failed = |why: &dyn std::fmt::Display, exit| {
        eprintln!("tidegate: {why}");
        exit
    };
    let app = App::build(config, world.clone()).map_err(|why| failed(&why, Exit::Failure))?;
    let told = app.explain(question).map_err(|why| failed(&why, Exit::Usage))?;
    serde_json::to_value(told).map_err(|why| failed(&why, Exit::Failure))
}

fn from_running(question: &Question, admin: &AdminArgs, world: &World) -> Result<Value, Exit> {
    let (status, text) = answer(admin, world, &Method::GET, &target(question), String::new())?;
    let told: Option<Value> = serde_json::from_slice(&text).ok();
    match told {
        Some(told) if status.is_success() => Ok(told),
        Some(problem) if status == StatusCode::BAD_REQUEST => {
            eprintln!("tidegate: {}", explained::printable(detail(&problem)));
            Err(Exit::Usage)
        }
        Some(_) | None => {
            eprintln!("tidegate: {status}: {}", String::from_utf8_lossy(&text).trim_end());
            Err(Exit::Failure)
        }
    }
}

fn detail(problem: &Value) -> &str {
    problem
        .get("detail")
        .and_then(Value::as_str)
        .unwrap_or("no reason given")
}

/// The question as the admin port takes it.
fn target(question: &Question) -> String {
    let mut target = "/explain?method=".to_owned();
    encode(&mut target, &question.method);
    let mut add = |name: &str, value: &str| {
        target.push('&');
        target.push_str(name);
        target.push('=');
        encode(&mut target, value);
    };
    add("url", &question.url);
    question.headers.iter().for_each(|field| add("header", field));
    if let Some(listener) = &question.listener {
        add("listener", listener);
    }
    if let Some(from) = question.from {
        add("from", &from.to_string());
    }
    if let Some(answer) = &question.answer {
        answer.headers.iter().for_each(|field| add("response_header", field));
        add("status", &answer.status.unwrap_or(200).to_string());
    }
    target
}

/// Percent-encoding of everything but unreserved characters (RFC 3986 s2.3).
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_target() {
        let question = Question {
            method: "GET".to_owned(),
            url: "http://a/b?c=d&e".to_owned(),
            headers: vec!["X: 1 é".to_owned()],
            answer: Some(Supposed::default()),
            ..Question::default()
        };
        assert_eq!(
            target(&question),
            "/explain?method=GET&url=http%3A%2F%2Fa%2Fb%3Fc%3Dd%26e&header=X%3A%201%20%C3%A9&status=200"
        );
    }
}
