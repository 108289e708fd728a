//! The files of `config/` and `deploy/`: each loads without an error or a warning, says what it is, and prints what it means.

use crate::support::{messages, world};
use std::fs;
use std::path::{Path, PathBuf};
use tidegate::config::runtime::{Action, Config, Mode};
use tidegate::config::{Loaded, load, print};
use tidegate::core::policy::{Contract, OriginTtl};
use tidegate::world::World;

/// In place of every secret that a file takes from the environment.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let within = |folder: &Path| {
        fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect::<Vec<_>>()
    };
    let mut files = within(&root.join("config"));
    for deployment in within(&root.join("deploy")) {
        files.extend(within(&deployment));
    }
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    files
}

fn read(path: &Path) -> Loaded {
    let world = World {
        disk: World::real().disk,
        ..world(
            &[("TIDEGATE_ADMIN_TOKEN", SECRET), ("TIDEGATE_SESSION_KEY", SECRET)],
            &[],
        )
    };
    load::from_file(path, &world).unwrap()
}

fn named(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    read(&path).config.unwrap()
}

#[test]
fn every_file_is_right_and_says_what_it_is() {
    let files = files();
    assert!(files.len() >= 10, "{files:?}");
    for path in &files {
        let loaded = read(path);
        assert!(loaded.config.is_some(), "{}", messages(&loaded));
        assert_eq!(messages(&loaded), "", "{}", path.display());
        assert!(
            fs::read_to_string(path).unwrap().starts_with("# "),
            "{} begins with what it is",
            path.display()
        );
    }
}

#[test]
fn what_print_config_prints_means_the_same() {
    for path in files() {
        let loaded = read(&path);
        let printed = print::effective(&loaded).replace("<redacted>", SECRET);
        let again = crate::support::load(&printed);
        assert!(again.errors.is_empty(), "{}\n{printed}", messages(&again));
        let (before, after) = (loaded.config.unwrap(), again.config.unwrap());
        assert_eq!(
            print::redacted_json(&before.effective),
            print::redacted_json(&after.effective),
            "{printed}"
        );
        assert_eq!(before.hash, after.hash);
    }
}

#[test]
fn minimal_is_the_smallest_file() {
    let config = named("minimal.toml");
    assert_eq!(
        (config.upstreams.len(), config.routes.len(), config.listeners.len()),
        (1, 1, 1)
    );
}

#[test]
fn each_level_has_its_file() {
    for level in ["off", "weak", "eventual", "strong"] {
        let config = named(&format!("level-{level}.toml"));
        let levels: Vec<_> = config
            .routes
            .iter()
            .filter_map(|route| match &route.action {
                Action::Proxy { policy, .. } => Some(policy.level()),
                _ => None,
            })
            .collect();
        assert!(levels.contains(&level), "{level}: {levels:?}");
    }
}

#[test]
fn conformance_honours_the_origin_and_nothing_else() {
    let config = named("conformance.toml");
    assert_eq!(config.routes.len(), 1);
    let Action::Proxy { policy, .. } = &config.routes[0].action else {
        panic!()
    };
    let Contract::Eventual(caching, bounded) = &policy.contract else {
        panic!()
    };
    assert_eq!((caching.ttl, caching.origin_ttl), (None, OriginTtl::Honor));
    assert!(caching.store_set_cookie && !caching.shared_auth);
    assert_eq!(caching.key.cookies_ignore, ["*"]);
    assert!(
        bounded.max_staleness.as_secs() >= 7 * 86_400,
        "longer than any lifetime in the suite"
    );
}

#[test]
fn active_passive_keeps_a_node_in_reserve() {
    let config = named("active-passive.toml");
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.mode, Mode::ActivePassive);
    assert!(
        upstream.nodes[0].standby.is_none() && upstream.nodes[1].standby.is_some() && upstream.health_check.is_some()
    );
}
