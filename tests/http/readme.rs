//! The README shows only what loads.

use super::support::tls::Authority;
use std::path::Path;
use tidegate::world::World;

#[test]
fn every_configuration_in_the_readme_is_without_errors_and_warnings() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    // The files that the examples name.
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let issued = authority.issue("shop", &["shop.example"]);
    for (from, name) in [
        (authority.ca(), "internal-ca.pem"),
        (issued.certificate, "cert.pem"),
        (issued.key, "key.pem"),
    ] {
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    let mut levels = Vec::new();
    for (number, block) in readme.split("```toml\n").skip(1).enumerate() {
        let text = block.split("```").next().unwrap();
        let name = format!("README.md block {}", number + 1);
        let loaded = tidegate::config::load::from_text(text, &name, folder.path(), &World::real());
        let said = loaded.errors.iter().chain(&loaded.warnings).map(ToString::to_string);
        let said: Vec<String> = said.collect();
        assert!(said.is_empty(), "{}", said.join("\n"));
        for route in &loaded.config.unwrap().routes {
            if let tidegate::config::runtime::Action::Proxy { policy, .. } = &route.action {
                levels.push(policy.level());
            }
        }
    }
    for level in ["off", "weak", "eventual", "strong"] {
        assert!(levels.contains(&level), "the README has no example of {level}");
    }
}
