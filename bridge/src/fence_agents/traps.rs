//! Configurations that are known to lie or to fail, each with its reason.
//!
//! One table: what `convoke fence describe` tells of an agent, and what is refused or warned about when a device is
//! configured. No agent is asked for this. Numbers were measured with Debian 12's fence-agents 4.12.1, ipmitool 1.8.19
//! and net-snmp 5.9.3.

use policy::Reconnect;

use super::given::{Given, Remark, Spot, Table, present, yes};
use super::installed::OTHERS;
use super::metadata::Metadata;

/// A thing to know of some agents.
struct Trap {
    /// Whether it is about the agent of that name.
    about: fn(&str) -> bool,
    /// In words.
    note: &'static str,
    /// What of it can be seen in a configuration.
    check: Option<fn(&Given) -> Vec<Remark>>,
}

/// `fence_ipmilan` under all its names, and whether it speaks IPMI 2.0 without being told to.
const IPMI: &[(&str, bool)] = &[
    ("fence_ipmilan", false),
    ("fence_idrac", false),
    ("fence_imm", false),
    ("fence_ilo3", true),
    ("fence_ilo4", true),
    ("fence_ilo5", true),
    ("fence_ipmilanplus", true),
];

/// Agents that read an outlet's state by SNMP under its number, and take anything but the number for "on" as off.
struct Snmp {
    agent: &'static str,
    /// What it speaks if nothing is said; none: that depends on the rest, and is never 1.
    version: Option<&'static str>,
    /// Whether it looks an outlet's name up.
    takes_names: bool,
}

const SNMP: &[Snmp] = &[
    Snmp { agent: "fence_apc_snmp", version: Some("1"), takes_names: true },
    Snmp { agent: "fence_tripplite_snmp", version: Some("1"), takes_names: true },
    Snmp { agent: "fence_eaton_snmp", version: Some("1"), takes_names: true },
    Snmp { agent: "fence_ibmblade", version: Some("1"), takes_names: false },
    Snmp { agent: "fence_ifmib", version: Some("2c"), takes_names: true },
    Snmp { agent: "fence_ipdu", version: Some("3"), takes_names: true },
    Snmp { agent: "fence_emerson", version: None, takes_names: false },
    Snmp { agent: "fence_intelmodular", version: None, takes_names: false },
];

/// Agents that cut a node off from its disks or its network, and how their nodes are let in again. Those of SCSI keys have each
/// node register itself (`on_target` in their metadata).
const CUTTERS: &[(&str, Reconnect)] = &[
    ("fence_brocade", Reconnect::AfterCut),
    ("fence_cisco_mds", Reconnect::AfterCut),
    ("fence_ifmib", Reconnect::AfterCut),
    ("fence_mpath", Reconnect::ByNode),
    ("fence_sanbox2", Reconnect::AfterCut),
    ("fence_scsi", Reconnect::ByNode),
];

/// Agents whose word on a node's power is none, and why.
const PRETENDERS: &[(&str, &str)] = &[
    (
        "fence_crosslink",
        "its `off` and its `status` are a ping, so that a broken cable reads as a node that is off",
    ),
    ("fence_evacuate", "its `status` is what a scheduler has written down of the machine, and not its power"),
    ("fence_heuristics_ping", "it has no `status`, and pings others"),
    ("fence_kdump", "it has no `status`, and waits for a message of a crashed node"),
];

/// Options that are as good as a password.
const SECRETS: &[&str] = &["access_key", "apikey", "community", "hexadecimal_kg", "secret_key", "token"];

