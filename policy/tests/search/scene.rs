//! Where searches begin, what may go wrong in them, and how deep they go.

use std::sync::Arc;

use policy::Fencing;

use super::Search;
use super::action::Action;
use super::check::{ADOPTS, DEPENDENT, EXPIRES, FENCES, MOVES, OPENS, RECOVERS, RETERMS, RETURNS, STARTS};
use super::choice::Choice;
use super::letter::{Letter, Outcome};
use super::machine::{Doing, Machine};
use super::world::{APP, DB, FAULTS, Fault, Held, NODES, Said, World};

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    /// The real planner.
    Planner,
    /// Anybody: every decision that `apply` takes is tried, at any time.
    Any,
}

/// Where a search begins. Everything before its first step was reached by the same actions.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) leader: Leader,
    pub(crate) fencing: Fencing,
    /// Whether the second unit is wanted as well.
    pub(crate) app: bool,
    /// A machine whose plug is wired to nothing.
    pub(crate) wrong_plug: Option<usize>,
    /// The device only cuts machines off.
    pub(crate) isolates: bool,
    /// Machines have two feeds, each with a device of its own, on one level. A wrong plug is one of the second.
    pub(crate) feeds: bool,
    /// The files change: at first copies go on without a quorum, and need a proof.
    pub(crate) rewrites: bool,
    /// Changes the machines before anybody is heard.
    pub(crate) before: fn(&mut World),
    /// Leads to the first state.
    pub(crate) prefix: fn(&mut World, &Search),
    pub(crate) faults: &'static [(Fault, u8)],
    /// Steps that are searched exhaustively by default.
    pub(crate) depth: usize,
    /// What must be reached within them.
    pub(crate) reaches: &'static [&'static str],
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

const PLAIN: Scene = Scene {
    name: "",
    leader: Leader::Any,
    fencing: Fencing::Required,
    app: false,
    wrong_plug: None,
    isolates: false,
    feeds: false,
    rewrites: false,
    before: |_| {},
    prefix: settled,
    faults: &[],
    depth: 8,
    reaches: &[],
};

