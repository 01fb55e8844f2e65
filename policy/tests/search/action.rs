//! One step of the whole, and how it is told.

use policy::{Wanted, Wish};

use super::choice::Choice;
use super::letter::{Letter, Outcome, unit_name};
use super::view::View;
use super::world::{NAMES, UNITS};

/// One step of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A lease's length passes; whoever is in touch renews its own.
    Tick {
        slow: bool,
    },
    /// The same, and one machine's clock stands still.
    TickWithout(usize),
    Hello(usize),
    LateHello(usize),
    /// The leader shows a node its permits.
    Tell(usize),
    DelayView(usize),
    LateView {
        view: View,
        again: bool,
    },
    Deliver {
        letter: Letter,
        again: bool,
    },
    LeaseEnds(usize),
    Stopped(usize, usize),
    Crashes(usize, usize),
    Restarts(usize, usize),
    Fails(usize, usize),
    Cut(usize),
    Heal(usize),
    PowerOff(usize),
    Boot(usize),
    Hang(usize),
    Wake(usize),
    /// The daemon of a machine that hangs is killed, which closes its watchdog.
    Close(usize),
    Drop(usize),
    /// Its daemon is killed, and another goes by what it finds in /run.
    Restart(usize),
    Twin(usize, Twin),
    Elect {
        node: usize,
        jump: bool,
    },
    Lose(usize),
    LateLoss(usize),
    Observe(usize),
    Fence(usize, Outcome),
    Strike(usize),
    /// An agent opens the way of a node that was cut off.
    Open(usize, Outcome),
    OpenLate(usize),
    /// The planner's whole plan is committed.
    Lead,
    /// Any one decision that `apply` takes.
    Decide(Choice),
    SetGoal(usize, bool),
    Move(usize),
    StopByHand(usize, usize),
    Vouch(usize),
}