const TRAPS: &[Trap] = &[
    Trap {
        about: is_ipmi,
        note: "Give `lanplus = \"1\"` unless that is its default: without it the agent speaks IPMI 1.5, which most machines \
               refuse.",
        check: Some(lanplus),
    },
    Trap {
        about: is_ipmi,
        note: "Give `cipher = \"3\"` or `\"17\"`, whichever the machine's BMC allows: without it ipmitool first asks for the \
               suites, which costs 10 s a command where the BMC does not answer that.",
        check: Some(cipher),
    },
    Trap {
        about: is_ipmi,
        note: "A BMC that has lost its power together with its node is given up after 20 s; with `power_timeout = \"5\"` \
               after 5 s. A wrong password reads like a wrong address: `Unable to obtain correct plug status`.",
        check: None,
    },
    Trap {
        about: is_ipmi,
        note: "`off` takes 2.3 s, for `power_wait` is 2 by default; with `power_wait = \"0\"` it takes 0.2 s.",
        check: None,
    },
    Trap {
        about: |agent| agent == "fence_redfish",
        note: "Give each target its `systems_uri`: without it the last system behind the controller is switched off, \
               which may be another node's, and the agent reports success.",
        check: Some(systems_uri),
    },
    Trap {
        about: |agent| agent == "fence_redfish",
        note: "It waits for ever for a controller that does not answer; only the device's `timeout` ends it. A self-signed \
               certificate needs `ssl_insecure = \"1\"`. A wrong password reads like a wrong `systems_uri`: `Unable to get PowerState`.",
        check: None,
    },
    Trap {
        about: |agent| snmp(agent).is_some(),
        note: "With SNMP 2c or 3 an outlet number that does not exist reads as off, and `off` of it succeeds at once. With \
               `snmp_version = \"1\"` it is an error; so is a wrong name, where the agent takes names of outlets.",
        check: Some(snmp_numbers),
    },
    Trap {
        about: |agent| snmp(agent).is_some(),
        note: "A wrong community, or no device at the address, takes 6 s to fail.",
        check: None,
    },
    Trap {
        about: |agent| agent == "fence_sbd",
        note: "`off` writes a message, waits, and reports success; nobody looks at the node. It proves nothing unless \
               the node runs sbd with a watchdog.",
        check: Some(|_| {
            let message = "fence_sbd reports success without having seen the node: all rests on sbd and its watchdog there";
            vec![Remark::warned(
                Spot::Agent,
                message,
                "make sure that sbd runs with a watchdog on each target, or use a power switch",
            )]
        }),
    },
    Trap {
        about: |agent| pretends(agent).is_some(),
        note: "It switches nothing off, whatever it says.",
        check: Some(no_proof),
    },
    Trap {
        about: |agent| OTHERS.contains(&agent),
        note: "It is named like an agent, and is none.",
        check: Some(|given| {
            let message = format!("{} is named like a fence agent, and is none", given.agent);
            let help = "`convoke fence agents` lists the agents; a person's word needs none: `convoke fence confirm NODE`";
            vec![Remark::refused(Spot::Agent, message, help)]
        }),
    },
    Trap {
        about: |agent| agent == "fence_dummy",
        note: "It is for tests: it writes a file, and switches nothing off.",
        check: Some(|_| {
            let message = "fence_dummy switches nothing off and says that it has: units will run twice";
            vec![Remark::warned(Spot::Agent, message, "never use it in production")]
        }),
    },
    Trap {
        about: |agent| matches!(agent, "fence_scsi" | "fence_mpath"),
        note: "It cuts a node off from disks with persistent reservations; the node lives on, and may still read them. Only \
               units with `Fencing=isolated` take that. Each node registers itself in each boot, before they start there.",
        check: Some(|given| vec![cuts_off(given)]),
    },
    Trap {
        about: |agent| matches!(agent, "fence_ifmib" | "fence_brocade" | "fence_cisco_mds" | "fence_sanbox2"),
        note: "It shuts a port of a switch; the node lives on behind it. Only units with `Fencing=isolated` take that. The port \
               is opened when the node has booted, is proven off, or is confirmed.",
        check: Some(|given| vec![cuts_off(given)]),
    },
    Trap {
        about: |agent| agent == "fence_powerman",
        note: "Without its daemon it hangs for more than 60 s; only the device's `timeout` ends it.",
        check: None,
    },
    Trap {
        about: |agent| matches!(agent, "fence_virt" | "fence_xvm"),
        note: "Every machine that has the key can switch off every guest.",
        check: None,
    },
];

/// What is wrong with any agent.
const ALWAYS: &[fn(&Given) -> Vec<Remark>] =
    &[no_work, cycle, endless, delay, missing_as_off, talkative, open_secret, two_spellings];

/// What is known of an agent, in sentences.
#[must_use]
pub fn notes(agent: &str) -> Vec<&'static str> {
    TRAPS.iter().filter(|trap| (trap.about)(agent)).map(|trap| trap.note).collect()
}

/// What in a device is known to lie or to fail.
#[must_use]
pub fn traps(given: &Given) -> Vec<Remark> {
    let its = TRAPS.iter().filter(|trap| (trap.about)(&given.agent)).filter_map(|trap| trap.check);
    its.chain(ALWAYS.iter().copied()).flat_map(|check| check(given)).collect()
}

