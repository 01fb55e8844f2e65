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
    const TAKES: &'static str = "`required`, `isolated`, `watchdog`, `lease` or `none`";
    fn from_value(text: &str) -> Option<Fencing> {
        Some(match text {
            "required" => Fencing::Required,
            "isolated" => Fencing::Isolated,
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
        let word = is_word;
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

/// `Spread=`: the name of an attribute.
pub(super) struct Attribute(pub(super) String);

impl FromValue for Attribute {
    const TAKES: &'static str = "the name of an attribute of nodes, such as `rack`";
    fn from_value(text: &str) -> Option<Attribute> {
        is_word(text).then(|| Attribute(text.to_owned()))
    }
}

/// One word of `Uses=`.
pub(super) struct Use {
    pub(super) of: String,
    pub(super) amount: u64,
}

impl FromValue for Use {
    const TAKES: &'static str =
        "what a copy takes of its node, such as `memory=4G licences=1`; K, M, G and T count in 1024s";
    fn from_value(text: &str) -> Option<Use> {
        let (of, amount) = text.split_once('=')?;
        let suffix = amount.find(|c: char| !c.is_ascii_digit()).unwrap_or(amount.len());
        let (digits, suffix) = amount.split_at(suffix);
        let factor = match suffix {
            "" => 1,
            "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            "T" => 1u64 << 40,
            _ => return None,
        };
        let amount = digits.parse::<u64>().ok()?.checked_mul(factor)?;
        (is_word(of) && amount > 0).then(|| Use { of: of.to_owned(), amount })
    }
}

/// `Priority=`.
pub(super) struct Priority(pub(super) i64);

impl FromValue for Priority {
    const TAKES: &'static str = "a number from -1000000 to 1000000";
    fn from_value(text: &str) -> Option<Priority> {
        let (digits, sign) = match text.strip_prefix('-') {
            Some(digits) => (digits, -1),
            None => (text, 1),
        };
        number(digits).filter(|n| *n <= WEIGHT_MAX).map(|n| Priority(i64::from(n) * sign))
    }
}

/// A switch, in systemd's words.
pub(super) struct YesNo(pub(super) bool);

impl FromValue for YesNo {
    const TAKES: &'static str = "`yes` or `no`";
    fn from_value(text: &str) -> Option<YesNo> {
        match text {
            "1" | "yes" | "true" | "on" => Some(YesNo(true)),
            "0" | "no" | "false" | "off" => Some(YesNo(false)),
            _ => None,
        }
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

/// A name of a node or an attribute, or a value.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Plain decimal digits; Rust's own parser would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
