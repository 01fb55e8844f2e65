//! Who may hold a role next: a unit with `Rank=`, which runs beside one copy of a replicated unit (a database's primary).
//!
//! The heir whose data is the latest, once every heir that may have what the others lack was heard. A grant is the
//! decision: it is committed before the role starts, and `apply` refuses any other. Knows nothing of what a rank counts:
//! the higher, the later, under one identity. Clauses P80 to P85 of `docs/policy.md`; `docs/design/0016-roles-by-rank.md`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::assembly::{Found, Heard, Words};
use crate::maintenance::Scope;
use crate::name::{Incarnation, Millis, NodeId, Token, UnitName};
use crate::node::Node;
use crate::refusal::Refusal;
use crate::state::State;
use crate::unit::{Unit, Wanted};

/// How long the last holder is waited for, if the others are known to do without it: its copy may come back with what
/// nobody else has. As long as a database takes to start anew with a short log; one with a long log is not worth the outage.
pub(crate) const HOLDER_WAIT_MS: Millis = 60_000;

/// A node on which a copy of the replicated unit ran, or may run still, while somebody held the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heir {
    /// In which life it got its latest permit.
    pub incarnation: Incarnation,
    /// That permit.
    pub token: Token,
    /// Index of the entry that ended the copy by a release or a proof. A loss, or time, never does (F16).
    pub ended: Option<u64>,
}

/// How far the holder was, as it said itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its rank.
    pub rank: i64,
    /// Of which history.
    pub identity: String,
    /// Index that its node knew when it began to look.
    pub seen: u64,
}

/// Everything that is remembered of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The replicated unit beside which it runs, whose copies are ranked.
    pub beside: UnitName,
    /// Index of the entry since which nobody holds the role, or since a later maintenance: ranks count that were read after it.
    pub epoch: u64,
    /// When that was.
    pub opened_at: Millis,
    /// Ranks that were heard since.
    pub heard: BTreeMap<NodeId, Heard>,
    /// What operators said since.
    pub words: Words,
    /// Whose data may be the latest.
    pub heirs: BTreeMap<NodeId, Heir>,
    /// Copies that came while nobody held the role, and that time alone has ended: whoever takes it next may be followed by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adrift: BTreeMap<NodeId, Heir>,
    /// Who held the role last.
    pub holder: Option<NodeId>,
    /// How far that one was when it was asked last. Whoever is as far has all that the holder had then, and all that an
    /// heir had which ended before.
    pub mark: Option<Mark>,
}

/// The rank that decides, and who was not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Best {
    pub(crate) rank: i64,
    pub(crate) identity: String,
    pub(crate) without: BTreeSet<NodeId>,
}

fn no<T>(why: String) -> Result<T, Refusal> {
    Err(Refusal::Unsafe(why))
}

impl Succession {
    /// Of a role that nobody held yet.
    pub(crate) fn unknown(beside: UnitName, index: u64, time: Millis) -> Self {
        Self {
            beside,
            epoch: index,
            opened_at: time,
            heard: BTreeMap::new(),
            words: Words::none(),
            heirs: BTreeMap::new(),
            adrift: BTreeMap::new(),
            holder: None,
            mark: None,
        }
    }

    /// Index from which on the holder is to say how far it is: that of its permit, or of the latest end of an heir, which
    /// need not be waited for once somebody is as far.
    #[must_use]
    pub fn mark_due(&self, token: Token) -> Option<u64> {
        let ends = self.heirs.values().filter_map(|heir| heir.ended);
        let after = ends.fold(token.index(), u64::max);
        self.mark.as_ref().is_none_or(|mark| mark.seen < after).then_some(after)
    }

    /// From here on ranks are read anew, and what operators said of them before is void.
    pub(crate) fn open(&mut self, index: u64, time: Millis) {
        (self.epoch, self.opened_at) = (index, time);
        self.heard.clear();
        self.words = Words::none();
    }

    /// A node was taken out of the cluster.
    pub(crate) fn forget_node(&mut self, id: NodeId) {
        self.heard.remove(&id);
        self.heirs.remove(&id);
        self.adrift.remove(&id);
        self.words.without.remove(&id);
        self.words.from.take_if(|(from, _)| *from == id);
    }

