//! No text panics the loader, and what it says always points into the text.

use crate::support::load;
use proptest::prelude::*;
use tidegate::config::print;

fn holds(text: &str) {
    let loaded = load(text);
    assert_eq!(loaded.config.is_some(), loaded.errors.is_empty());
    for found in loaded.errors.iter().chain(&loaded.warnings) {
        assert!(
            found.line >= 1 && found.line <= text.matches('\n').count() + 1,
            "{found}"
        );
        assert!(found.column >= 1 && !found.message.is_empty());
        let _ = found.to_string();
    }
    if loaded.config.is_some() {
        let again = load(&print::effective(&loaded));
        assert!(again.errors.is_empty(), "{}\n{text}", print::effective(&loaded));
    }
}

/// Pieces of configurations, so that random texts get past the parser.
const WORDS: &[&str] = &[
    "[server]",
    "[listeners.main]",
    "[admin]",
    "[cache]",
    "[upstreams.o]",
    "[upstreams.o.retry]",
    "[upstreams.o.health_check]",
    "[policies.p]",
    "[[routes]]",
    "[fleet]",
    "\n",
    "\n",
    "\n",
    " = ",
    " = ",
    "= {",
    "}",
    "[",
    "]",
    ",",
    ".",
    "\"",
    "'",
    "#",
    "address",
    "nodes = [{ url = \"http://a\" }]",
    "upstream = \"o\"",
    "policy = \"p\"",
    "consistency = \"weak\"",
    "consistency = \"strong\"",
    "ttl = \"5s\"",
    "match = { path = \"/{a}\" }",
    "rewrite = \"/{a}\"",
    "redirect = \"https\"",
    "respond = {}",
    "key = {}",
    "\":8080\"",
    "\"127.0.0.1:80\"",
    "\"5s\"",
    "\"64MiB\"",
    "\"20%\"",
    "7",
    "-1",
    "1e9",
    "0x10",
    "true",
    "\"${HOME}\"",
    "\"file:x\"",
    "threads",
    "max_body",
    "timeout",
    "é",
    "\u{0}",
    "\"\"\"",
    "2026-01-01",
    "nan",
    "99999999999999999999999",
    "set_request_headers = { \"x\" = \"y\" }",
    "name = \"x\"",
    "mode = \"active-passive\"",
    "path = \"/h\"",
    "tcp = true",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        holds(&text);
    }

    #[test]
    fn any_text_of_the_language_is_answered(text in "[\\[\\]{}=\"',.#a-z0-9_%$\\\\ \\n-]{0,120}") {
        holds(&text);
    }

    #[test]
    fn any_mix_of_real_pieces_is_answered(words in prop::collection::vec(prop::sample::select(WORDS), 0..60)) {
        holds(&words.concat());
        holds(&words.join("\n"));
    }

    #[test]
    fn a_damaged_configuration_is_answered(at in 0..5000_usize, length in 0..30_usize, put in "[\\[\\]{}=\"' \\na0]{0,3}") {
        let whole = include_str!("interface.toml");
        let mut start = at.min(whole.len());
        while !whole.is_char_boundary(start) { start -= 1; }
        let mut end = (start + length).min(whole.len());
        while !whole.is_char_boundary(end) { end -= 1; }
        holds(&format!("{}{put}{}", &whole[..start], &whole[end.max(start)..]));
    }
}
