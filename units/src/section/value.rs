//! Reads the values of single keys.

use super::timespan::{self, TimeSpan};
use super::{Fencing, NodeExpr, OnQuorumLoss, OnStopFailure, Preference, Replicas, Stickiness};
use crate::name::UnitName;

/// Largest weight and stickiness.
pub(super) const WEIGHT_MAX: u32 = 1_000_000;

/// Weight of a preference that gives none.
pub(super) const WEIGHT_DEFAULT: u32 = 100;

/// Bound on `Replicas=`, beyond any cluster and far from overflow.
const REPLICAS_MAX: u32 = 100_000;

/// A value that can be read from the text of a key; `TAKES` tells people what it may be.
pub(super) trait FromValue: Sized {
    const TAKES: &'static str;
    /// Whether it names a unit.
    const IS_UNIT: bool = false;
    fn from_value(text: &str) -> Option<Self>;
}

impl FromValue for Replicas {
    const TAKES: &'static str = "`1`, a number of nodes, or `all`";
    fn from_value(text: &str) -> Option<Replicas> {
        match text {
            "all" => Some(Replicas::All),
            _ => match number(text)? {
                1 => Some(Replicas::One),
                n if (2..=REPLICAS_MAX).contains(&n) => Some(Replicas::Count(n)),
                _ => None,
            },
        }
    }
}

impl FromValue for Fencing {
    const TAKES: &'static str = "`required`, `watchdog`, `lease` or `none`";
    fn from_value(text: &str) -> Option<Fencing> {
        Some(match text {
            "required" => Fencing::Required,
            "watchdog" => Fencing::Watchdog,
            "lease" => Fencing::Lease,
            "none" => Fencing::None,
            _ => return None,
        })
    }
}

impl FromValue for OnQuorumLoss {
    const TAKES: &'static str = "`stop`, `freeze`, `continue` or `reboot`";
    fn from_value(text: &str) -> Option<OnQuorumLoss> {
        Some(match text {
            "stop" => OnQuorumLoss::Stop,
            "freeze" => OnQuorumLoss::Freeze,
            "continue" => OnQuorumLoss::Continue,
            "reboot" => OnQuorumLoss::Reboot,
            _ => return None,
        })
    }
}

impl FromValue for OnStopFailure {
    const TAKES: &'static str = "`fence` or `block`";
    fn from_value(text: &str) -> Option<OnStopFailure> {
        Some(match text {
            "fence" => OnStopFailure::Fence,
            "block" => OnStopFailure::Block,
            _ => return None,
        })
    }
}

impl FromValue for Stickiness {
    const TAKES: &'static str = "a number from 0 to 1000000, or `infinity`";
    fn from_value(text: &str) -> Option<Stickiness> {
        match text {
            "infinity" => Some(Stickiness::Infinity),
            _ => number(text).filter(|n| *n <= WEIGHT_MAX).map(Stickiness::Weight),
        }
    }
}

/// `FailuresMax=`.
pub(super) struct Failures(pub(super) u32);

impl FromValue for Failures {
    const TAKES: &'static str = "a number from 1 to 1000000";
    fn from_value(text: &str) -> Option<Failures> {
        number(text).filter(|n| (1..=WEIGHT_MAX).contains(n)).map(Failures)
    }
}

/// `FailureResetSec=` in milliseconds; `None` is for ever.
pub(super) struct Reset(pub(super) Option<u64>);

impl FromValue for Reset {
    const TAKES: &'static str = "a time such as `10min`, or `infinity`";
    fn from_value(text: &str) -> Option<Reset> {
        match timespan::parse(text)? {
            TimeSpan::Infinity => Some(Reset(None)),
            TimeSpan::Micros(us) => Some(Reset(Some(us / 1_000))),
        }
    }
}

impl FromValue for NodeExpr {
    const TAKES: &'static str = "names of nodes, or attributes such as `rack=a`";
    fn from_value(text: &str) -> Option<NodeExpr> {
        let word = |s: &str| {
            !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        match text.split_once('=') {
            Some((key, value)) => (word(key) && word(value))
                .then(|| NodeExpr::Attribute { key: key.to_owned(), value: value.to_owned() }),
            None => word(text).then(|| NodeExpr::Name(text.to_owned())),
        }
    }
}

impl FromValue for Preference {
    const TAKES: &'static str = "nodes or attributes with a weight from 1 to 1000000: `n1:100 rack=a:20`";
    fn from_value(text: &str) -> Option<Preference> {
        let (node, weight) = match text.rsplit_once(':') {
            Some((node, weight)) => (node, number(weight).filter(|w| (1..=WEIGHT_MAX).contains(w))?),
            None => (text, WEIGHT_DEFAULT),
        };
        Some(Preference { node: NodeExpr::from_value(node)?, weight })
    }
}

/// Name of another unit.
pub(super) struct UnitRef(pub(super) String);

impl FromValue for UnitRef {
    const TAKES: &'static str = "full unit names such as `db.service`";
    const IS_UNIT: bool = true;
    fn from_value(text: &str) -> Option<UnitRef> {
        UnitName::parse(text).map(|n| UnitRef(n.full.to_owned()))
    }
}

/// Plain decimal digits; Rust's own parser would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
