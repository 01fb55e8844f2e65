//! What was worked out before: many worlds share one replicated state, and meet the same entries.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use policy::Refusal;

use super::choice::Choice;
use super::world::Held;

/// States that are kept for their own sake.
const KEPT: usize = 20_000;

/// A state, and what is done to it.
type Key = (u64, u64);

#[derive(Default)]
struct Memo {
    applied: BTreeMap<Key, (Arc<Held>, Result<(), Refusal>)>,
    renumbered: BTreeMap<Key, Arc<Held>>,
    accepted: BTreeMap<Key, Arc<Vec<Choice>>>,
    known: BTreeMap<u64, Weak<Held>>,
}

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::default();
}

pub(crate) fn key(held: &Held, what: impl Hash) -> Key {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    (held.print(), hasher.finish())
}

/// The one copy of a state.
fn one(memo: &mut Memo, held: Held) -> Arc<Held> {
    let print = held.print();
    if let Some(known) = memo.known.get(&print).and_then(Weak::upgrade) {
        return known;
    }
    let held = Arc::new(held);
    memo.known.insert(print, Arc::downgrade(&held));
    held
}

pub(crate) fn applied(
    key: Key,
    apply: impl FnOnce() -> (Held, Result<(), Refusal>),
) -> (Arc<Held>, Result<(), Refusal>) {
    MEMO.with_borrow_mut(|memo| {
        if let Some(known) = memo.applied.get(&key) {
            return known.clone();
        }
        let (held, outcome) = apply();
        let outcome = (one(memo, held), outcome);
        if memo.applied.len() > KEPT {
            memo.applied.clear();
            memo.known.retain(|_, held| held.strong_count() > 0);
        }
        memo.applied.insert(key, outcome.clone());
        outcome
    })
}

pub(crate) fn renumbered(key: Key, renumber: impl FnOnce() -> Held) -> Arc<Held> {
    MEMO.with_borrow_mut(|memo| {
        if let Some(known) = memo.renumbered.get(&key) {
            return known.clone();
        }
        let held = one(memo, renumber());
        if memo.renumbered.len() > KEPT {
            memo.renumbered.clear();
        }
        memo.renumbered.insert(key, held.clone());
        held
    })
}

pub(crate) fn accepted(key: Key, find: impl FnOnce() -> Vec<Choice>) -> Arc<Vec<Choice>> {
    MEMO.with_borrow_mut(|memo| {
        if memo.accepted.len() > KEPT {
            memo.accepted.clear();
        }
        memo.accepted.entry(key).or_insert_with(|| Arc::new(find())).clone()
    })
}