fn is_ipmi(agent: &str) -> bool {
    IPMI.iter().any(|(name, _)| *name == agent)
}

fn snmp(agent: &str) -> Option<&'static Snmp> {
    SNMP.iter().find(|snmp| snmp.agent == agent)
}

fn lanplus(given: &Given) -> Vec<Remark> {
    let default = IPMI.contains(&(given.agent.as_str(), true));
    let old = |node: &String| !given.value(node, "lanplus").map_or(default, |(_, value)| yes(value));
    if !given.targets.keys().any(old) {
        return Vec::new();
    }
    let help = "add `lanplus = \"1\"` to `options`: IPMI 2.0, which nearly every machine wants";
    vec![Remark::warned(Spot::Device, format!("{} without `lanplus` speaks IPMI 1.5", given.agent), help)]
}

fn cipher(given: &Given) -> Vec<Remark> {
    if given.targets.keys().all(|node| given.has(node, "cipher")) {
        return Vec::new();
    }
    let message =
        format!("{} without `cipher` depends on the version of ipmitool, and may be slow", given.agent);
    let help = "add `cipher = \"3\"` or `\"17\"` to `options`, whichever the machine's BMC allows";
    vec![Remark::warned(Spot::Device, message, help)]
}

fn systems_uri(given: &Given) -> Vec<Remark> {
    let without = given
        .targets
        .keys()
        .filter(|node| given.value(node, "systems_uri").is_none_or(|(_, uri)| uri.trim().is_empty()));
    let remark = |node: &String| {
        let message = "fence_redfish without `systems_uri` may switch off another system, and report success";
        let help = format!(
            "write `{node} = {{ systems_uri = \"/redfish/v1/Systems/ID\" }}`; the controller lists them at /redfish/v1/Systems"
        );
        Remark::refused(Spot::Target(node.clone()), message, help)
    };
    without.map(remark).collect()
}

fn snmp_numbers(given: &Given) -> Vec<Remark> {
    let Some(snmp) = snmp(&given.agent) else { return Vec::new() };
    let mut remarks = Vec::new();
    for node in given.targets.keys() {
        let version = given.value(node, "snmp_version").map(|(_, version)| version).or(snmp.version);
        let Some((spot, plug)) = given.value(node, "plug").filter(|_| version != Some("1")) else { continue };
        // Several outlets of one feed: `2,3`.
        let number = |plug: &str| !plug.is_empty() && plug.bytes().all(|byte| byte.is_ascii_digit());
        if !plug.split(',').any(|plug| number(plug.trim())) {
            continue;
        }
        let message = format!(
            "with SNMP {}, {} reads a number that does not exist as off, and takes it for fenced",
            version.unwrap_or("2c or 3"),
            given.agent
        );
        let help = if snmp.takes_names {
            "give the name instead of its number, or `snmp_version = \"1\"`"
        } else {
            "give `snmp_version = \"1\"` if the device allows it, and switch the node off once by hand to see that the number is right"
        };
        remarks.push(Remark::warned(spot, message, help));
    }
    remarks
}

/// A node without its disks or its network runs on, and may hold what needs neither, a service address for one (F4).
pub(super) fn cuts_off(given: &Given) -> Remark {
    let message = format!(
        "{} cuts a node off and leaves it running: only units with `Fencing=isolated` take that for a proof",
        given.agent
    );
    let help = "all that such a unit shares with others must lie behind what is cut; others need a power switch, on a level of \
                its own";
    Remark::warned(Spot::Agent, message, help)
}

/// How an agent that is known to cut nodes off only lets them in again.
#[must_use]
pub fn known_to_isolate(agent: &str) -> Option<Reconnect> {
    CUTTERS.iter().find(|(name, _)| *name == agent).map(|(_, how)| *how)
}

/// What its own metadata say of that: nodes need its `on` in each boot.
#[must_use]
pub fn says_that_it_isolates(metadata: &Metadata) -> Option<Reconnect> {
    let on = metadata.action("on")?;
    match (on.on_target, on.automatic) {
        (true, _) => Some(Reconnect::ByNode),
        (false, true) => Some(Reconnect::AtBoot),
        (false, false) => None,
    }
}

fn pretends(agent: &str) -> Option<&'static str> {
    PRETENDERS.iter().find(|(name, _)| *name == agent).map(|(_, why)| *why)
}

