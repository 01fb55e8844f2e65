//! A device against what its agent says of itself.
//!
//! Pure. An agent passes over an option that it does not know and does its work without it, so that a misspelt one would
//! be found out by the first real fence. What no agent needs to be asked for is in [`mod@super::traps`].

use policy::Reconnect;

use super::given::{Given, Remark, Spot, Table, no, present, yes};
use super::metadata::{Kind, Metadata, Parameter};

/// Given by the cluster, or refused wherever they stand.
const OTHERS: &[&str] = &["action", "delay", "help", "version"];
/// A name further away than this is another one.
const TYPING_ERRORS: usize = 3;

/// What is wrong with a device for that agent.
#[must_use]
pub fn check(given: &Given, agent: &Metadata) -> Vec<Remark> {
    let mut remarks: Vec<_> = abilities(given, agent).into_iter().collect();
    for (table, name, value) in given.all() {
        if OTHERS.contains(&name) {
            continue;
        }
        let Some(parameter) = agent.parameter(name) else {
            remarks.push(unknown(given, agent, table, name));
            continue;
        };
        if let Some(new) = agent.successor(&parameter.name).filter(|_| parameter.deprecated) {
            let message = format!("`{name}` is the old name of `{}`", new.name);
            let help = format!("write `{}`; a later {} may not know the old name", new.name, given.agent);
            remarks.push(Remark::warned(Spot::Name(table.clone(), name.to_owned()), message, help));
        }
        if let Some(value) = value {
            remarks.extend(valued(parameter, value, Spot::Value(table, name.to_owned())));
        }
    }
    for node in given.targets.keys() {
        remarks
            .extend(agent.parameters.iter().filter_map(|parameter| missing(given, agent, node, parameter)));
    }
    remarks
}

/// Whether the agent can do what is needed of it.
fn abilities(given: &Given, agent: &Metadata) -> Option<Remark> {
    let lacks = agent.lacks();
    if !lacks.is_empty() {
        let message = format!(
            "{} has no `{}`: only an `off` that a `status` confirms proves that a node is off",
            given.agent,
            lacks.join("` and no `")
        );
        return Some(Remark::refused(Spot::Agent, message, "use another; `convoke fence agents` lists them"));
    }
    // Of those that are known it is said without their metadata.
    let known = super::traps::known_to_isolate(&given.agent);
    let says = super::traps::says_that_it_isolates(agent)?;
    let word = if says == Reconnect::ByNode { "by-node" } else { "at-boot" };
    // All agents for ports and zones have `automatic` in their metadata, though nothing but a fence ever shuts those.
    let fits = match (given.isolates.as_deref(), known) {
        (None, Some(known)) => known == says || (known, says) == (Reconnect::AfterCut, Reconnect::AtBoot),
        (Some("after-cut"), Some(Reconnect::AfterCut)) => says == Reconnect::AtBoot,
        (given, _) => given == Some(word),
    };
    if fits {
        return known.is_none().then(|| super::traps::cuts_off(given));
    }
    let by = if says == Reconnect::ByNode { ", run there," } else { "" };
    let message = format!(
        "{} says that a node needs its `on`{by} in each boot: it cuts off, and switches no power",
        given.agent
    );
    Some(Remark::refused(Spot::Agent, message, format!("add `isolates = \"{word}\"` to the device")))
}

fn unknown(given: &Given, agent: &Metadata, table: Table, name: &str) -> Remark {
    let message = format!("{} has no option `{name}`", given.agent);
    let wanted = present(name);
    let near = agent.parameters.iter().filter(|parameter| !parameter.deprecated).map(|parameter| {
        (strsim::damerau_levenshtein(&present(&parameter.name), &wanted), parameter.name.as_str())
    });
    let near = near.min().filter(|(errors, _)| *errors <= TYPING_ERRORS.min(name.len() / 2));
    let help = match near {
        Some((_, near)) => {
            format!("`{near}` may be meant; `convoke fence describe {}` lists its options here", given.agent)
        }
        None => format!("`convoke fence describe {}` lists its options here", given.agent),
    };
    Remark::refused(Spot::Name(table, name.to_owned()), message, help)
}

