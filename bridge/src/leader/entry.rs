//! A command as it lies in the log: what the proposer stamped, and what the log adds.

use policy::{Command, Entry, Millis, Origin, Refusal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What is proposed. The index comes from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamped {
    /// Cluster time (F6).
    pub time: Millis,
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: u64,
    /// Who must not be counted twice.
    pub origin: Option<Origin>,
    /// The command.
    pub command: Command,
}

/// What became of an entry, as the log answers its proposer.
pub(super) type Outcome = Result<(), Refusal>;

/// As bytes for the log: MessagePack with named fields.
///
/// # Errors
/// None in practice; every command can be encoded.
pub fn encode(stamped: &Stamped) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(stamped)
}

/// From the log.
///
/// # Errors
/// Unknown commands, unknown fields at any depth, and damaged bytes; in words.
pub fn decode(index: u64, bytes: &[u8]) -> Result<Entry, String> {
    let Stamped { time, wall_ms, origin, command } = strictly(bytes)?;
    Ok(Entry { index, time, wall_ms, origin, command })
}

/// What all voters read alike. What this version does not understand stops the voter, because to skip it would make its state
/// another one than its peers' (F20). Words of nodes are read leniently, with the same types.
///
/// # Errors
/// Unknown commands, unknown fields at any depth, and damaged bytes.
pub(super) fn strictly<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut unknown = None;
    let mut encoded = rmp_serde::Deserializer::from_read_ref(bytes);
    let read = serde_ignored::deserialize(&mut encoded, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    });
    match (read, unknown) {
        (Err(failure), _) => Err(failure.to_string()),
        (Ok(_), Some(path)) => Err(format!("`{path}` is not known")),
        (Ok(read), None) => Ok(read),
    }
}

/// As bytes for the proposer.
pub(crate) fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    rmp_serde::to_vec_named(outcome).unwrap_or_default()
}

/// From the log's answer.
pub(crate) fn decode_outcome(bytes: &[u8]) -> Result<Outcome, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use policy::{Fact, Incarnation, NodeId};
    use serde_json::{Value, json};

    use super::*;

    /// An entry as some other version may have written it.
    fn written(change: impl FnOnce(&mut Value)) -> Result<Entry, String> {
        let heard = Fact::NodeHeard {
            node: NodeId(1),
            incarnation: Incarnation::from("boot"),
            session: 1,
            machine: "machine".to_owned(),
            addresses: Vec::new(),
            level: 1,
            term: 1,
        };
        let stamped = Stamped { time: 5, wall_ms: 6, origin: None, command: Command::Fact(heard) };
        let mut value = serde_json::to_value(&stamped).expect("JSON");
        change(&mut value["command"]["Fact"]["NodeHeard"]);
        let read = decode(9, &rmp_serde::to_vec_named(&value).expect("MessagePack"))?;
        assert_eq!(read, Entry { index: 9, time: 5, wall_ms: 6, origin: None, command: stamped.command });
        Ok(read)
    }

    #[test]
    fn what_a_later_version_has_added_is_not_skipped() {
        written(|_| {}).expect("as it was written");
        let failure = written(|heard| heard["colour"] = json!("red")).expect_err("a new field");
        assert!(failure.contains("colour"), "{failure}");
        let bytes = rmp_serde::to_vec_named(&json!({ "command": { "Fact": { "Dreamt": {} } } }));
        let failure = strictly::<Stamped>(&bytes.expect("MessagePack")).expect_err("a new command");
        assert!(failure.contains("Dreamt"), "{failure}");
    }

    #[test]
    fn what_an_earlier_version_did_not_say_is_what_it_was() {
        written(|heard| drop(heard.as_object_mut().expect("fields").remove("level")))
            .expect("the first level");
    }
}
