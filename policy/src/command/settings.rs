//! The cluster's own settings: its times, and how nodes are fenced.

use alloc::collections::BTreeMap;
use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::name::{Millis, NodeId};

/// How to switch a node's power, or to cut it off from what it shares with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The fence agent's program name (`fence_ipmilan`).
    pub agent: String,
    /// Options for every target, as the agent names them.
    pub options: BTreeMap<String, String>,
    /// Options whose value the executor has by itself, in a root-only file or as a credential of systemd; never in the log (name →
    /// path, or `credential:` and a name).
    pub secrets: BTreeMap<String, String>,
    /// Nodes that it can fence, each with its own options (`plug`, `ip`).
    pub targets: BTreeMap<NodeId, BTreeMap<String, String>>,
    /// Deadline of one call of the agent, in milliseconds.
    pub timeout_ms: Millis,
    /// Deadlines of the calls for one action, in milliseconds, where they are others. Left out where there are none: a voter that does
    /// not know them stops at the first entry that has some, and reads all others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub timeouts: BTreeMap<AgentAction, Millis>,
    /// The devices of one level prove a node off together; the next level is tried where they do not. From 1.
    #[serde(default = "one")]
    pub level: u32,
    /// How long after a fence is wanted it is used at the earliest, in milliseconds.
    #[serde(default)]
    pub delay_ms: Millis,
    /// How often an attempt that failed, and was not cut off, is repeated before the next level is tried.
    #[serde(default)]
    pub retries: u32,
    /// How many attempts may go through it at once: many management controllers have one session.
    #[serde(default = "one")]
    pub at_once: u32,
    /// It does not switch power: it cuts the node off, which may run on, and this is how the way is opened again. `None` for a
    /// power switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolates: Option<Reconnect>,
}

/// What an agent is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentAction {
    /// To switch a node off, or to cut it off.
    Off,
    /// To switch it on, or to let it in again.
    On,
    /// To say whether it has power: in a look, and after each `off` and `on`.
    Status,
    /// To list the plugs of the device. The command line alone asks for it.
    List,
}

impl AgentAction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Off, Self::On, Self::Status, Self::List];

    /// As agents and people call it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Status => "status",
            Self::List => "list",
        }
    }
}

/// When and by whom what a device cuts is connected again, by the agent's `on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reconnect {
    /// What a fence has cut, and nothing else, by any other node.
    AfterCut,
    /// In each life of the node, by any other node (`automatic` in an agent's metadata).
    AtBoot,
    /// In each life of the node, by the node itself (`on_target`): it registers with the device.
    ByNode,
}

impl Device {
    /// Deadline of one call for that, in milliseconds.
    #[must_use]
    pub fn deadline_ms(&self, action: AgentAction) -> Millis {
        self.timeouts.get(&action).copied().unwrap_or(self.timeout_ms)
    }

    /// The longest that a call may take which the cluster makes.
    pub(crate) fn longest_ms(&self) -> Millis {
        let status = self.deadline_ms(AgentAction::Status);
        status.max(self.deadline_ms(AgentAction::Off)).max(self.deadline_ms(AgentAction::On))
    }

    /// The deadline of an action together with that of the status which is read after it.
    pub(crate) fn verified_ms(&self, action: AgentAction) -> Millis {
        self.deadline_ms(action).saturating_add(self.deadline_ms(AgentAction::Status))
    }

    /// The deadlines of all calls of an attempt to fence by it: `off`, `status`, and where nodes register themselves, a `status` of who ran it.
    pub(crate) fn attempt_ms(&self) -> Millis {
        let own = match self.isolates {
            Some(Reconnect::ByNode) => self.deadline_ms(AgentAction::Status),
            Some(Reconnect::AfterCut | Reconnect::AtBoot) | None => 0,
        };
        self.verified_ms(AgentAction::Off).saturating_add(own)
    }

    /// Whether what both say proves the same: they are asked alike, on the same level.
    pub(crate) fn proves_as(&self, other: &Self) -> bool {
        self.level == other.level && self.asks_as(other)
    }

    /// Whether both ask the same plugs in the same way, and differ at most in when and how often.
    pub(crate) fn asks_as(&self, other: &Self) -> bool {
        let Self { agent, options, secrets, targets, isolates, .. } = self;
        *agent == other.agent
            && *options == other.options
            && *secrets == other.secrets
            && *targets == other.targets
            && *isolates == other.isolates
    }
}