pub(crate) static SCENES: &[Scene] = &[
    Scene {
        name: "messages",
        prefix: |world, search| {
            settled(world, search);
            granted(world, search, DB, A);
        },
        faults: &[(Fault::Late, 1), (Fault::Again, 1), (Fault::Crash, 1), (Fault::Drop, 1)],
        depth: 7,
        reaches: &[STARTS],
        ..PLAIN
    },
    Scene {
        name: "loss",
        prefix: on_a,
        faults: &[(Fault::Cut, 1), (Fault::Power, 1), (Fault::Boot, 1), (Fault::Hang, 1)],
        depth: 8,
        reaches: &[FENCES, RETURNS],
        ..PLAIN
    },
    Scene {
        name: "recovery",
        prefix: |world, search| {
            on_a(world, search);
            world.carry_out(search, Action::Hang(A));
            world.carry_out(search, Action::Tick { slow: false });
            world.carry_out(search, Action::Lose(A));
        },
        faults: &[(Fault::Fence, 1), (Fault::Boot, 1), (Fault::Elect, 1), (Fault::Wish, 1)],
        depth: 7,
        reaches: &[FENCES, MOVES, RECOVERS, RETURNS],
        ..PLAIN
    },
    Scene {
        name: "isolation",
        prefix: |world, search| {
            on_a(world, search);
            world.carry_out(search, Action::Hang(A));
            world.carry_out(search, Action::Tick { slow: false });
            world.carry_out(search, Action::Lose(A));
            let life = world.known_life(A).expect("a life");
            world.carry_out(search, Action::Decide(Choice::Open { life }));
            let case = world.state().cases.keys().next().expect("a case").0;
            let executor = world.known_life(B).expect("a life");
            world.carry_out(search, Action::Decide(Choice::Begin { case, executor }));
            assert!(world.said.0.is_none(), "{:?}", world.said.0);
        },
        isolates: true,
        fencing: Fencing::Isolated,
        faults: &[(Fault::Fence, 1), (Fault::Boot, 1), (Fault::Power, 1)],
        depth: 7,
        reaches: &[EXPIRES, RETURNS, OPENS],
        ..PLAIN
    },
    Scene {
        name: "wrong plug",
        prefix: on_a,
        wrong_plug: Some(A),
        faults: &[(Fault::Hang, 1), (Fault::Cut, 1), (Fault::Boot, 1)],
        depth: 9,
        ..PLAIN
    },
    Scene {
        name: "feeds",
        prefix: |world, search| {
            on_a(world, search);
            world.carry_out(search, Action::Hang(A));
            world.carry_out(search, Action::Tick { slow: false });
            world.carry_out(search, Action::Lose(A));
        },
        wrong_plug: Some(A),
        feeds: true,
        faults: &[(Fault::Power, 1), (Fault::Boot, 1), (Fault::Fence, 1), (Fault::Wish, 1)],
        depth: 7,
        reaches: &[MOVES, RETURNS],
        ..PLAIN
    },
    Scene {
        name: "restart",
        prefix: |world, search| {
            settled(world, search);
            granted(world, search, DB, A);
        },
        faults: &[(Fault::Restart, 1), (Fault::Crash, 1), (Fault::Wish, 1)],
        depth: 7,
        reaches: &[STARTS, MOVES],
        ..PLAIN
    },
    Scene {
        name: "restart alone",
        prefix: |world, search| {
            on_a(world, search);
            world.carry_out(search, Action::Cut(A));
            world.carry_out(search, Action::Tick { slow: false });
        },
        fencing: Fencing::Lease,
        faults: &[(Fault::Restart, 1), (Fault::Crash, 1)],
        depth: 9,
        reaches: &[EXPIRES],
        ..PLAIN
    },
    Scene {
        name: "clock stands",
        prefix: |world, search| {
            on_a(world, search);
            world.carry_out(search, Action::Cut(A));
        },
        faults: &[(Fault::Still, 2), (Fault::Crash, 1), (Fault::Boot, 1)],
        depth: 8,
        reaches: &[FENCES],
        ..PLAIN
    },
    Scene {
        name: "terms",
        prefix: |world, search| {
            on_a(world, search);
            world.rewritten = true;
            for node in [A, B, C] {
                let inventory = world.machines[node].inventory();
                world.post(inventory);
                deliver_all(world, search);
            }
            world.adopt();
            world.carry_out(search, Action::Cut(A));
            world.carry_out(search, Action::Tick { slow: false });
            world.carry_out(search, Action::LeaseEnds(A));
            world.carry_out(search, Action::Lose(A));
        },
        fencing: Fencing::Lease,
        rewrites: true,
        faults: &[(Fault::Cut, 1), (Fault::Again, 1), (Fault::Elect, 1)],
        depth: 7,
        reaches: &[RETERMS],
        ..PLAIN
    },
    Scene {
        name: "lives",
        prefix: third_life,
        faults: &[(Fault::Cut, 1), (Fault::Twin, 1), (Fault::Again, 1)],
        depth: 7,
        reaches: &[RETURNS],
        ..PLAIN
    },
    Scene {
        name: "lease",
        prefix: |world, search| {
            on_a(world, search);
            world.carry_out(search, Action::Cut(A));
            world.carry_out(search, Action::Tick { slow: false });
            world.carry_out(search, Action::LeaseEnds(A));
            world.carry_out(search, Action::Lose(A));
        },
        fencing: Fencing::Lease,
        faults: &[(Fault::Elect, 1), (Fault::Jump, 1), (Fault::Slow, 1)],
        depth: 7,
        reaches: &[EXPIRES],
        ..PLAIN
    },
    Scene {
        name: "watchdog",
        prefix: |world, search| {
            on_a(world, search);
            world.carry_out(search, Action::Hang(A));
            world.carry_out(search, Action::Tick { slow: false });
            world.carry_out(search, Action::Lose(A));
            // Its watchdog is about to fire.
            for _ in 0..5 {
                world.carry_out(search, Action::Tick { slow: false });
            }
        },
        fencing: Fencing::Watchdog,
        faults: &[(Fault::Close, 1)],
        depth: 12,
        ..PLAIN
    },
    Scene {
        name: "late loss",
        prefix: late_loss,
        fencing: Fencing::Lease,
        faults: &[(Fault::Again, 1), (Fault::Elect, 1)],
        depth: 7,
        ..PLAIN
    },
    Scene {
        name: "late view",
        prefix: |world, search| {
            settled(world, search);
            granted(world, search, DB, A);
            world.carry_out(search, Action::DelayView(A));
            world.carry_out(search, Action::Cut(A));
        },
        fencing: Fencing::Lease,
        faults: &[(Fault::Again, 1), (Fault::Drop, 1)],
        depth: 8,
        ..PLAIN
    },
    Scene {
        name: "adoption",
        fencing: Fencing::Lease,
        before: |world| world.machines[A].copies[DB].doing = Doing::Running,
        faults: &[(Fault::Cut, 1), (Fault::Crash, 1)],
        depth: 11,
        reaches: &[ADOPTS],
        ..PLAIN
    },
    Scene {
        name: "boot",
        before: |world| {
            world.machines[B].copies[DB].doing = Doing::Running;
            let stranger = &mut world.machines[C].copies[APP];
            (stranger.doing, stranger.offered, stranger.gated) = (Doing::Running, false, false);
        },
        app: true,
        prefix: |world, search| {
            world.carry_out(search, Action::Hello(A));
            deliver_all(world, search);
            world.adopt();
        },
        faults: &[(Fault::Again, 1), (Fault::Power, 1)],
        depth: 8,
        reaches: &[ADOPTS],
        ..PLAIN
    },
    Scene {
        name: "order",
        app: true,
        faults: &[(Fault::Crash, 1), (Fault::Wish, 2), (Fault::Cut, 1)],
        depth: 7,
        reaches: &[STARTS, DEPENDENT],
        ..PLAIN
    },
    Scene {
        name: "the planner",
        leader: Leader::Planner,
        app: true,
        prefix: on_a,
        faults: &[(Fault::Cut, 1), (Fault::Power, 1), (Fault::Boot, 1), (Fault::Crash, 1), (Fault::Wish, 1)],
        depth: 7,
        reaches: &[DEPENDENT, FENCES],
        ..PLAIN
    },
    Scene {
        name: "everything",
        app: true,
        prefix: on_a,
        faults: &[
            (Fault::Cut, 1),
            (Fault::Power, 1),
            (Fault::Boot, 1),
            (Fault::Hang, 1),
            (Fault::Drop, 1),
            (Fault::Elect, 1),
            (Fault::Slow, 1),
            (Fault::Late, 1),
            (Fault::Again, 1),
            (Fault::Crash, 1),
            (Fault::Fence, 1),
            (Fault::Twin, 1),
            (Fault::Wish, 1),
        ],
        depth: 4,
        reaches: &[DEPENDENT],
        ..PLAIN
    },
];

