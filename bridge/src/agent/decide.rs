//! Decides the next step of one unit, from what the cluster wants and what is seen on this node.
//!
//! Pure and level-triggered: the same case gives the same step, whatever happened before. It is asked whenever anything
//! about the unit has changed and no operation is under way. Knows neither systemd nor files nor time.

use policy::{Incarnation, OnQuorumLoss, PermitView, Phase, Rest, Terms, Token};

use super::permit::Permit;

/// What PID 1 and the kernel show of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Run {
    /// It was not looked at since the connection to PID 1 began.
    #[default]
    Unknown,
    /// Active.
    Up,
    /// On its way up.
    Starting,
    /// On its way down.
    Stopping,
    /// It failed and systemd will start it again by itself.
    Restarting,
    /// Inactive or failed, and nothing of it is left.
    Down,
    /// Inactive or failed, but something of it is left, in words.
    Left(String),
    /// Frozen: it does nothing, and may go on at any moment (F26).
    Frozen,
}

impl Run {
    /// Whether it must be taken for running; what was not looked at is.
    pub(super) fn may_run(&self) -> bool {
        *self != Self::Down
    }

    /// Why a copy that may run is not up; none where nothing is to be said of that.
    pub(super) fn rest(&self) -> Option<Rest> {
        match self {
            Self::Restarting | Self::Starting => Some(Rest::Restarts),
            Self::Stopping => Some(Rest::Stops),
            Self::Down | Self::Left(_) => Some(Rest::Down),
            Self::Unknown | Self::Up | Self::Frozen => None,
        }
    }

    /// Whether systemd counts it as inactive or failed.
    pub(super) fn is_down(&self) -> bool {
        matches!(self, Self::Down | Self::Left(_))
    }
}

/// What the cluster says of the unit on this node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word<'a> {
    /// Nothing yet in this session, or nothing since the lease ended.
    None,
    /// It has no permit here; it is to be stopped if that flag is set.
    Without { stop: bool },
    /// It has this permit.
    Permit(&'a PermitView),
}

/// Everything that one step depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub(super) incarnation: &'a Incarnation,
    pub(super) word: Word<'a>,
    /// Highest token that was released here.
    pub(super) floor: Token,
    /// The permit that this node acts under, until it is released.
    pub(super) held: Option<&'a Permit>,
    /// Whether its file is in place.
    pub(super) filed: bool,
    pub(super) run: &'a Run,
    /// Whether the lease is valid now.
    pub(super) leased: bool,
    /// Whether the node goes down.
    pub(super) leaving: bool,
    /// Whether whoever asked for the start has given up (F34).
    pub(super) unwanted: bool,
}

/// Why a permit is released, before the cause is known in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The cluster had it stopped.
    Ordered,
    /// The grant was not used (F34).
    Unused,
    /// The node goes down.
    Shutdown,
    /// It is down at the end of its maintenance.
    Maintained,
    /// It went down; what took it down says the reading.
    WentDown,
    /// Given back before, and the answer was lost while something of it runs again.
    Again,
    /// The cluster does not know this permit any more.
    Dead,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until something changes.
    Wait,
    /// Look at it.
    Look,
    /// Write the permit and start it.
    Start,
    /// Write the permit for what runs already.
    Adopt,
    /// Write the permit, then thaw.
    Thaw,
    /// The four steps of a release (F1).
    Release(Token, Why),
    /// Stop a copy that has no permit.
    StopStray,
    /// The permit counts no more, but what runs may be adopted anew: take the file away.
    Withdraw,
    /// Say that it runs.
    ReportStarted(Token),
    /// Say once more that it is released.
    ReportReleased(Token),
    /// Take over new terms and say so (F13).
    TakeTerms(Token, Terms),
}

/// The next step of a unit that has no operation under way.
pub(super) fn decide(case: &Case<'_>) -> Step {
    if *case.run == Run::Unknown {
        return Step::Look;
    }
    match case.word {
        Word::Permit(permit) if permit.incarnation != *case.incarnation => without(case, false),
        Word::Permit(permit) if permit.token <= case.floor => {
            if case.run.may_run() || case.held.is_some() {
                Step::Release(permit.token, Why::Again)
            } else {
                Step::ReportReleased(permit.token)
            }
        }
        Word::Permit(permit) => with(case, permit),
        Word::Without { stop } => without(case, stop),
        // Until the cluster speaks, a permit goes on under its terms; one whose unit went down is given back. Why one that
        // was being released went down, the cluster knows.
        Word::None => match case.held {
            Some(held) if case.filed && case.run.is_down() && !held.hands_off => {
                Step::Release(held.token, Why::WentDown)
            }
            _ => Step::Wait,
        },
    }
}