    fn reaches_mark(&self, rank: i64, identity: &str) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.identity == identity && rank >= mark.rank)
    }

    /// Whether a copy ended before the holder said how far it was: it has nothing beyond that.
    fn ended_before_mark(&self, heir: &Heir) -> bool {
        self.mark.as_ref().is_some_and(|mark| heir.ended.is_some_and(|ended| ended <= mark.seen))
    }
}

impl State {
    /// A role, what is remembered of it, and the replicated unit beside which it runs.
    pub(crate) fn role(&self, name: &UnitName) -> Option<(&Unit, &Succession, &UnitName)> {
        let unit = self.units.get(name)?;
        unit.definition().filter(|definition| definition.rank)?;
        let succession = unit.succession.as_ref()?;
        Some((unit, succession, &succession.beside))
    }

    /// The rank of a node, if it was said in its present session and its copy is active since.
    pub(crate) fn rank_of<'a>(&self, succession: &'a Succession, id: NodeId) -> Option<(i64, &'a str)> {
        let life = self.nodes.get(&id).and_then(Node::in_session)?;
        let heard = succession.heard.get(&id).filter(|_| {
            // Where people have their hands on the copy it may be another by now.
            self.copy_maintenance(&succession.beside, id).is_none()
        })?;
        let counts = heard.incarnation == life.incarnation && heard.session == life.session && !heard.void;
        match &heard.found {
            Found::Data { rank, identity, .. } if counts => Some((*rank, identity)),
            _ => None,
        }
    }

    /// Index from which on a node is to say its rank of a role, if it is to.
    #[must_use]
    pub fn rank_due(&self, name: &UnitName, id: NodeId) -> Option<u64> {
        let (unit, succession, beside) = self.role(name)?;
        self.nodes.get(&id).and_then(Node::in_session)?;
        if self.rank_maintenance(name, beside, id).is_some() {
            return None;
        }
        if let Some((token, permit)) = unit.permit_on(id) {
            let active = permit.active_at.is_some() && !permit.is_revoking();
            return succession.mark_due(token).filter(|_| active);
        }
        let copy = self.known_active(beside).any(|(_, permit)| permit.node == id && !permit.is_revoking());
        let asked = unit.goal.wanted == Wanted::Started && unit.permits.is_empty() && copy;
        (asked && self.rank_of(succession, id).is_none()).then_some(succession.epoch)
    }

    /// What keeps the cluster's hands off a role, or off the copy beside it: how far that is may change at any time.
    pub(crate) fn rank_maintenance(&self, role: &UnitName, beside: &UnitName, id: NodeId) -> Option<Scope> {
        self.copy_maintenance(role, id).or_else(|| self.unit_maintenance(beside))
    }

    /// Until when the last holder is waited for at most (F6: counted within one leader's term).
    #[must_use]
    pub fn holder_wait_ends(&self, succession: &Succession) -> Option<Millis> {
        Some(succession.opened_at.max(self.tenure?.since).saturating_add(HOLDER_WAIT_MS))
    }

    /// Heirs that are waited for: none of those that were heard is known to have all that they may have.
    #[must_use]
    pub fn awaited_heirs(&self, name: &UnitName, now: Millis) -> Vec<NodeId> {
        let Some((_, succession, beside)) = self.role(name) else { return Vec::new() };
        let ranks = self.ranks(succession);
        let reached = ranks.iter().any(|(_, rank, identity)| succession.reaches_mark(*rank, identity));
        let spared = |id: NodeId, heir: &Heir| {
            if !reached {
                return false;
            }
            if succession.holder != Some(id) {
                return succession.ended_before_mark(heir);
            }
            // The last holder is expected only while its copy may come back soon.
            let here = self.nodes.get(&id).and_then(Node::in_session).is_some();
            let copy = self.units.get(beside).is_some_and(|unit| unit.permit_on(id).is_some());
            !here || !copy || self.holder_wait_ends(succession).is_some_and(|ends| ends <= now)
        };
        let heirs = succession.heirs.iter();
        let awaited = heirs.filter(|(id, heir)| {
            !succession.words.without.contains_key(id)
                && self.rank_of(succession, **id).is_none()
                && !spared(**id, heir)
        });
        awaited.map(|(id, _)| *id).collect()
    }

    /// A role that is vacant and waits for a node.
    pub(crate) fn role_awaits(&self, id: NodeId, now: Millis) -> Option<&UnitName> {
        let vacant =
            self.units.iter().filter(|(_, unit)| unit.succession.is_some() && unit.permits.is_empty());
        vacant.map(|(name, _)| name).find(|name| self.awaited_heirs(name, now).contains(&id))
    }

    /// Ranks of heirs that count.
    fn ranks<'a>(&self, succession: &'a Succession) -> Vec<(NodeId, i64, &'a str)> {
        let heirs = succession.heirs.keys().filter(|id| !succession.words.without.contains_key(id));
        heirs.filter_map(|id| self.rank_of(succession, *id).map(|(rank, of)| (*id, rank, of))).collect()
    }

    /// The rank that whoever takes the role has to have, or what is missing to know it. `None` for a unit without `Rank=`.
    pub(crate) fn best_rank(&self, name: &UnitName, now: Millis) -> Result<Option<Best>, Refusal> {
        let Some((_, succession, _)) = self.role(name) else {
            let ranked = self.units.get(name).and_then(Unit::definition).is_some_and(|it| it.rank);
            return if ranked { no("nothing is known of its ranks yet".to_string()) } else { Ok(None) };
        };
        if let Some((id, _)) = &succession.words.from {
            let node = self.node_name(*id);
            let Some((rank, identity)) = self.rank_of(succession, *id) else {
                return no(format!("an operator chose {node}, which has not said its rank"));
            };
            let others = succession.heirs.keys().filter(|other| *other != id);
            let without = others.filter(|other| self.rank_of(succession, **other).is_none()).copied();
            return Ok(Some(Best { rank, identity: identity.to_string(), without: without.collect() }));
        }
        if succession.heirs.is_empty() {
            return no("nobody ever held it: an operator says whose data it begins with".to_string());
        }
        if let Some(id) = self.awaited_heirs(name, now).first() {
            return no(format!("{} may have later data, and has not said its rank", self.node_name(*id)));
        }
        let ranks = self.ranks(succession);
        let Some((first, _, one)) = ranks.first() else {
            return no("none of those that may have the latest data is there".to_string());
        };
        if let Some((other, _, another)) = ranks.iter().find(|(_, _, identity)| identity != one) {
            let (a, b) = (self.node_name(*first), self.node_name(*other));
            let why = format!("{a} and {b} have two histories ({one}, {another}): their ranks say nothing");
            return no(why);
        }
        let rank = ranks.iter().map(|(_, rank, _)| *rank).max().unwrap_or(i64::MIN);
        let silent = |id: &&NodeId| self.rank_of(succession, **id).is_none();
        let without = succession.heirs.keys().filter(silent).copied().collect();
        Ok(Some(Best { rank, identity: (*one).to_string(), without }))
    }

    /// Whether this node may take the role: nobody's rank is higher.
    pub(crate) fn has_rank(&self, name: &UnitName, id: NodeId, best: &Best) -> Result<(), Refusal> {
        let Some((_, succession, _)) = self.role(name) else { return Ok(()) };
        let node = self.node_name(id);
        if let Some((from, _)) = succession.words.from.as_ref().filter(|(from, _)| *from != id) {
            return no(format!("an operator chose {}", self.node_name(*from)));
        }
        let chosen = succession.words.from.is_some();
        if !chosen && !succession.heirs.contains_key(&id) {
            return no(format!("{node} had no copy while somebody held it last: its data is older"));
        }
        if succession.words.without.contains_key(&id) && !chosen {
            return no(format!("an operator does without {node}"));
        }
        match self.rank_of(succession, id) {
            None => no(format!("{node} has not said its rank")),
            Some((rank, _)) if rank < best.rank => {
                no(format!("{node} is behind: its rank is {rank}, and the best is {}", best.rank))
            }
            Some(_) => Ok(()),
        }
    }
}