impl World {
    pub(crate) fn begin(search: &Search) -> Self {
        let mut world = Self {
            held: Arc::new(Held::new(Self::founded(search.scene))),
            machines: [0, 1, 2].map(Machine::new),
            leader: B,
            answered: [0; NODES],
            dismissed: [false; NODES],
            rewritten: false,
            session: 0,
            letters: Vec::new(),
            views: Vec::new(),
            done: Vec::new(),
            strikes: [false; NODES],
            opened: [0; NODES],
            opens_late: [0; NODES],
            left: [9; FAULTS],
            breach: None,
            said: Said::default(),
        };
        // What leads to the first state is never broken.
        let search = Search { broken: None, ..*search };
        (search.scene.before)(&mut world);
        world.tidy();
        (search.scene.prefix)(&mut world, &search);
        world.left = [0; FAULTS];
        for (fault, times) in search.scene.faults {
            world.left[*fault as usize] = *times;
        }
        assert!(world.breach.is_none(), "{:?} before the first step", world.breach);
        world
    }
}

/// Delivers everything but what a scene wants to hang on its way.
fn deliver_all(world: &mut World, search: &Search) {
    let hangs = |letter: &Letter| {
        matches!(
            letter,
            Letter::Heard { .. } | Letter::Lost { .. } | Letter::Fenced { .. } | Letter::Vouched { .. }
        )
    };
    while let Some(letter) = world.letters.iter().find(|letter| !hangs(letter)).copied() {
        world.carry_out(search, Action::Deliver { letter, again: false });
    }
}