fn with(case: &Case<'_>, permit: &PermitView) -> Step {
    let token = permit.token;
    let granted = match permit.phase {
        Phase::Revoking(_) => return Step::Release(token, Why::Ordered),
        Phase::Granted => true,
        Phase::Active => false,
    };
    let ours = case.held.is_some_and(|held| held.token == token);
    let in_force = ours && case.filed;
    let hands_off = ours && case.held.is_some_and(|held| held.hands_off);
    match case.run {
        Run::Unknown => Step::Look,
        // In maintenance a person stops and starts it, under the file of the permit that it has.
        _ if permit.hands_off && hands_off && in_force => Step::Wait,
        // It was frozen at the end of a lease, before the node could hear of it.
        Run::Frozen if permit.hands_off && case.leased => Step::Thaw,
        // What ended before the node heard of the maintenance, or is about to, ends as it would have (S6).
        Run::Down | Run::Left(_) | Run::Stopping if permit.hands_off && ours && !hands_off => {
            if *case.run == Run::Stopping { Step::Wait } else { Step::Release(token, Why::WentDown) }
        }
        _ if permit.hands_off => {
            if case.leased {
                Step::Adopt
            } else {
                Step::Wait
            }
        }
        Run::Down | Run::Left(_) if hands_off => Step::Release(token, Why::Maintained),
        Run::Down | Run::Left(_) if granted && !ours => {
            if case.unwanted {
                Step::Release(token, Why::Unused)
            } else if case.leaving {
                Step::Release(token, Why::Shutdown)
            } else if case.leased {
                Step::Start
            } else {
                Step::Wait
            }
        }
        Run::Down | Run::Left(_) => Step::Release(token, Why::WentDown),
        // No permit file is written without a lease (F8).
        Run::Frozen if case.leased => Step::Thaw,
        Run::Up | Run::Starting | Run::Restarting if (!in_force || hands_off) && case.leased => Step::Adopt,
        Run::Up if in_force && granted => Step::ReportStarted(token),
        Run::Up | Run::Starting | Run::Restarting | Run::Stopping | Run::Frozen => match &permit.next_terms {
            Some(terms) if in_force && case.leased => Step::TakeTerms(token, terms.clone()),
            _ => Step::Wait,
        },
    }
}

fn without(case: &Case<'_>, stop: bool) -> Step {
    let runs = case.run.may_run();
    match case.held {
        // S1: an exclusive unit does not run for a moment without a permit. A replica whose permit ended by time may
        // be adopted again; the cluster says so, or has it stopped.
        Some(held) if held.terms.exclusive || !runs || *case.run == Run::Frozen => {
            Step::Release(held.token, Why::Dead)
        }
        Some(_) => Step::Withdraw,
        None if runs && (stop || *case.run == Run::Frozen) => Step::StopStray,
        None => Step::Wait,
    }
}

/// What a node does with one permit at the end of its lease (F8, F26).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtLeaseEnd {
    /// Stop it, in its turn.
    Stop,
    /// Freeze it.
    Freeze,
    /// Nothing.
    Leave,
    /// Take the node down.
    TakeDown,
}

/// What the end of a lease means for a permit.
pub(super) fn at_lease_end(permit: &Permit) -> AtLeaseEnd {
    if permit.outlasts_the_lease() {
        return AtLeaseEnd::Leave;
    }
    match permit.terms.on_quorum_loss {
        OnQuorumLoss::Stop => AtLeaseEnd::Stop,
        OnQuorumLoss::Freeze => AtLeaseEnd::Freeze,
        OnQuorumLoss::Continue => AtLeaseEnd::Leave,
        OnQuorumLoss::Reboot => AtLeaseEnd::TakeDown,
    }
}

#[cfg(test)]
mod tests;