/// Who else shows a node's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twin {
    /// A clone with the machine id and all.
    Clone,
    /// Another machine that has the certificate.
    Stranger,
    /// A life that was replaced: a snapshot that was resumed.
    Ghost,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |node: &usize| NAMES[*node];
        match self {
            Self::Tick { slow: false } => f.write_str("a lease's length passes"),
            Self::Tick { slow: true } => {
                f.write_str("a lease's length passes, and the leader's clock stands")
            }
            Self::TickWithout(node) => {
                write!(f, "a lease's length passes, and the clock of {} stands", name(node))
            }
            Self::Hello(node) => write!(f, "{} says hello", name(node)),
            Self::LateHello(node) => {
                write!(f, "{}'s hello is heard, and hangs on its way to the log", name(node))
            }
            Self::Tell(node) => write!(f, "{} is shown its permits", name(node)),
            Self::DelayView(node) => write!(f, "a view for {} hangs on its way", name(node)),
            Self::LateView { view, again } => {
                write!(f, "{} gets the view of index {}{}", name(&view.node), view.index, once_more(*again))
            }
            Self::Deliver { letter, again } => write!(f, "committed: {letter}{}", once_more(*again)),
            Self::LeaseEnds(node) => write!(f, "{}'s lease ends", name(node)),
            Self::Stopped(node, unit) => write!(f, "{} has stopped on {}", UNITS[*unit], name(node)),
            Self::Crashes(node, unit) => write!(f, "{} crashes on {}", UNITS[*unit], name(node)),
            Self::Restarts(node, unit) => write!(f, "PID 1 of {} starts {} again", name(node), UNITS[*unit]),
            Self::Fails(node, unit) => write!(f, "{} fails on {} for good", UNITS[*unit], name(node)),
            Self::Cut(node) => write!(f, "{} is cut off", name(node)),
            Self::Heal(node) => write!(f, "{} is reached again", name(node)),
            Self::PowerOff(node) => write!(f, "{} loses power", name(node)),
            Self::Boot(node) => write!(f, "{} boots", name(node)),
            Self::Hang(node) => write!(f, "{} hangs, its units run on", name(node)),
            Self::Wake(node) => write!(f, "{} goes on", name(node)),
            Self::Close(node) => write!(f, "the death of {}'s daemon feeds its watchdog", name(node)),
            Self::Drop(node) => write!(f, "{}'s session breaks", name(node)),
            Self::Restart(node) => write!(f, "the daemon of {} is killed and starts again", name(node)),
            Self::Twin(node, Twin::Clone) => write!(f, "a clone of {} says hello", name(node)),
            Self::Twin(node, Twin::Stranger) => {
                write!(f, "another machine says hello with {}'s certificate", name(node))
            }
            Self::Twin(node, Twin::Ghost) => write!(f, "an earlier life of {} says hello", name(node)),
            Self::Elect { node, jump: false } => write!(f, "{} leads", name(node)),
            Self::Elect { node, jump: true } => {
                write!(f, "{} leads, and its clock is an hour ahead", name(node))
            }
            Self::Lose(node) => write!(f, "committed: {} is lost", name(node)),
            Self::LateLoss(node) => {
                write!(f, "the leader calls {} lost, and that hangs on its way", name(node))
            }
            Self::Observe(node) => write!(f, "the device looks at {}", name(node)),
            Self::Fence(node, outcome) => {
                write!(f, "the fence agent against {} ends: {outcome:?}", name(node))
            }
            Self::Strike(node) => write!(f, "a late command of the device strikes {}", name(node)),
            Self::Open(node, Outcome::TimedOut) => {
                write!(f, "the agent that opens the way of {} hangs", name(node))
            }
            Self::Open(node, _) => write!(f, "an agent opens the way of {}", name(node)),
            Self::OpenLate(node) => write!(f, "a late command of the device opens the way of {}", name(node)),
            Self::Lead => f.write_str("committed: the whole plan"),
            Self::Decide(choice) => match choice {
                Choice::Grant { unit, life, adopt } => {
                    let how = if *adopt { "adopted on" } else { "granted to" };
                    write!(f, "committed: {} {how} {life}", UNITS[*unit])
                }
                Choice::Revoke { unit, token } => write!(f, "committed: {} {token} revoked", UNITS[*unit]),
                Choice::Expire { unit, token } => write!(f, "committed: {} {token} expired", UNITS[*unit]),
                Choice::Reterm { unit, token } => {
                    write!(f, "committed: new terms are offered for {} {token}", UNITS[*unit])
                }
                Choice::Open { life } => write!(f, "committed: {life} is to be fenced"),
                Choice::Begin { executor, .. } => write!(f, "committed: {executor} begins a fence attempt"),
                Choice::Abandon { .. } => f.write_str("committed: the fence attempt is given up"),
                Choice::Cancel { .. } => f.write_str("committed: the fence is cancelled"),
                Choice::BeginOpening { node, executor } => {
                    write!(f, "committed: {executor} begins to open the way of {}", name(node))
                }
                Choice::AbandonOpening { .. } => f.write_str("committed: the opening is given up"),
            },
            Self::SetGoal(unit, true) => write!(f, "an operator starts {}", UNITS[*unit]),
            Self::SetGoal(unit, false) => write!(f, "an operator stops {}", UNITS[*unit]),
            Self::Move(unit) => write!(f, "an operator moves {}", UNITS[*unit]),
            Self::StopByHand(node, unit) => {
                write!(f, "{} is stopped by hand on {}", UNITS[*unit], name(node))
            }
            Self::Vouch(node) => {
                write!(f, "an operator vouches for {}, and that hangs on its way", name(node))
            }
        }
    }
}

fn once_more(again: bool) -> &'static str {
    if again { ", and will again" } else { "" }
}

impl Action {
    /// The wish of an operator, as it is committed.
    pub(crate) fn wish(self) -> Option<Wish> {
        match self {
            Self::SetGoal(unit, started) => Some(Wish::SetGoal {
                unit: unit_name(unit),
                wanted: if started { Wanted::Started } else { Wanted::Stopped },
                node: None,
                seen: None,
                by: "o".into(),
            }),
            Self::Move(unit) => {
                Some(Wish::Move { unit: unit_name(unit), from: None, to: None, by: "o".into() })
            }
            _ => None,
        }
    }
}
