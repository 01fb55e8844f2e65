//! The model: real `apply` and `plan`, small machines, a network that delays, loses and repeats.

mod action;
mod check;
mod choice;
mod device;
mod foundation;
mod inventory;
mod letter;
mod machine;
mod memo;
mod next;
mod rules;
mod scene;
mod step;
mod talk;
mod tidy;
mod view;
mod world;

use stateright::{Model, Property};

pub(crate) use action::Action;
use check::{
    ADOPTS, Breach, DEPENDENT, EXPIRES, FENCES, MOVES, OPENS, PLANS, RECOVERS, RETERMS, RETURNS, STARTS,
};
pub(crate) use check::{LEASE, ORDER, PERMIT, PROOF, QUORUM, TWICE, WORD};
use letter::unit_name;
pub(crate) use rules::Rule;
pub(crate) use scene::{Leader, SCENES, Scene};
pub(crate) use world::World;
use world::{NAMES, UNITS};

/// One search: a scene, and perhaps a rule that is left out.
#[derive(Clone, Copy)]
pub(crate) struct Search {
    pub(crate) scene: &'static Scene,
    pub(crate) broken: Option<Rule>,
}

fn kept(world: &World, breach: Breach) -> bool {
    world.breach != Some(breach)
}

impl Model for Search {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::begin(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        World::actions(world, self, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        world.carry_out(self, action);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = Property::<Self>::always;
        let sometimes = Property::<Self>::sometimes;
        let mut properties = vec![
            always(TWICE, |_, world| check::never_twice(world)),
            always(PERMIT, |_, world| check::nothing_without_a_permit(world)),
            always(PROOF, |_, world| kept(world, Breach::Unproven)),
            always(QUORUM, |_, world| kept(world, Breach::Minority)),
            always(LEASE, |_, world| kept(world, Breach::Leaseless)),
            always(ORDER, |_, world| kept(world, Breach::Order)),
            always(WORD, |_, world| kept(world, Breach::Word)),
            always(PLANS, |_, world| kept(world, Breach::Plan)),
        ];
        properties.extend(self.scene.reaches.iter().map(|what| match *what {
            STARTS => sometimes(STARTS, |_, world| check::starts(world)),
            DEPENDENT => sometimes(DEPENDENT, |_, world| check::dependent_starts(world)),
            MOVES => sometimes(MOVES, |_, world| check::moves(world)),
            FENCES => sometimes(FENCES, |_, world| check::fences(world)),
            RECOVERS => sometimes(RECOVERS, |_, world| check::recovers(world)),
            RETURNS => sometimes(RETURNS, |_, world| check::returns(world)),
            EXPIRES => sometimes(EXPIRES, |_, world| check::expires(world)),
            OPENS => sometimes(OPENS, |_, world| check::opens(world)),
            RETERMS => sometimes(RETERMS, |_, world| check::reterms(world)),
            ADOPTS => sometimes(ADOPTS, |_, world| check::adopts(world)),
            other => unreachable!("{other}"),
        }));
        properties
    }
}

impl Search {
    /// The way to a state, action by action, with what holds permits and what runs after each.
    pub(crate) fn story(&self, actions: &[Action]) -> String {
        let mut world = World::begin(self);
        let mut lines = vec![format!("at first: {}", world.summary())];
        for (step, action) in actions.iter().enumerate() {
            world.carry_out(self, *action);
            let refused = world.said.0.as_ref().map_or_else(String::new, |why| format!(" (refused: {why})"));
            lines.push(format!("{:>3}. {action}{refused}\n     {}", step + 1, world.summary()));
        }
        lines.join("\n")
    }
}

impl World {
    /// Who holds permits, and what really runs.
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        for (unit, name) in UNITS.iter().enumerate() {
            let known = self.state().units.get(&unit_name(unit));
            let permits = known.into_iter().flat_map(|unit| &unit.permits);
            let held: Vec<String> = permits
                .map(|(token, permit)| format!("{token} {:?} on {}", permit.phase, permit.incarnation))
                .collect();
            let running =
                self.machines.iter().filter(|machine| machine.power && machine.copies[unit].may_run());
            let copies: Vec<String> = running
                .map(|machine| format!("{:?} on {}", machine.copies[unit].doing, NAMES[machine.node]))
                .collect();
            if !held.is_empty() || !copies.is_empty() {
                parts.push(format!("{name}: permits [{}], really [{}]", held.join(", "), copies.join(", ")));
            }
        }
        if parts.is_empty() { "nothing runs".into() } else { parts.join("; ") }
    }
}