/// Whether a value is one that the option takes.
fn valued(parameter: &Parameter, value: &str, spot: Spot) -> Option<Remark> {
    let name = &parameter.name;
    match &parameter.kind {
        Kind::String => None,
        Kind::Boolean if yes(value) => None,
        Kind::Boolean if no(value) => {
            // One with a default is always given, so that the agent looks at its value. Seen with `use_sudo=0`, which
            // used sudo; fence_redfish reads `ssl_insecure` in the same way.
            parameter.default.is_none().then(|| {
                let message =
                    format!("many agents take `{name}` for a yes as soon as it is given, whatever its value");
                Remark::warned(spot, message, "leave it out to switch it off")
            })
        }
        Kind::Boolean => {
            Some(Remark::refused(spot, format!("`{name}` is a yes or a no"), "write `\"1\"` or `\"0\"`"))
        }
        Kind::Integer | Kind::Second if value.trim().parse::<i64>().is_ok() => None,
        Kind::Integer => {
            Some(Remark::refused(spot, format!("`{name}` is a number"), "write digits only, as in `\"3\"`"))
        }
        Kind::Second => Some(Remark::refused(
            spot,
            format!("`{name}` is a number of seconds"),
            "write digits only, as in `\"20\"`",
        )),
        // As the agents' library compares them.
        Kind::Select(options) if options.iter().any(|option| option.eq_ignore_ascii_case(value)) => None,
        Kind::Select(options) => Some(Remark::refused(
            spot,
            format!("`{name}` cannot be `{value}`"),
            format!("it is one of {}", options.join(", ")),
        )),
    }
}

