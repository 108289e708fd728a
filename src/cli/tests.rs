#![allow(clippy::unwrap_used)]

use super::{Cli, Exit, main};
use crate::app::App;
use crate::config::load::from_text;
use crate::world::World;
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

fn tidegate(arguments: &[&str]) -> Exit {
    let arguments = ["tidegate"].iter().chain(arguments).map(OsString::from);
    main(arguments, &World::real())
}

/// The same for a command that would serve until a signal if it did not fail at once.
fn tidegate_must_end(arguments: &[&str]) -> Exit {
    let arguments: Vec<_> = ["tidegate"].iter().chain(arguments).map(OsString::from).collect();
    let (tell, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(main(arguments, &World::real())));
    ended
        .recv_timeout(Duration::from_secs(20))
        .expect("it serves instead of failing")
}

const GOOD: &str = "[listeners.main]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
                    [[routes]]\nrespond = { status = 200 }\n[upstreams.u]\nnodes = [{ url = \"http://127.0.0.1:9\" }]\n";

/// A folder with `name` in it.
fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

#[test]
fn the_command_line_is_consistent_in_itself() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_a_variable() {
    let command = Cli::command();
    for part in std::iter::once(&command).chain(command.get_subcommands()) {
        for argument in part
            .get_arguments()
            .filter(|a| !["help", "version"].contains(&a.get_id().as_str()))
        {
            let variable = argument.get_env().and_then(|v| v.to_str()).unwrap_or_default();
            let name = argument.get_id();
            assert!(
                variable.starts_with("TIDEGATE_"),
                "{} --{name}: {variable:?}",
                part.get_name()
            );
        }
    }
}

#[test]
fn help_and_version_are_clean_and_mistakes_are_usage() {
    for clean in [
        &["--help"][..],
        &["--version"],
        &["version"],
        &["run", "--help"],
        &["schema"],
    ] {
        assert_eq!(tidegate(clean), Exit::Clean, "{clean:?}");
    }
    for wrong in [
        &["--no-such-flag"][..],
        &["no-such-command"],
        &[],
        &["run"],
        &["check"],
        &["purge"],
        &["purge", "--url", "/a", "--all"],
        &["purge", "--prefix", "/a", "--route", "r"],
        &["purge", "--soft"],
        &["settle"],
        &["promote"],
        &["promote", "u"],
        &["--config", "a.toml", "--upstream", "http://127.0.0.1:9"],
        &["--config", "a.toml", "--listen", ":80"],
        &["--listen", ":80"],
        &["status", "--admin", "nowhere"],
    ] {
        assert_eq!(tidegate(wrong), Exit::Usage, "{wrong:?}");
    }
    assert_eq!(
        [Exit::Clean, Exit::Failure, Exit::Usage, Exit::Config].map(Exit::code),
        [0, 1, 64, 78]
    );
}

#[test]
fn a_configuration_that_is_wrong_or_cannot_be_read_is_78() {
    let (_folder, good) = file("good.toml", GOOD);
    assert_eq!(tidegate(&["check", "-c", &good]), Exit::Clean);
    assert_eq!(tidegate(&["print-config", "--config", &good]), Exit::Clean);
    let (_folder, bad) = file("bad.toml", &GOOD.replace("respond", "repond"));
    for arguments in [
        &["check", "-c", &bad][..],
        &["print-config", "-c", &bad],
        &["run", "-c", &bad],
        &["-c", &bad],
        &["check", "-c", "/nowhere/tidegate.toml"],
        &["run", "-c", "/nowhere/tidegate.toml"],
        &["status", "-c", "/nowhere/tidegate.toml"],
        &["--upstream", "http://127.0.0.1:9", "--consistency", "very"],
        &["--upstream", "not a url"],
    ] {
        assert_eq!(tidegate(arguments), Exit::Config, "{arguments:?}");
    }
}

#[test]
fn an_address_in_use_is_a_failure() {
    let taken = start(GOOD);
    let address = taken.listeners.first().unwrap().1.to_string();
    let (_folder, path) = file(
        "taken.toml",
        &GOOD.replace("127.0.0.1:0\"\n[admin]", &format!("{address}\"\n[admin]")),
    );
    assert_eq!(tidegate_must_end(&["run", "-c", &path]), Exit::Failure);
}

#[test]
fn the_admin_commands_ask_a_running_proxy() {
    let token = "0123456789abcdef0123456789abcdef";
    let text = GOOD.replace("[admin]\n", &format!("[admin]\ntoken = \"{token}\"\n"));
    let running = start(&text);
    let admin = running.admin.to_string();
    assert_eq!(tidegate(&["healthcheck", "--admin", &admin]), Exit::Clean);
    assert_eq!(tidegate(&["healthcheck", "--ready", "--admin", &admin]), Exit::Clean);
    assert_eq!(
        tidegate(&["status", "--admin", &admin]),
        Exit::Failure,
        "without the token"
    );
    let (_folder, token_file) = file("token", &format!("{token}\n"));
    let from_file = format!("file:{token_file}");
    for token in [token, from_file.as_str()] {
        assert_eq!(tidegate(&["status", "--admin", &admin, "--token", token]), Exit::Clean);
    }
    assert_eq!(
        tidegate(&["status", "--admin", &admin, "--token", "file:/nowhere"]),
        Exit::Config
    );
    // Address and token both from the proxy's own file.
    let (_folder, config) = file(
        "tidegate.toml",
        &text
            .replace("token", &format!("address = \"{admin}\"\ntoken"))
            .replacen("address = \"127.0.0.1:0\"\n[[", "[[", 1),
    );
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["settle", "--url", "/a"],
        &["undrain", "u", "127.0.0.1:9"],
        &["drain-node", "u", "127.0.0.1:9"],
        &["resynced", "u", "127.0.0.1:9"],
        &["purge", "--all"],
        &["purge", "--url", "/a"],
        &["purge", "--prefix", "/a", "--soft"],
        &["purge", "--route", "route-1"],
        &["purge", "--tag", "news", "--soft"],
    ] {
        let arguments: Vec<_> = command.iter().copied().chain(["-c", config.as_str()]).collect();
        assert_eq!(tidegate(&arguments), Exit::Clean, "{arguments:?}");
    }
    assert_eq!(tidegate(&["settle", "--url", "no path", "-c", &config]), Exit::Failure);
    for refused in [["--url", "no path"], ["--route", "nobody"]] {
        let arguments: Vec<_> = ["purge", "-c", &config].into_iter().chain(refused).collect();
        assert_eq!(tidegate(&arguments), Exit::Failure, "{refused:?}");
    }
    for refused in [
        ["promote", "u", "127.0.0.1:9"],
        ["promote", "u", "nobody"],
        ["undrain", "v", "x"],
    ] {
        let arguments: Vec<_> = refused.into_iter().chain(["-c", config.as_str()]).collect();
        assert_eq!(tidegate(&arguments), Exit::Failure, "{refused:?}");
    }
    assert_eq!(tidegate(&["drain", "-c", &config]), Exit::Clean);
    assert!(running.stop());
    assert_eq!(
        tidegate(&["healthcheck", "--admin", &admin]),
        Exit::Failure,
        "nobody is there"
    );
}

#[test]
fn the_zero_file_flags_make_a_proxy() {
    // Only as far as the socket: serving is the binary's test.
    let taken = start(GOOD);
    let listen = taken.listeners.first().unwrap().1.to_string();
    let arguments = [
        "--listen",
        &listen,
        "--admin",
        "127.0.0.1:0",
        "--upstream",
        "http://127.0.0.1:9",
        "--consistency",
        "eventual",
    ];
    assert_eq!(
        tidegate_must_end(&arguments),
        Exit::Failure,
        "the address is in use, so the rest was right"
    );
    assert!(Cli::try_parse_from(["tidegate", "--upstream", "http://127.0.0.1:9"]).is_ok());
}

fn start(text: &str) -> crate::app::Running {
    let loaded = from_text(text, "test.toml", Path::new(""), &World::real());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.errors));
    App::build(config, World::real()).unwrap().start().unwrap()
}
