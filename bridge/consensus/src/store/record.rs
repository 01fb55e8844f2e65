//! How log ids, votes, memberships and entries are written to disk.
//!
//! These structs are ours and change only with [`FORMAT`]. openraft's own serialized forms change between its
//! releases, so they never reach the disk. Unknown fields are errors: a store is read exactly or not at all.
//!
//! Every value is `checksum (8 bytes, little endian) · format (1 byte) · MessagePack with field names`. The checksum
//! covers the key too, so that a value in the wrong place is noticed.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{EmptyNode, EntryPayload};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Bytes;
use crate::types::{Command, Entry, LeaderId, LogId, Membership, SnapshotMeta, StoredMembership, Vote};

/// Version of the records below. A store with a higher one was written by newer software and is refused.
pub(crate) const FORMAT: u8 = 1;

/// Bytes in front of each record's body.
const HEAD: usize = 9;

/// Why a value could not be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("it is too short to be a record")]
    Short,
    #[error("its checksum does not match its contents")]
    Checksum,
    #[error("it has format {0}, and this software knows {FORMAT}")]
    Format(u8),
    #[error("its contents cannot be decoded")]
    Contents(#[source] rmp_serde::decode::Error),
    #[error("it describes an impossible membership: {0}")]
    Membership(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogIdRecord {
    term: u64,
    node: u64,
    index: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VoteRecord {
    term: u64,
    node: u64,
    committed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MembershipRecord {
    /// One set of voters, or two while a change of voters is under way.
    voters: Vec<BTreeSet<u64>>,
    /// Voters and learners.
    nodes: BTreeSet<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum PayloadRecord {
    Blank,
    Command(#[serde(with = "serde_bytes")] Vec<u8>),
    Membership(MembershipRecord),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntryRecord {
    id: LogIdRecord,
    payload: PayloadRecord,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotRecord {
    last: Option<LogIdRecord>,
    membership_at: Option<LogIdRecord>,
    membership: MembershipRecord,
    /// Checksum of the snapshot's bytes, which are stored beside this record.
    pub(crate) sum: u64,
}

/// Whose store it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityRecord {
    pub(crate) cluster: String,
    pub(crate) node: u64,
}

/// Encodes `record` as it is stored under `key`.
pub(crate) fn encode<T: Serialize>(key: &[u8], record: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut out = vec![0; HEAD];
    out[HEAD - 1] = FORMAT;
    rmp_serde::encode::write_named(&mut out, record)?;
    let sum = checksum(&[key, &out[HEAD - 1..]]);
    out[..HEAD - 1].copy_from_slice(&sum.to_le_bytes());
    Ok(out)
}

/// Reads back what [`encode`] wrote under `key`.
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, RecordError> {
    let Some((sum, rest)) = bytes.split_first_chunk::<8>() else { return Err(RecordError::Short) };
    let Some((format, body)) = rest.split_first() else { return Err(RecordError::Short) };
    if u64::from_le_bytes(*sum) != checksum(&[key, rest]) {
        return Err(RecordError::Checksum);
    }
    if *format != FORMAT {
        return Err(RecordError::Format(*format));
    }
    rmp_serde::from_slice(body).map_err(RecordError::Contents)
}

/// 64-bit FNV-1a over `parts`, each preceded by its length. It finds rot, not malice: whoever may write the store may
/// write the checksums.
pub(crate) fn checksum(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for part in parts {
        eat(&(part.len() as u64).to_le_bytes());
        eat(part);
    }
    hash
}

impl From<&LogId> for LogIdRecord {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(record: LogIdRecord) -> Self {
        LogId::new(LeaderId { term: record.term, node_id: record.node }, record.index)
    }
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteRecord> for Vote {
    fn from(record: VoteRecord) -> Self {
        Vote { leader_id: LeaderId { term: record.term, node_id: record.node }, committed: record.committed }
    }
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, _)| *id).collect(),
        }
    }
}

impl TryFrom<MembershipRecord> for Membership {
    type Error = RecordError;

    fn try_from(record: MembershipRecord) -> Result<Self, RecordError> {
        let nodes: BTreeMap<u64, EmptyNode> =
            record.nodes.into_iter().map(|id| (id, EmptyNode::new())).collect();
        Membership::new(record.voters, nodes).map_err(|e| RecordError::Membership(e.to_string()))
    }
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => PayloadRecord::Blank,
            EntryPayload::Normal(command) => PayloadRecord::Command(command.0.to_vec()),
            EntryPayload::Membership(membership) => PayloadRecord::Membership(membership.into()),
        };
        Self { id: (&entry.log_id).into(), payload }
    }
}

impl EntryRecord {
    pub(crate) fn into_entry(self) -> Result<Entry, RecordError> {
        let payload = match self.payload {
            PayloadRecord::Blank => EntryPayload::Blank,
            PayloadRecord::Command(bytes) => EntryPayload::Normal(Command(Bytes::from(bytes))),
            PayloadRecord::Membership(membership) => EntryPayload::Membership(membership.try_into()?),
        };
        Ok(Entry { log_id: self.id.into(), payload })
    }
}

impl SnapshotRecord {
    pub(crate) fn new(meta: &SnapshotMeta, bytes: &[u8]) -> Self {
        Self {
            last: meta.last_log_id.as_ref().map(Into::into),
            membership_at: meta.last_membership.log_id().as_ref().map(Into::into),
            membership: meta.last_membership.membership().into(),
            sum: checksum(&[bytes]),
        }
    }

    pub(crate) fn into_meta(self) -> Result<SnapshotMeta, RecordError> {
        Ok(SnapshotMeta {
            last_log_id: self.last.map(Into::into),
            last_membership: StoredMembership::new(
                self.membership_at.map(Into::into),
                self.membership.try_into()?,
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(payload: EntryPayload<Command, u64, EmptyNode>) -> Entry {
        Entry { log_id: LogId::new(LeaderId { term: 3, node_id: 2 }, 7), payload }
    }

    #[test]
    fn entries_survive_the_round_trip() {
        let membership =
            Membership::new_with_defaults(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])], [4]);
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Command(Bytes::from_static(b"grant"))),
            EntryPayload::Membership(membership),
        ] {
            let entry = entry(payload);
            let bytes = encode(b"k", &EntryRecord::from(&entry)).unwrap();
            let back: EntryRecord = decode(b"k", &bytes).unwrap();
            assert_eq!(back.into_entry().unwrap(), entry);
        }
    }

    /// A change of these bytes is a change of the format: raise `FORMAT` and write the migration.
    #[test]
    fn the_bytes_on_disk_stay_as_they_are() {
        let entry = entry(EntryPayload::Normal(Command(Bytes::from_static(b"x"))));
        let bytes = encode(&7u64.to_le_bytes(), &EntryRecord::from(&entry)).unwrap();
        let mut want = vec![1, 0x82, 0xa2];
        want.extend(b"id");
        want.extend([0x83, 0xa4]);
        want.extend(b"term");
        want.extend([3, 0xa4]);
        want.extend(b"node");
        want.extend([2, 0xa5]);
        want.extend(b"index");
        want.extend([7, 0xa7]);
        want.extend(b"payload");
        want.extend([0x81, 0xa7]);
        want.extend(b"Command");
        want.extend([0xc4, 1, b'x']);
        assert_eq!(&bytes[8..], &want);
        let vote = encode(b"vote", &VoteRecord { term: 1, node: 2, committed: true }).unwrap();
        assert_eq!(&vote[8..], b"\x01\x83\xa4term\x01\xa4node\x02\xa9committed\xc3");
    }

    #[test]
    fn every_flipped_bit_and_a_wrong_place_are_noticed() {
        let record = EntryRecord::from(&entry(EntryPayload::Normal(Command(Bytes::from_static(b"abc")))));
        let good = encode(b"key", &record).unwrap();
        assert!(matches!(decode::<EntryRecord>(b"kez", &good), Err(RecordError::Checksum)));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(decode::<EntryRecord>(b"key", &bad).is_err(), "byte {at}, bit {bit}");
            }
        }
        assert!(matches!(decode::<EntryRecord>(b"key", &good[..8]), Err(RecordError::Short)));
    }
}