/// Whether a target's call lacks an option that the agent cannot do without.
fn missing(given: &Given, agent: &Metadata, node: &str, parameter: &Parameter) -> Option<Remark> {
    let name = parameter.name.as_str();
    let replaced = parameter.deprecated && agent.successor(name).is_some();
    let has_default = parameter.default.as_deref().is_some_and(|default| !default.is_empty());
    if !parameter.required || replaced || has_default || OTHERS.contains(&name) {
        return None;
    }
    let old = parameter.obsoletes.as_deref().map(present);
    if given.has(node, &present(name)) || old.is_some_and(|old| given.has(node, &old)) {
        return None;
    }
    let other = match present(name).as_str() {
        "ip" => {
            let plug_is_it = given.value(node, "port_as_ip").is_some_and(|(_, value)| yes(value));
            plug_is_it && given.has(node, "plug")
        }
        "password" => given.has(node, "password_script") || given.has(node, "identity_file"),
        "plug" => given.has(node, "uuid"),
        _ => false,
    };
    if other {
        return None;
    }
    let spot = Spot::Target(node.to_owned());
    let what = if parameter.short.is_empty() { String::new() } else { format!(" ({})", parameter.short) };
    let message = format!("{} wants `{name}`{what}, and nothing gives it for {node}", given.agent);
    Some(match present(name).as_str() {
        // Agents call it required also where the device has no outlets.
        "plug" => {
            Remark::warned(spot, message, format!("write `{node} = {{ {name} = \"...\" }}` in `targets`"))
        }
        "password" => Remark::refused(
            spot,
            message,
            format!(
                "write `secrets = {{ {name} = \"/etc/convoke/secrets/FILE\" }}`, a file that only root reads, or \
                     `\"credential:NAME\"`"
            ),
        ),
        _ => Remark::refused(
            spot,
            message,
            format!("write `{name} = \"...\"` into `options`, or into `targets` where it differs"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use units::Severity::{self, Error, Warning};

    use super::super::given::tests::given;
    use super::super::metadata::tests::{FABRIC, SWITCH};
    use super::*;

    fn found(line: &str, metadata: &str) -> Vec<(Severity, String, String)> {
        let agent = Metadata::parse(metadata).expect("good metadata");
        let remarks = check(&given(line), &agent).into_iter();
        remarks.map(|remark| (remark.severity, remark.message, remark.help)).collect()
    }

    #[test]
    fn each_option_is_held_against_the_agents_own_words() {
        // What a device needs, so that each line below is about its own words.
        let base = "fence_switch ip=a username=b secret:password n1:plug=1";
        for (words, remarks) in [
            ("", &[][..]),
            ("login-timeout=7 ipport=623 lanplus=yes method=ONOFF colour=blue", &[]),
            ("user=x", &[(Error, "no option `user`", "lists its options")]),
            ("log_timeout=7", &[(Error, "no option `log_timeout`", "`login_timeout` may be meant")]),
            ("n1:lanplsu=1", &[(Error, "no option `lanplsu`", "`lanplus` may be meant")]),
            ("secret:key", &[(Error, "no option `key`", "lists its options")]),
            ("n1:nodename=n1", &[(Error, "no option `nodename`", "describe fence_switch")]),
            ("lanplus=maybe", &[(Error, "`lanplus` is a yes or a no", "\"1\"")]),
            ("lanplus=", &[(Error, "`lanplus` is a yes or a no", "\"1\"")]),
            ("lanplus=0", &[]),
            ("ssl=0", &[]),
            ("port_as_ip=off", &[(Warning, "as soon as it is given", "leave it out")]),
            ("ipport=many", &[(Error, "`ipport` is a number", "digits")]),
            ("login_timeout=5s", &[(Error, "number of seconds", "digits")]),
            ("login_timeout=", &[(Error, "number of seconds", "digits")]),
            ("method=both", &[(Error, "cannot be `both`", "onoff, cycle")]),
            // Looked after elsewhere, once.
            ("delay=3 action=on help=1", &[]),
        ] {
            let found = found(&format!("{base} {words}"), SWITCH);
            assert_eq!(found.len(), remarks.len(), "{words}: {found:#?}");
            for ((severity, message, help), (wanted, in_message, in_help)) in found.iter().zip(remarks) {
                assert_eq!(severity, wanted, "{words}: {message}");
                assert!(message.contains(in_message), "{words}: {message}");
                assert!(help.contains(in_help), "{words}: {help}");
            }
        }
    }

    #[test]
    fn what_an_agent_cannot_do_without_is_wanted_for_each_target() {
        for (line, remarks) in [
            ("fence_switch ip=a secret:username secret:password n1:plug=1", &[][..]),
            (
                "fence_switch username=b secret:password n1:plug=1 n1:ip=a n2:plug=2",
                &[(Error, "`ip` (Address of the switch), and nothing gives it for n2")],
            ),
            ("fence_switch ip=a username=b n1:plug=1", &[(Error, "wants `password`")]),
            ("fence_switch ip=a username=b secret:password_script n1:plug=1", &[]),
            ("fence_switch ip=a username=b secret:password n1:", &[(Warning, "wants `plug`")]),
            ("fence_switch username=b port_as_ip=1 secret:password n1:plug=a", &[]),
            (
                "fence_switch username=b port_as_ip=0 secret:password n1:plug=a",
                &[(Warning, "as soon as"), (Error, "wants `ip`")],
            ),
            (
                "fence_switch ipaddr=a username=b secret:password n1:plug=1",
                &[(Warning, "`ipaddr` is the old name of `ip`")],
            ),
            ("fence_switch", &[]),
        ] {
            let found = found(line, SWITCH);
            assert_eq!(found.len(), remarks.len(), "{line}: {found:#?}");
            for ((severity, message, _), (wanted, words)) in found.iter().zip(remarks) {
                assert!(severity == wanted && message.contains(words), "{line}: {message}");
            }
        }
    }

    #[test]
    fn only_what_can_be_verified_is_evidence() {
        let found_of = |metadata: &str| found("fence_fabric devices=/dev/sda n1:", metadata);
        let [(Error, message, _)] = &found_of(FABRIC)[..] else { panic!("{:?}", found_of(FABRIC)) };
        assert!(message.starts_with("fence_fabric has no `status`"), "{message}");
        let with_status = FABRIC.replace("\"metadata\"", "\"status\"");
        let [(Error, message, help)] = &found_of(&with_status)[..] else {
            panic!("{:?}", found_of(&with_status))
        };
        assert!(message.contains("needs its `on`, run there, in each boot"), "{message}");
        assert_eq!(help, "add `isolates = \"by-node\"` to the device");
        let said = found("fence_fabric isolates=by-node devices=/dev/sda n1:", &with_status);
        let [(Warning, message, _)] = &said[..] else { panic!("{said:?}") };
        assert!(message.contains("cuts a node off and leaves it running"), "{message}");
        let port = with_status.replace(" on_target=\"1\"", "");
        assert!(found("fence_ifmib devices=/dev/sda n1:", &port).is_empty(), "as all of its kind say it");
        assert!(found("fence_ifmib isolates=at-boot devices=/dev/sda n1:", &port).is_empty());
        let scsi = found("fence_scsi isolates=after-cut devices=/dev/sda n1:", &with_status);
        assert!(matches!(&scsi[..], [(Error, _, _)]), "{scsi:?}");
        let other = found("fence_fabric isolates=after-cut devices=/dev/sda n1:", &with_status);
        assert!(matches!(&other[..], [(Error, _, _)]), "{other:?}");
    }
}
