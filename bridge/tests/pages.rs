//! The manual page and the completions in `packaging/` are those of the command line as it is.
//!
//! `CONVOKE_WRITE_PAGES=1 cargo test -p bridge --test pages` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

const FRONT: &str = r#".SH EXAMPLES
.TP
.B convoke init \-\-name harbour
Make a cluster on its first machine; then \fBconvoke token\fR there and \fBconvoke join\fR \fITOKEN\fR on the others.
.TP
.B convoke status
What to look at first, always.
.TP
.B convoke why db
Why db.service is where it is, and what to type to release it.
.TP
.B convoke plan lose n1
Where everything on n1 would go if n1 fell silent, and what would wait and why. Changes nothing.
.TP
.B convoke plan define db
What would happen if all nodes had this machine's files of db.service, as they are on its disk. Changes nothing.
.TP
.B convoke check
Whether the definitions of all units fit each other and the nodes.
.TP
.B convoke move db n2
Move db.service to n2, and wait until it is active there.
.TP
.B convoke drain n1
Empty a node before its maintenance; \fBconvoke undrain n1\fR afterwards.
.TP
.B convoke drain \-\-cluster
Switch the whole site off in its order; \fBconvoke undrain \-\-cluster\fR switches it on.
"#;

const BACK: &str = r#".SH ENVIRONMENT
.TP
.B NO_COLOR
No colours, if set and not empty. There are none either where standard output is no terminal.
.TP
.B COLUMNS
Width of the output.
.SH FILES
.TP
.I /usr/share/doc/convoke/examples
Examples of the node's and the cluster's settings.
.SH SEE ALSO
.BR convoked (8),
.BR convoke.unit (5),
.BR convoke.toml (5),
.BR convoke\-config (5),
.BR systemctl (1)
"#;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

fn pages() -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    pages.insert("man/convoke.1".into(), manual());
    for (shell, name) in
        [(Shell::Bash, "convoke.bash"), (Shell::Zsh, "_convoke"), (Shell::Fish, "convoke.fish")]
    {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut bridge::cli::command(), "convoke", &mut text);
        pages.insert(Path::new("completions").join(name), String::from_utf8(text).expect("UTF-8"));
    }
    pages
}

/// One page with all commands, as systemctl's: nobody looks for thirty.
fn manual() -> String {
    let mut command = bridge::cli::command().disable_help_subcommand(true);
    command.build();
    let exit_codes = command.find_subcommand("exit-codes").and_then(Command::get_long_about);
    let exit_codes = exit_codes.expect("the table of exit codes").to_string();
    let man = Man::new(command.clone()).section("1").manual("User Commands").date("").source("Convoke");
    let mut out = Vec::new();
    man.render_title(&mut out).expect("title");
    man.render_name_section(&mut out).expect("name");
    man.render_synopsis_section(&mut out).expect("synopsis");
    man.render_description_section(&mut out).expect("description");
    let mut text = String::from_utf8(out).expect("UTF-8");
    text.push_str(FRONT);
    text.push_str(".SH COMMANDS\n");
    for verb in command.get_subcommands() {
        verb_section(&mut text, verb, "convoke");
    }
    text.push_str(".SH \"EXIT STATUS\"\n.EX\n");
    text.push_str(&exit_codes.replace('\\', "\\e").replace('-', "\\-"));
    text.push_str("\n.EE\n");
    text.push_str(BACK);
    text
}

fn verb_section(text: &mut String, verb: &Command, parent: &str) {
    if verb.is_hide_set() {
        return;
    }
    let name = format!("{parent} {}", verb.get_name());
    let subverbs: Vec<_> = verb.get_subcommands().filter(|verb| verb.get_name() != "help").collect();
    if subverbs.is_empty() {
        let usage = verb.clone().bin_name(&name).render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('-', "\\-");
        text.push_str(&format!(".SS \"{usage}\"\n"));
        let about = verb.get_long_about().or(verb.get_about()).map(ToString::to_string).unwrap_or_default();
        // Of several sentences the last has its full stop already.
        text.push_str(&about.trim_end_matches('.').replace('-', "\\-").replace("\n\n", "\n.PP\n"));
        text.push_str(".\n");
        let mut options = Vec::new();
        let bare = verb.clone().mut_arg("help", |help| help.hide(true));
        Man::new(bare).render_options_section(&mut options).expect("options");
        let options = String::from_utf8(options).expect("UTF-8");
        text.extend(options.lines().filter(|line| !line.starts_with(".SH")).map(|line| format!("{line}\n")));
    }
    for subverb in subverbs {
        verb_section(text, subverb, &name);
    }
}

#[test]
fn pages_are_fresh() {
    let write = std::env::var_os("CONVOKE_WRITE_PAGES").is_some();
    for (path, text) in pages() {
        let path = packaging().join(path);
        if write {
            fs::write(&path, &text).expect("written");
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == text,
            "{} is stale: run `CONVOKE_WRITE_PAGES=1 cargo test -p bridge --test pages`",
            path.display()
        );
    }
}

#[test]
fn every_kind_of_journal_line_is_in_the_catalog() {
    let catalog = fs::read_to_string(packaging().join("systemd/convoke.catalog")).expect("the catalog");
    for kind in units::systemd::journal::Kind::ALL {
        assert!(catalog.contains(&format!("\n-- {}\n", kind.id())), "{kind:?}");
    }
}

#[test]
fn the_gate_is_the_one_that_was_tried() {
    let gate = fs::read_to_string(packaging().join("systemd/convoke-gate@.service")).expect("the gate");
    let expected = "\
[Unit]
Description=Cluster permission to start %i
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
StartLimitIntervalSec=0
CollectMode=inactive-or-failed
ConditionPathExists=!/run/convoke/permits/%i
[Service]
Type=oneshot
ExecStart=-/usr/bin/convoke gate %i
TimeoutStartSec=60
";
    assert_eq!(gate, expected);
}

#[test]
fn the_daemons_unit_keeps_what_units_rest_on() {
    let unit = fs::read_to_string(packaging().join("systemd/convoked.service")).expect("the unit");
    // gate.md rows 52 and 54, and the safety rules F8 and F30.
    for line in [
        "RuntimeDirectory=convoke",
        "RuntimeDirectoryPreserve=yes",
        "IgnoreOnIsolate=yes",
        "After=dbus.service network.target",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "StateDirectoryMode=0700",
        "Type=notify",
    ] {
        assert!(unit.lines().any(|present| present == line), "{line}");
    }
    assert!(!unit.contains("DefaultDependencies=no"));
}

#[test]
fn the_example_of_the_clusters_settings_can_be_applied() {
    let text = fs::read_to_string(packaging().join("examples/cluster.toml")).expect("the example");
    let nodes = ["n1", "n2", "n3"].iter().zip(1..).map(|(name, id)| ((*name).to_owned(), policy::NodeId(id)));
    let document = bridge::api::document::parse(&text, "cluster.toml".as_ref(), &nodes.collect());
    let document =
        document.unwrap_or_else(|findings| panic!("{}", bridge::api::document::listing(&findings)));
    assert!(document.warnings.is_empty());
}
