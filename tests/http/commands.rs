//! The command line as a process: what the environment may say beside it, and readers that leave.

use super::support::origin::Origin;
use super::support::proxy::{Binary, config_file, one_route, run_with_variables};
use std::process::{Command, Stdio};

#[tokio::test]
async fn the_variable_of_the_admin_commands_is_no_contradiction_to_a_file() {
    let origin = Origin::start().await;
    let admin = [("TIDEGATE_ADMIN".to_owned(), "127.0.0.1:1".to_owned())];
    let mut tidegate = Binary::run_with(&one_route(""), &[("origin", &origin.url())], &admin);
    let (_, bound) = tidegate.ready();
    assert_ne!(bound.port(), 1, "the file says where");
}

#[tokio::test]
async fn what_stands_on_the_command_line_goes_before_the_environment() {
    let (_dir, bad) = config_file("nonsense = 1\n", &[]);
    let (_other, good) = config_file(&one_route(""), &[("origin", "http://127.0.0.1:1")]);
    type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)], i32);
    let cases: &[Case<'_>] = &[
        (
            "both on the command line",
            &["run", "-c", &good, "--upstream", "http://a:1"],
            &[],
            64,
        ),
        (
            "both in the environment",
            &["run"],
            &[("TIDEGATE_CONFIG", &good), ("TIDEGATE_UPSTREAM", "http://a:1")],
            64,
        ),
        (
            "a flag beside a file of the environment",
            &["run", "--listen", ":1"],
            &[("TIDEGATE_CONFIG", &good)],
            64,
        ),
        (
            "the file goes first",
            &["run", "-c", &bad],
            &[("TIDEGATE_UPSTREAM", "http://a:1")],
            78,
        ),
        (
            "the flags go first",
            &["run", "--upstream", "no url"],
            &[("TIDEGATE_CONFIG", &good)],
            78,
        ),
    ];
    for (name, arguments, variables, code) in cases {
        let ended = run_with_variables(arguments, variables).await;
        assert_eq!(ended.code, Some(*code), "{name}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_reader_that_has_left_is_no_failure() {
    let (_dir, path) = config_file(&one_route(""), &[("origin", "http://127.0.0.1:1")]);
    for arguments in [
        &["print-config", "-c", &path][..],
        &["check", "-c", &path],
        &["schema"],
        &["version"],
        &["explain", "GET", "/", "-c", &path],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped());
        let ended = command.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""), "{arguments:?}");
    }
}