fn no_proof(given: &Given) -> Vec<Remark> {
    let why = pretends(&given.agent).unwrap_or("it has no `status`");
    let message = format!("{} never proves that a node is off: {why}", given.agent);
    vec![Remark::refused(Spot::Agent, message, "use a power switch; `convoke fence agents` lists the agents")]
}

/// Why no device may use an agent at all; in words that follow its name.
#[must_use]
pub fn useless(agent: &str, metadata: &Metadata) -> Option<String> {
    let lacks = metadata.lacks();
    if !lacks.is_empty() {
        return Some(format!("it cannot prove a node off: it has no `{}`", lacks.join("` and no `")));
    }
    pretends(agent).map(|why| format!("it cannot prove a node off: {why}"))
}

/// Whether an agent cuts nodes off, and switches no power.
#[must_use]
pub fn isolates(agent: &str, metadata: &Metadata) -> bool {
    known_to_isolate(agent).is_some() || says_that_it_isolates(metadata).is_some()
}

/// Whether an agent can prove that a node is off.
#[must_use]
pub fn proves_off(agent: &str, metadata: &Metadata) -> bool {
    useless(agent, metadata).is_none() && !isolates(agent, metadata)
}

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
            "write `secrets = {{ {name} = \"/etc/convoke/secrets/FILE\" }}`, a file that only root reads"
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

#[cfg(test)]
mod tests {
    use units::Severity::{Error, Warning};

    use super::super::given::tests::given;
    use super::*;

