//! Which of the plugs that a device lists is which node's.
//!
//! Pure. Whoever has named the plugs of a device by their nodes need not write that down a second time. Nothing is guessed: what
//! is not one plug of one node is told, and a person writes it.

use std::collections::{BTreeMap, BTreeSet};

use super::plugs::{Plug, shown};

/// What a device's list says of the nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    /// Each node's plug, as the agent takes it.
    pub plugs: BTreeMap<String, String>,
    /// Nodes that the device does not list.
    pub unlisted: Vec<String>,
}

/// Finds each node's plug by what the plug is called: by its name on the device, else by its own. A bare number is the place of a plug,
/// and no name, where the device gives it another.
///
/// # Errors
/// Each plug that may be of several nodes, each node that has several plugs, or that no plug is any node's; in words.
pub fn owners(device: &str, listed: &[Plug], nodes: &BTreeSet<String>) -> Result<Owners, Vec<String>> {
    let mut wrong = Vec::new();
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for plug in listed {
        let is_place = !plug.name.is_empty() && plug.id.chars().all(|c| c.is_ascii_digit());
        let own = (!is_place).then_some(plug.id.as_str());
        let called = std::iter::once(plug.name.as_str()).chain(own);
        let mut called = called.map(|name| (name, of_that_name(nodes, name)));
        let Some((name, whose)) = called.find(|(_, whose)| !whose.is_empty()) else { continue };
        if let [node] = whose[..] {
            found.entry(node).or_default().insert(&plug.id);
        } else {
            wrong.push(format!("{device} lists `{name}`, which may be {}", whose.join(" or ")));
        }
    }
    for (node, plugs) in found.iter().filter(|(_, plugs)| plugs.len() > 1) {
        let plugs: Vec<&str> = plugs.iter().copied().collect();
        wrong.push(format!("{device} lists several plugs for {node}: {}", plugs.join(", ")));
    }
    if found.is_empty() && wrong.is_empty() {
        let all = if listed.is_empty() { "nothing".to_owned() } else { shown(listed) };
        wrong
            .push(format!("{device} lists no plug that is called as a node of this cluster: it lists {all}"));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let unlisted = nodes.iter().filter(|node| !found.contains_key(node.as_str())).cloned().collect();
    let of_one =
        |(node, plugs): (&str, BTreeSet<&str>)| Some((node.to_owned(), (*plugs.first()?).to_owned()));
    Ok(Owners { plugs: found.into_iter().filter_map(of_one).collect(), unlisted })
}

/// The nodes of that name or, if there are none, those whose short host name it is.
fn of_that_name<'n>(nodes: &'n BTreeSet<String>, name: &str) -> Vec<&'n str> {
    let all = || nodes.iter().map(String::as_str);
    let exact: Vec<&str> = all().filter(|node| node.eq_ignore_ascii_case(name)).collect();
    if !exact.is_empty() {
        return exact;
    }
    let short = |node: &&str| node.split('.').next().is_some_and(|short| short.eq_ignore_ascii_case(name));
    all().filter(short).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(listed: &str, nodes: &str) -> Result<Owners, Vec<String>> {
        let plug = |word: &str| {
            let (id, name) = word.split_once('=').unwrap_or((word, ""));
            Plug { id: id.to_owned(), name: name.to_owned() }
        };
        let listed: Vec<Plug> = listed.split_whitespace().map(plug).collect();
        owners("pdu", &listed, &nodes.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn a_plug_is_of_the_node_that_it_is_called_after() {
        for (listed, nodes, plugs, unlisted) in [
            ("1=n1 2=n2 3=ups", "n1 n2 n3", "n1=1 n2=2", "n3"),
            ("n1 n2", "n1 n2", "n1=n1 n2=n2", ""),
            // A hypervisor's second word is no name of a node.
            ("n1=0a1b n2=0c2d", "n1 n2", "n1=n1 n2=n2", ""),
            ("1=N1 2=db", "n1 db.example.com", "n1=1 db.example.com=2", ""),
            // The whole name counts more than the short one.
            ("1=db 2=db.b", "db db.b", "db=1 db.b=2", ""),
            ("1=n1 1=n1", "n1", "n1=1", ""),
            // Nodes whose names are numbers.
            ("1=2 2=mail 3=1", "1 2 3", "1=3 2=1", "3"),
            ("1 2", "1 2", "1=1 2=2", ""),
        ] {
            let owners = found(listed, nodes).expect(listed);
            let expected: BTreeMap<String, String> = plugs
                .split_whitespace()
                .filter_map(|word| word.split_once('='))
                .map(|(node, plug)| (node.to_owned(), plug.to_owned()))
                .collect();
            assert_eq!(
                (owners.plugs, owners.unlisted.join(" ")),
                (expected, unlisted.to_owned()),
                "{listed}"
            );
        }
    }

    #[test]
    fn what_is_not_one_plug_of_one_node_is_told_and_all_of_it() {
        for (listed, nodes, wrong) in [
            ("1=db", "db.a db.b", &["pdu lists `db`, which may be db.a or db.b"][..]),
            ("1=n1 2=n1 3=n2", "n1 n2", &["pdu lists several plugs for n1: 1, 2"]),
            (
                "1=db 2=n1 3=n1",
                "db.a db.b n1",
                &["pdu lists `db`, which may be db.a or db.b", "pdu lists several plugs for n1: 2, 3"],
            ),
            (
                "1=web 2",
                "n1",
                &["pdu lists no plug that is called as a node of this cluster: it lists 1 (web), 2"],
            ),
            ("", "n1", &["pdu lists no plug that is called as a node of this cluster: it lists nothing"]),
        ] {
            assert_eq!(found(listed, nodes).expect_err(listed), wrong, "{listed}");
        }
    }
}
