//! What is wrong with any agent.

use super::super::given::{Given, Remark, Spot, Table, present, yes};

/// Options that are as good as a password.
const SECRETS: &[&str] = &["access_key", "apikey", "community", "hexadecimal_kg", "secret_key", "token"];

/// The checks that hold for all.
pub(super) const ALWAYS: &[fn(&Given) -> Vec<Remark>] =
    &[no_work, cycle, endless, delay, missing_as_off, talkative, open_secret, two_spellings];

/// Agents print their help or their version and exit with 0 before they do anything, whatever the value is.
fn no_work(given: &Given) -> Vec<Remark> {
    let remark = |(table, name, _): (_, &str, _)| {
        let message =
            format!("with `{name}` the agent says success, does nothing, and its status always says on");
        Remark::refused(Spot::Name(table, name.to_owned()), message, "leave it out")
    };
    given.named(&["help", "version"]).map(remark).collect()
}

fn cycle(given: &Given) -> Vec<Remark> {
    let cycles = given
        .named(&["method"])
        .filter(|(.., value)| value.is_some_and(|value| value.eq_ignore_ascii_case("cycle")));
    let remark = |(table, name, _): (_, &str, _)| {
        let help = "leave `method` out: the cluster switches off and then looks whether it is off";
        Remark::refused(
            Spot::Value(table, name.to_owned()),
            "`method = \"cycle\"` never proves that a node is off",
            help,
        )
    };
    cycles.map(remark).collect()
}

/// Without its own timeouts an agent is killed in the midst of its work, and what it had sent may strike later.
fn endless(given: &Given) -> Vec<Remark> {
    let without = given.named(&["disable_timeout"]).filter(|(.., value)| value.is_none_or(yes));
    let remark = |(table, name, _): (_, &str, _)| {
        let message =
            "with `disable_timeout` the agent does not end by itself, and is killed in the midst of its work";
        Remark::refused(
            Spot::Value(table, name.to_owned()),
            message,
            "leave it out; `power_timeout` is how long it tries",
        )
    };
    without.map(remark).collect()
}

fn delay(given: &Given) -> Vec<Remark> {
    let remark = |(table, name, _): (_, &str, _)| {
        let message =
            "`delay` makes the agent sleep within its deadline; when to fence is the cluster's affair";
        let help = "leave it out; if the device is to wait, write `delay = \"5s\"` beside `agent`, not among the options";
        Remark::refused(Spot::Name(table, name.to_owned()), message, help)
    };
    given.named(&["delay"]).map(remark).collect()
}

/// The same lie as an SNMP outlet that does not exist: a name with a typing error reads as off.
fn missing_as_off(given: &Given) -> Vec<Remark> {
    let remark = |(table, name, _): (_, &str, _)| {
        let message = "with `missing_as_off` a node that the device does not know reads as off, and is taken for fenced";
        Remark::refused(Spot::Value(table, name.to_owned()), message, "leave it out")
    };
    let given = given.named(&["missing_as_off"]).filter(|(.., value)| value.is_none_or(yes));
    given.map(remark).collect()
}

/// What agents write then has passwords in it, and goes to the journal or to a file.
fn talkative(given: &Given) -> Vec<Remark> {
    let talks =
        given.named(&["verbose", "verbose_level", "debug", "debug_file"]).filter(|(_, name, value)| {
            let of_file = name.starts_with("debug");
            of_file
                || value.is_none_or(|value| yes(value) || value.parse::<u32>().is_ok_and(|level| level > 0))
        });
    let remark = |(table, name, _): (_, &str, _)| {
        let message =
            format!("with `{name}` the agent writes down its helpers' commands, passwords among them");
        Remark::warned(
            Spot::Name(table, name.to_owned()),
            message,
            "leave it out, and try the agent by hand to look closer",
        )
    };
    talks.map(remark).collect()
}

fn open_secret(given: &Given) -> Vec<Remark> {
    let open = given.named(SECRETS).filter(|(.., value)| value.is_some());
    let remark = |(table, name, _): (_, &str, _)| {
        let message =
            format!("`{name}` is as good as a password, and would be readable in the log of the cluster");
        let help = format!(
            "write `secrets = {{ {name} = \"/etc/convoke/secrets/FILE\" }}`, a file that only root reads, or \
                     `\"credential:NAME\"`"
        );
        Remark::warned(Spot::Name(table, name.to_owned()), message, help)
    };
    open.map(remark).collect()
}

/// An agent takes the last line that it reads: which one that is, nobody should have to know. A target's own option in place
/// of the one for all is meant; a secret in place of either is not.
fn two_spellings(given: &Given) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let all: Vec<_> = given.all().collect();
    for (at, (table, name, _)) in all.iter().enumerate() {
        let earlier = all[..at].iter().find(|(other, before, _)| {
            let one_call = other == table || !other.is_target() || !table.is_target();
            let meant = before == name && *other != Table::Secrets && *table != Table::Secrets;
            one_call && !meant && present(before) == present(name)
        });
        if let Some((_, before, _)) = earlier {
            let message = match before == name {
                true => format!("`{name}` is given twice, once as a secret"),
                false => format!("`{before}` and `{name}` are the same option"),
            };
            let help = format!("keep `{}` alone, in one place", present(name));
            remarks.push(Remark::refused(Spot::Name(table.clone(), (*name).to_owned()), message, help));
        }
    }
    remarks
}