    #[test]
    fn each_trap_is_seen_where_it_is_and_nowhere_else() {
        for (line, found) in [
            ("fence_ipmilan lanplus=1 cipher=3 n1:ip=a", &[][..]),
            ("fence_ipmilan cipher=3 n1:ip=a", &[(Warning, "IPMI 1.5")]),
            ("fence_ipmilan lanplus=0 cipher=3 n1:ip=a", &[(Warning, "IPMI 1.5")]),
            ("fence_ipmilan cipher=3 n1:lanplus=yes n2:lanplus=off", &[(Warning, "IPMI 1.5")]),
            ("fence_ilo4 cipher=3 n1:ip=a", &[]),
            ("fence_ilo4 lanplus=0 cipher=3 n1:ip=a", &[(Warning, "IPMI 1.5")]),
            ("fence_ipmilan lanplus=1 n1:ip=a", &[(Warning, "without `cipher`")]),
            ("fence_ipmilan lanplus=1 n1:cipher=3 n2:", &[(Warning, "without `cipher`")]),
            ("fence_redfish n1:systems_uri=/redfish/v1/Systems/1", &[]),
            ("fence_redfish systems-uri=/redfish/v1/Systems/1 n1:ip=a n2:ip=b", &[]),
            ("fence_redfish n1:ip=a", &[(Error, "may switch off another system")]),
            ("fence_redfish n1:systems_uri=", &[(Error, "may switch off another system")]),
            ("fence_redfish n1:systems_uri=/a n2:ip=b", &[(Error, "may switch off another system")]),
            ("fence_apc_snmp ip=a n1:plug=3", &[]),
            ("fence_apc_snmp snmp_version=2c n1:plug=3", &[(Warning, "with SNMP 2c")]),
            ("fence_apc_snmp snmp_version=3 n1:plug=db,3 n2:plug=web", &[(Warning, "with SNMP 3")]),
            ("fence_apc_snmp n1:plug=3 n2:plug=4 n2:snmp_version=2c", &[(Warning, "with SNMP 2c")]),
            ("fence_apc_snmp snmp-version=2c n1:port=db1", &[]),
            ("fence_ifmib snmp_version=1 n1:port=9", &[(Warning, "cuts a node off and leaves it running")]),
            ("fence_ifmib n1:port=9", &[(Warning, "with SNMP 2c"), (Warning, "cuts a node off")]),
            ("fence_ifmib n1:port=vb-n1", &[(Warning, "cuts a node off and leaves it running")]),
            ("fence_scsi devices=/dev/sda n1:", &[(Warning, "only units with `Fencing=isolated`")]),
            ("fence_x isolates=after-cut n1:", &[]),
            ("fence_ipdu n1:plug=1", &[(Warning, "with SNMP 3")]),
            ("fence_emerson n1:plug=1", &[(Warning, "with SNMP 2c or 3")]),
            ("fence_emerson snmp_version=1 n1:plug=1", &[]),
            ("fence_sbd devices=/dev/sdb n1:plug=n1", &[(Warning, "without having seen the node")]),
            ("fence_kdump n1:nodename=n1", &[(Error, "has no `status`")]),
            ("fence_heuristics_ping ping_targets=a n1:", &[(Error, "has no `status`")]),
            ("fence_ack_manual n1:", &[(Error, "is named like a fence agent")]),
            ("fence_dummy n1:", &[(Warning, "switches nothing off")]),
            ("fence_x help=0 n1:", &[(Error, "says success, does nothing")]),
            ("fence_x secret:version n1:", &[(Error, "says success, does nothing")]),
            ("fence_x method=onoff n1:", &[]),
            ("fence_x method=cycle n1:", &[(Error, "never proves")]),
            ("fence_x n1:method=CYCLE", &[(Error, "never proves")]),
            ("fence_x disable_timeout=0 n1:", &[]),
            ("fence_x disable-timeout=True n1:", &[(Error, "does not end by itself")]),
            ("fence_x secret:disable_timeout n1:", &[(Error, "does not end by itself")]),
            ("fence_x delay=0 n1:", &[(Error, "cluster's affair")]),
            ("fence_x n1:delay=3", &[(Error, "cluster's affair")]),
            ("fence_x secret:delay n1:", &[(Error, "cluster's affair")]),
            ("fence_x missing-as-off=1 n1:", &[(Error, "taken for fenced")]),
            ("fence_x missing_as_off=0 n1:", &[]),
            ("fence_x ip=a secret:ip n1:", &[(Error, "`ip` is given twice")]),
            ("fence_x secret:systems_uri n1:systems-uri=/a", &[(Error, "are the same")]),
            ("fence_crosslink crosscableip=a n1:", &[(Error, "a broken cable reads as a node that is off")]),
            ("fence_evacuate n1:", &[(Error, "never proves that a node is off")]),
            ("fence_x verbose=0 verbose_level=0 n1:", &[]),
            ("fence_x n1:verbose=yes", &[(Warning, "passwords among them")]),
            ("fence_x verbose_level=2 n1:", &[(Warning, "passwords among them")]),
            ("fence_x debug-file=/tmp/x n1:", &[(Warning, "passwords among them")]),
            ("fence_x secret:community n1:", &[]),
            ("fence_x community=public n1:", &[(Warning, "as good as a password")]),
            ("fence_x ip=a n1:ip=b n2:ip=c", &[]),
            ("fence_x ip=a n1:ipaddr=b", &[(Error, "`ip` and `ipaddr` are the same")]),
            ("fence_x n1:plug=a n2:port=b", &[]),
            ("fence_x n1:plug=a n1:port=b", &[(Error, "`plug` and `port` are the same")]),
            ("fence_x login-timeout=1 login_timeout=2 n1:", &[(Error, "are the same")]),
        ] {
            let remarks = traps(&given(line));
            assert_eq!(remarks.len(), found.len(), "{line}: {remarks:#?}");
            for (remark, (severity, message)) in remarks.iter().zip(found) {
                assert_eq!(remark.severity, *severity, "{line}: {remark:?}");
                assert!(remark.message.contains(message), "{line}: {remark:?}");
                assert!(!remark.help.is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn a_trap_is_shown_where_it_was_written() {
        let spot = |line| traps(&given(line)).pop().expect("a trap").spot;
        let target = || Table::Target("n2".to_owned());
        assert_eq!(spot("fence_ipdu n1:plug=a n2:port=9"), Spot::Value(target(), "port".to_owned()));
        assert_eq!(spot("fence_redfish n1:systems_uri=/a n2:ip=b"), Spot::Target("n2".to_owned()));
        assert_eq!(spot("fence_x n1: n2:delay=3"), Spot::Name(target(), "delay".to_owned()));
        assert_eq!(spot("fence_dummy n1:"), Spot::Agent);
        assert_eq!(spot("fence_ipmilan lanplus=1 n1:"), Spot::Device);
    }

    #[test]
    fn an_agents_notes_are_its_own() {
        assert_eq!(notes("fence_ilo5").len(), 4);
        assert!(notes("fence_redfish").iter().all(|note| !note.contains("SNMP")));
        assert!(notes("fence_x").is_empty());
    }
}
