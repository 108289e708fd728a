//! `invalidates`: what else a route's writes change, as templates of client paths and of tags. Each placeholder is one of the route's
//! own pattern; a path that no route could take is a mistake, since nothing would ever be gated by it.

use crate::config::diagnostic::{Place, Sink, did_you_mean};
use crate::config::effective::Table;
use crate::config::runtime::{Action, Invalidates, PathPattern, Piece, Rewrite, Route};
use crate::core::http::invalidate::is_safe;
use std::sync::Arc;

/// What marks a tag.
const TAG: &str = "tag:";

/// The templates of a route, each with its place in the file.
pub(super) fn compile(table: &Table, pattern: Option<&PathPattern>, sink: &mut Sink) -> Vec<(Invalidates, Place)> {
    let mut found = Vec::new();
    for (text, node) in table.texts("invalidates") {
        match parse(text, pattern) {
            Ok(template) => found.push((template, node.place.clone())),
            Err(message) => sink.error(&node.place, message),
        }
    }
    found
}

fn parse(text: &str, pattern: Option<&PathPattern>) -> Result<Invalidates, String> {
    if let Some(name) = text.strip_prefix(TAG) {
        return match name {
            "" => Err("a tag has a name: \"tag:NAME\"".to_owned()),
            name => Ok(Invalidates::Tag(filled(name, pattern)?)),
        };
    }
    if !text.starts_with('/') {
        return Err(format!(
            "expected a path as clients send it (\"/...\") or \"tag:NAME\", found \"{text}\""
        ));
    }
    let (path, query) = text
        .split_once('?')
        .map_or((text, None), |(path, query)| (path, Some(query)));
    Ok(Invalidates::Path {
        path: Rewrite::parse(path, pattern)?,
        query: query.map(|query| filled(query, pattern)).transpose()?,
    })
}

/// A text with placeholders anywhere in it.
fn filled(text: &str, pattern: Option<&PathPattern>) -> Result<Rewrite, String> {
    if let Some(wrong) = text.chars().find(|c| *c == '#' || c.is_control()) {
        return Err(format!("a query and a tag have no {:?}", wrong.to_string()));
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(at);
        let Some((inside, tail)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
            return Err("\"{\" and \"}\" come in pairs".into());
        };
        let name = inside.strip_prefix('*').unwrap_or(inside);
        let names = || pattern.into_iter().flat_map(PathPattern::names);
        if !names().any(|known| known == name) {
            let hint = did_you_mean(name, names());
            return Err(format!("the placeholder \"{name}\" is not in match.path{hint}"));
        }
        if !before.is_empty() {
            pieces.push(Piece::Literal(before.to_owned()));
        }
        pieces.push(Piece::Segment(name.to_owned()));
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(Rewrite { pieces })
}

/// Looks at what only all routes together can tell: whether anything could be behind a template.
pub(super) fn check(routes: &[Arc<Route>], places: &[Vec<Place>], sink: &mut Sink) {
    let keeps_tags = routes.iter().any(|route| match &route.action {
        Action::Proxy { policy, .. } => policy.caching().is_some_and(|caching| !caching.tags_from.is_empty()),
        Action::Redirect { .. } | Action::Respond { .. } => false,
    });
    for (route, places) in routes.iter().zip(places) {
        if let (Some(place), true) = (places.first(), takes_no_write(route)) {
            sink.warn(place, "the route takes no request that writes");
        }
        for (template, place) in route.invalidates.iter().zip(places) {
            match template {
                Invalidates::Tag(_) if keeps_tags => {}
                Invalidates::Tag(_) => sink.warn(place, "no route stores answers with their tags"),
                Invalidates::Path { path, .. } if routes.iter().any(|other| may_take(other, path)) => {}
                Invalidates::Path { .. } => sink.error(place, "no route with an upstream takes such a path"),
            }
        }
    }
}

fn takes_no_write(route: &Route) -> bool {
    let methods = &route.matches.methods;
    !methods.is_empty() && methods.iter().all(is_safe)
}

/// Whether a route with an upstream may take some path of the template. Errs towards yes.
fn may_take(route: &Route, template: &Rewrite) -> bool {
    let proxies = matches!(route.action, Action::Proxy { .. });
    let pattern = route.matches.path.as_ref();
    proxies && pattern.is_none_or(|pattern| may_meet(&pattern.pieces, &template.pieces))
}

fn may_meet(one: &[Piece], other: &[Piece]) -> bool {
    let (one, open) = outline(one);
    let (other, other_open) = outline(other);
    let (mut a, mut b) = (one.split('/'), other.split('/'));
    loop {
        // The last segment before a rest is only the beginning of what may stand there.
        match (a.next(), b.next(), a.clone().next(), b.clone().next()) {
            (None, None, ..) => return true,
            (Some(x), Some(y), more, more_other) => {
                let (x_goes_on, y_goes_on) = (open && more.is_none(), other_open && more_other.is_none());
                let fits = x == y
                    || x == ANY
                    || y == ANY
                    || (x_goes_on && (y.starts_with(x) || y.contains(ANY)))
                    || (y_goes_on && (x.starts_with(y) || x.contains(ANY)))
                    || (x_goes_on && y_goes_on && (x.starts_with(y) || y.starts_with(x)));
                if !fits {
                    return false;
                }
                if x_goes_on || y_goes_on {
                    return true;
                }
            }
            (None, Some(_), ..) | (Some(_), None, ..) => return false,
        }
    }
}

/// What no path holds.
const ANY: &str = "\0";

/// Pieces as one text with every `{name}` as [`ANY`], and whether a rest ends it.
fn outline(pieces: &[Piece]) -> (String, bool) {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Segment(_) => text.push_str(ANY),
            Piece::Rest(_) => return (text, true),
        }
    }
    (text, false)
}

/// Routes without an upstream forward nothing, and so have nothing to declare.
pub(super) fn refuse(table: &Table, sink: &mut Sink) {
    let given = table.get("invalidates");
    if let Some(node) = given.filter(|_| table.texts("invalidates").next().is_some()) {
        sink.error(&node.key_place(), "only on a route with upstream");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_template_meets_a_pattern_when_some_path_is_of_both() {
        let cases = [
            ("/a", "/a", true),
            ("/a", "/b", false),
            ("/a", "/a/", false),
            ("/a/{id}", "/a/b", true),
            ("/a/{id}", "/b/b", false),
            ("/a/{id}", "/a/{name}", true),
            ("/a/{id}", "/a", false),
            ("/a/{id}/c", "/a/b/d", false),
            ("/{*rest}", "/a/b", true),
            ("/a/{*rest}", "/a/", true),
            ("/a/{*rest}", "/a", false),
            ("/a/{*rest}", "/b/a", false),
            ("/u{*rest}", "/user/1", true),
            ("/u{*rest}", "/{id}", true),
            ("/u{*rest}", "/v", false),
            ("/a/{*rest}", "/{*other}", true),
            ("/a/{*rest}", "/b/{*other}", false),
            ("/a/b/{*rest}", "/a/{*other}", true),
        ];
        for (one, other, expected) in cases {
            let (a, b) = (PathPattern::parse(one).unwrap(), PathPattern::parse(other).unwrap());
            assert_eq!(may_meet(&a.pieces, &b.pieces), expected, "{one} {other}");
            assert_eq!(may_meet(&b.pieces, &a.pieces), expected, "{other} {one}");
        }
    }
}