fn one() -> u32 {
    1
}

/// What becomes of a node that was fenced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterFence {
    /// It stays off until a person has looked at it.
    #[default]
    Off,
    /// It is switched on again, once nothing can strike it any more.
    On,
}

/// The cluster's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How soon a silent node is called lost; every other time derives from it.
    pub detect_ms: Millis,
    /// How long power is unknown after an attempt that was cut off.
    pub quarantine_ms: Millis,
    /// How many starts may be under way on one node; `None` for any number.
    #[serde(default)]
    pub starts_per_node: Option<u32>,
    /// How many in the whole cluster.
    #[serde(default)]
    pub starts_per_cluster: Option<u32>,
    /// Whether a fenced node is switched on again.
    #[serde(default)]
    pub after_fence: AfterFence,
    /// The attribute of which equal values mean that nodes fail together. Left out where there is none: a voter that does not know it
    /// stops at the first entry that has one, and reads all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
}

impl Settings {
    /// The lease that a beat's answer grants (design, section 3): the most that `detect` leaves room for.
    ///
    /// A leader calls a node lost 1.01 leases and a margin of `detect`/40 after its last answer, and that must
    /// come to `detect` at the most; the rest is room for the commit.
    #[must_use]
    pub fn lease_ms(&self) -> Millis {
        self.detect_ms.saturating_mul(92) / 100
    }

    /// How long after its own last answer a leader calls a node lost: the lease × 1.01 and a margin (F5).
    #[must_use]
    pub fn loss_ms(&self) -> Millis {
        let lease = self.lease_ms();
        lease.saturating_add(lease / 100).saturating_add(self.detect_ms / 40)
    }

    /// How often a node sends a beat: as rarely as leaves a lease time for an election (docs/design/0004-times.md).
    #[must_use]
    pub fn beat_ms(&self) -> Millis {
        self.detect_ms.saturating_mul(18) / 100
    }
}

impl Default for Settings {
    /// `detect` 2 s; quarantine 30 s (field notes: the last queued power-off struck 12 s after the first).
    fn default() -> Self {
        Self {
            detect_ms: 2_000,
            quarantine_ms: 30_000,
            starts_per_node: None,
            starts_per_cluster: None,
            after_fence: AfterFence::Off,
            failure_domain: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_deadlines_for_single_actions_is_written_as_before_there_were_any() {
        let old = r#"{"agent":"fence_x","options":{},"secrets":{},"targets":{},"timeout_ms":60000,"level":1,"delay_ms":0,"retries":0,"at_once":1}"#;
        let device: Device = serde_json::from_str(old).expect("an entry of then");
        assert_eq!(serde_json::to_string(&device).expect("a text"), old);
    }

    #[test]
    fn settings_without_a_failure_domain_are_written_as_before_there_was_any() {
        let old = r#"{"detect_ms":2000,"quarantine_ms":30000,"starts_per_node":null,"starts_per_cluster":null,"after_fence":"off"}"#;
        let settings: Settings = serde_json::from_str(old).expect("an entry of then");
        assert_eq!(serde_json::to_string(&settings).expect("a text"), old);
        let settings = Settings { failure_domain: Some("room".into()), ..settings };
        // As the log has it.
        let bytes = rmp_serde::to_vec_named(&settings).expect("bytes");
        assert_eq!(rmp_serde::from_slice::<Settings>(&bytes).expect("the same"), settings);
    }

    #[test]
    fn a_deadline_is_that_of_its_action_and_else_the_one_of_all() {
        let text = r#"{"agent":"fence_x","options":{},"secrets":{},"targets":{},"timeout_ms":60000,"timeouts":{"off":40000,"on":120000}}"#;
        let device: Device = serde_json::from_str(text).expect("a device");
        for (action, ms) in AgentAction::ALL.into_iter().zip([40_000, 120_000, 60_000, 60_000]) {
            assert_eq!(device.deadline_ms(action), ms, "{}", action.word());
        }
        assert_eq!(device.verified_ms(AgentAction::On), 180_000);
        assert_eq!(device.attempt_ms(), 100_000);
        let registers = Device { isolates: Some(Reconnect::ByNode), ..device.clone() };
        assert_eq!(registers.attempt_ms(), 160_000);
        // As the log has it.
        let bytes = rmp_serde::to_vec_named(&device).expect("bytes");
        assert_eq!(rmp_serde::from_slice::<Device>(&bytes).expect("the same"), device);
    }
}
