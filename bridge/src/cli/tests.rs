use clap::error::ErrorKind;

use super::*;

fn parse(words: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("convoke").chain(words.split_whitespace()))
}

#[test]
fn the_words_are_consistent() {
    command().debug_assert();
}

#[test]
fn operators_may_type_these() {
    for words in [
        "init --name harbour --node n1 --address 10.0.0.1 --port 7000",
        "init",
        "token --valid 30min",
        "join convoke1:abc --name n2 --address 10.0.0.2 --address fd00::2 --role witness",
        "status",
        "status n1 --json",
        "list-units --json",
        "list-nodes",
        "start db web --on n1",
        "start db --json --timeout infinity",
        "--json stop db --timeout 1.5s",
        "config diff - --json",
        "fence --json",
        "stop db --no-wait",
        "move db n2 --from n1 --timeout 5s",
        "move db",
        "drain n1",
        "drain n1 --no-wait",
        "drain --cluster --timeout 2h",
        "undrain n1",
        "undrain --cluster --no-wait",
        "plan drain --cluster",
        "plan undrain n1",
        "plan adopt db --from n1",
        "plan define db --json",
        "why db --json",
        "fence",
        "fence list --json",
        "fence confirm n1 --yes-i-have-verified-it-is-off",
        "fence history",
        "fence history n2 --device bmc-n2 --json",
        "fence test n2",
        "fence test n2 --level 2 --yes --timeout 5min",
        "fence test n2 --no-wait",
        "fence cancel n2",
        "fence why n2 --json",
        "fence agents --json",
        "fence describe fence_ipmilan",
        "events -n 5 -f -u db --node n1 --json",
        "history",
        "leave n1",
        "forget db",
        "forget db web.service",
        "adopt db --from n1",
        "enable-recipe",
        "enable-recipe galera",
        "adopt db --from n1 --yes",
        "assemble db --without n3",
        "assemble db --from n1 --yes --timeout 20min",
        "assemble db --resync n3 --no-wait",
        "reset-failed db --node n1",
        "config show --json",
        "config diff -",
        "config apply cluster.toml",
        "verify",
        "verify db --json",
        "gate db.service",
        "version",
        "exit-codes",
    ] {
        parse(words).unwrap_or_else(|error| panic!("{words}: {error}"));
    }
}

#[test]
fn wrong_words_end_with_the_code_for_usage() {
    for words in [
        "",
        "start",
        "move",
        "frobnicate",
        "drain",
        "drain --cluster n1",
        "undrain n1 --timeout 5s",
        "start db --timeout soon",
        "token --valid 8d",
        "token --valid 0s",
        "init --address host.example",
        "init --port 0",
        "init --name a/b",
        "join",
        "adopt db",
        "plan adopt db",
        "plan define",
        "plan define db web",
        "forget",
        "fence describe",
        "fence test",
        "fence test n2 --level 0",
        "fence cancel",
        "fence why",
        "assemble db",
        "assemble --from n1",
        "assemble db --from n1 --without n3",
        "assemble db --without",
    ] {
        let error = parse(words).expect_err(words);
        assert_eq!(error.exit_code(), Code::Usage as i32, "{words}: {error}");
    }
}

#[test]
fn help_is_no_failure_and_shows_the_exit_codes() {
    for words in ["--help", "help", "help exit-codes", "--version"] {
        let error = parse(words).expect_err(words);
        assert_eq!(error.exit_code(), 0, "{words}");
        assert!(matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{words}");
        if words == "help exit-codes" {
            assert!(error.to_string().contains("\n  3  no quorum"), "{error}");
        }
    }
}

#[test]
fn a_variable_that_is_empty_drains_nothing() {
    for words in [["drain", ""], ["undrain", ""]] {
        let error = Cli::try_parse_from(["convoke"].iter().chain(&words)).expect_err("no name");
        assert_eq!(error.exit_code(), Code::Usage as i32, "{words:?}: {error}");
    }
}
