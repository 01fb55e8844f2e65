//! What would happen, and what is in maintenance.

use policy::{First, NodeId, Scope, Suppose, UnitName, Wanted, Wish};

use super::offers::offer;
use super::{Lines, World};

impl World {
    /// What would happen, with the time that has passed by then; and what would wait at the end.
    pub(super) fn forecast(&self, what: &[&str]) -> Lines {
        let by = "ann".to_string();
        let node = |name: &&str| self.node(name);
        let goal = |unit: &&str, wanted| {
            Suppose::Asked(Wish::SetGoal {
                unit: Self::unit(unit),
                wanted,
                node: None,
                seen: None,
                by: "ann".into(),
            })
        };
        let supposed: Vec<Suppose> = match what {
            [] => Vec::new(),
            ["lose", names @ ..] => {
                names.iter().map(|name| node(name).map(Suppose::Lost)).collect::<Result<_, _>>()?
            }
            [verb @ ("drain" | "undrain"), name] => {
                let node = if *name == "cluster" { None } else { Some(node(name)?) };
                vec![Suppose::Asked(Wish::SetDrained { node, drained: *verb == "drain", by })]
            }
            [verb @ ("maintain" | "unmaintain"), rest @ ..] => {
                vec![Suppose::Asked(self.maintenance(rest, *verb == "maintain")?)]
            }
            ["start", units @ ..] => units.iter().map(|unit| goal(unit, Wanted::Started)).collect(),
            ["stop", units @ ..] => units.iter().map(|unit| goal(unit, Wanted::Stopped)).collect(),
            ["move", unit, "to", to] => {
                let (unit, to) = (Self::unit(unit), Some(node(to)?));
                vec![Suppose::Asked(Wish::Move { unit, from: None, to, by })]
            }
            ["adopt", unit, "from", name] => {
                let (unit, node) = (Self::unit(unit), node(name)?);
                vec![Suppose::Asked(Wish::AdoptFrom { unit, node, by })]
            }
            ["define", unit, "on", name, keys @ ..] => vec![self.defined(unit, name, keys)?],
            ["define", unit, keys @ ..] => vec![self.defined(unit, "a", keys)?],
            other => return Err(format!("no supposition {other:?}")),
        };
        let before = self.state.clone();
        let forecast = match policy::forecast(self.state.clone(), self.time, &supposed, || true) {
            Ok(forecast) => forecast,
            Err(refusal) => return Ok(vec![format!("refused: {refusal}")]),
        };
        assert!(before == self.state, "a forecast touched the state");
        let mut world = self.clone();
        world.time = forecast.now;
        world.state = forecast.state;
        world.kept.forget();
        let mut lines = Vec::new();
        for event in &forecast.steps {
            world.name_event(event);
            let after = event.time.saturating_sub(self.time);
            lines.push(format!("+{after} ms {}", world.event(event)));
        }
        lines.extend(world.waits());
        lines.push(format!("{:?}", forecast.end));
        Ok(lines)
    }

    /// The files say this wherever they are; on one node alone where they are nowhere.
    fn defined(&self, unit: &str, alone: &str, keys: &[&str]) -> Result<Suppose, String> {
        let (unit, node, offer) = (Self::unit(unit), self.node(alone)?, offer(keys)?);
        let definition = offer.definition.ok_or("a fault says nothing")?;
        let first = First { node, enabled: offer.enabled, running: keys.contains(&"running") };
        Ok(Suppose::Offered { unit, definition, first })
    }

    /// `a`, `unit db` or `cluster`; what for comes after `for`.
    pub(super) fn maintenance(&self, words: &[&str], begins: bool) -> Result<Wish, String> {
        let by = "ann".to_string();
        let (scope, rest) = match words {
            ["cluster", rest @ ..] => (Scope::Cluster, rest),
            ["unit", unit, rest @ ..] => (Scope::Unit(Self::unit(unit)), rest),
            [name, rest @ ..] => (Scope::Node(self.node(name)?), rest),
            [] => return Err("maintenance of what?".into()),
        };
        Ok(match rest {
            [] if begins => Wish::BeginMaintenance { scope, reason: None, by },
            ["for", what @ ..] if begins => {
                Wish::BeginMaintenance { scope, reason: Some(what.join(" ")), by }
            }
            [] => Wish::EndMaintenance { scope, by },
            other => return Err(format!("no reason {other:?}")),
        })
    }

    /// Which nodes are held back, and for how long.
    pub(super) fn held_back(&self) -> Vec<String> {
        let held = |id: &NodeId| {
            let left = self.state.held_back(*id, self.time)?.saturating_sub(self.time);
            Some(format!("{} for {left} ms", self.name(*id)))
        };
        let lines: Vec<String> = self.state.nodes.keys().filter_map(held).collect();
        if lines.is_empty() { vec!["nobody".into()] } else { lines }
    }

    /// Alarms that stand.
    pub(super) fn alarms(&self) -> Vec<String> {
        let alarms = self.state.alarms.iter();
        alarms.map(|(kind, alarm)| self.rename(&format!("{kind:?}: {}", alarm.detail))).collect()
    }

    /// How a node's last life ended, as its agent is told.
    pub(super) fn told(&self, name: &str) -> Lines {
        let Some(ended) = self.state.view(self.node(name)?).ended else { return Ok(vec!["nothing".into()]) };
        let held: Vec<&str> = ended.held.iter().map(UnitName::as_str).collect();
        let held = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
        let silent = ended.silent_wall_ms.map(|at| format!(", silent for {} ms", ended.wall_ms - at));
        Ok(vec![format!("{ended}{}; it held {held}", silent.unwrap_or_default())])
    }

    /// The copies that a node's agent is told to leave alone.
    pub(super) fn left_alone(&self, name: &str) -> Lines {
        let view = self.state.view(self.node(name)?);
        let alone = view.permits.iter().filter(|permit| permit.hands_off);
        let named = |unit: &UnitName, token| format!("{unit} under {}", self.t(token));
        Ok(alone.map(|permit| named(&permit.unit, permit.token)).collect())
    }
}
