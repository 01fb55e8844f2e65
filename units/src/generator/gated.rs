//! The list of cluster units that this node was ever told of.
//!
//! convoked writes it and the generator reads it. One unit name in a line; a member of a cluster unit has
//! the name of its owner behind its own. Lines that make no sense are passed over: a damaged line must not
//! cost the others their gates.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::UnitName;

/// The known units. Only `convoke forget` makes it shorter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gated {
    /// Cluster units by real name.
    pub units: BTreeSet<String>,
    /// Owner by member.
    pub members: BTreeMap<String, String>,
}

impl Gated {
    /// Reads the list.
    pub fn parse(text: &str) -> Gated {
        let mut gated = Gated::default();
        for line in text.lines().map(str::trim).filter(|l| !l.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let valid = |name: &str| UnitName::parse(name).is_some();
            match words[..] {
                [unit] if valid(unit) => {
                    gated.units.insert(unit.to_owned());
                }
                [member, owner] if valid(member) && valid(owner) => {
                    gated.members.insert(member.to_owned(), owner.to_owned());
                }
                _ => {}
            }
        }
        gated
    }

    /// Adds what another list knows; what this one says of a member counts more.
    pub fn join(&mut self, other: Gated) {
        self.units.extend(other.units);
        for (member, owner) in other.members {
            self.members.entry(member).or_insert(owner);
        }
    }

    /// The list as text.
    pub fn render(&self) -> String {
        let mut out =
            String::from("# Cluster units this node was told of. Use `convoke forget` to take one out.\n");
        for unit in &self.units {
            out.push_str(&format!("{unit}\n"));
        }
        for (member, owner) in &self.members {
            out.push_str(&format!("{member} {owner}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_back_as_written() {
        let text = "db.service\n# c\n\nbad line here\nnonsense\ndb.socket db.service\n  foo@.service \n";
        let gated = Gated::parse(text);
        assert_eq!(
            gated.units.iter().map(String::as_str).collect::<Vec<_>>(),
            ["db.service", "foo@.service"]
        );
        assert_eq!(gated.members.get("db.socket").map(String::as_str), Some("db.service"));
        assert_eq!(Gated::parse(&gated.render()), gated);
    }
}