/// Everybody is heard, and nothing was granted yet.
fn settled(world: &mut World, search: &Search) {
    for node in [A, B, C] {
        world.carry_out(search, Action::Hello(node));
        deliver_all(world, search);
    }
    world.adopt();
    for node in [A, B, C] {
        world.carry_out(search, Action::Observe(node));
        tell(world, search, node);
    }
}

fn tell(world: &mut World, search: &Search, node: usize) {
    world.carry_out(search, Action::Tell(node));
    deliver_all(world, search);
}

fn granted(world: &mut World, search: &Search, unit: usize, node: usize) {
    let life = world.known_life(node).expect("a life");
    world.carry_out(search, Action::Decide(Choice::Grant { unit, life, adopt: false }));
    assert!(world.said.0.is_none(), "{:?}", world.said.0);
}

/// The database runs on a.
fn on_a(world: &mut World, search: &Search) {
    settled(world, search);
    granted(world, search, DB, A);
    tell(world, search, A);
}

/// The database runs in the third life of a, while messages of the others are still under way: the second was never
/// heard, but its hellos of an earlier term and of this one may still come, and so may the word of a fence, and an
/// operator's, that the new life overtook.
fn third_life(world: &mut World, search: &Search) {
    settled(world, search);
    world.carry_out(search, Action::PowerOff(A));
    world.carry_out(search, Action::Boot(A));
    // Said again and again, so that its session has a higher number than the first ones of the next term.
    for _ in 0..3 {
        world.carry_out(search, Action::LateHello(A));
    }
    world.carry_out(search, Action::Elect { node: C, jump: false });
    world.carry_out(search, Action::LateHello(A));
    world.carry_out(search, Action::PowerOff(A));
    world.carry_out(search, Action::Tick { slow: false });
    world.carry_out(search, Action::Lose(A));
    let life = world.known_life(A).expect("a life");
    world.carry_out(search, Action::Vouch(A));
    world.carry_out(search, Action::Decide(Choice::Open { life }));
    let case = world.state().cases.keys().next().expect("a case").0;
    let executor = world.known_life(B).expect("a life");
    world.carry_out(search, Action::Decide(Choice::Begin { case, executor }));
    world.carry_out(search, Action::Fence(A, Outcome::Off));
    world.carry_out(search, Action::Boot(A));
    for node in [A, B, C] {
        world.carry_out(search, Action::Hello(node));
        deliver_all(world, search);
    }
    // Of the hellos of the earlier term, all but the last are lost.
    let hellos = world.letters.iter().filter(|letter| matches!(letter, Letter::Heard { term: 1, .. }));
    let last = hellos.copied().max();
    world.letters.retain(|letter| !matches!(letter, Letter::Heard { term: 1, .. }) || Some(*letter) == last);
    for _ in 0..3 {
        world.carry_out(search, Action::Tick { slow: false });
    }
    world.carry_out(search, Action::Observe(A));
    granted(world, search, DB, A);
    tell(world, search, A);
}

/// The database runs on a, while the loss of its earlier session hangs on its way.
fn late_loss(world: &mut World, search: &Search) {
    settled(world, search);
    world.carry_out(search, Action::Drop(A));
    world.carry_out(search, Action::Tick { slow: false });
    world.carry_out(search, Action::LeaseEnds(A));
    world.carry_out(search, Action::LateLoss(A));
    world.carry_out(search, Action::Hello(A));
    deliver_all(world, search);
    granted(world, search, DB, A);
    tell(world, search, A);
}
