//! `GET /explain`: which rule decides about a request, and why. The question stands in the query, fields one `header` each.

use super::Controlled;
use super::problem::Problem;
use crate::proxy::{Question, Supposed};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};

pub(super) async fn explain(State(control): Controlled, Query(asked): Query<Vec<(String, String)>>) -> Response {
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let explained = parse(asked).and_then(|question| control.explain(&question).map_err(|why| why.to_string()));
    match explained.map_err(bad) {
        Ok(explanation) => Json(explanation).into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn parse(asked: Vec<(String, String)>) -> Result<Question, String> {
    let mut question = Question::default();
    let mut answer = None;
    for (name, value) in asked {
        match name.as_str() {
            "method" => once(&mut question.method, value, "method")?,
            "url" => once(&mut question.url, value, "url")?,
            "header" => question.headers.push(value),
            "listener" => question.listener = Some(value),
            "from" => question.from = Some(value.parse().map_err(|_| "`from` is no address".to_owned())?),
            "status" => {
                let status = value.parse().map_err(|_| "`status` is no status".to_owned())?;
                answer.get_or_insert_with(Supposed::default).status = Some(status);
            }
            "response_header" => answer.get_or_insert_with(Supposed::default).headers.push(value),
            other => {
                return Err(format!(
                    "`{other}` is none of method, url, header, listener, from, status, response_header"
                ));
            }
        }
    }
    if question.url.is_empty() {
        return Err("`url` is missing".to_owned());
    }
    question.answer = answer;
    Ok(question)
}

fn once(place: &mut String, value: String, name: &str) -> Result<(), String> {
    if !place.is_empty() {
        return Err(format!("`{name}` is given twice"));
    }
    *place = value;
    Ok(())
}
