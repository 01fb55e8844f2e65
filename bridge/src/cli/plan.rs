//! `convoke plan`: what would happen.

use super::args::Plan;
use super::bus::Bus;
use super::exit::Failure;
use super::out::{self, Style};
use super::{act, look, render};

pub(super) async fn plan(bus: &Bus, verb: Plan, json: bool) -> Result<(), Failure> {
    let full = |units: Vec<String>| units.iter().map(|unit| act::full(unit)).collect::<Result<Vec<_>, _>>();
    let (what, names, from, to) = match verb {
        Plan::Now => ("now", Vec::new(), None, None),
        Plan::Lose { nodes } => ("lose", nodes, None, None),
        Plan::Drain { whom } => ("drain", vec![whom.node.unwrap_or_default()], None, None),
        Plan::Undrain { whom } => ("undrain", vec![whom.node.unwrap_or_default()], None, None),
        Plan::Maintain { what } => ("maintain", what.names(), None, None),
        Plan::Unmaintain { what } => ("unmaintain", what.names(), None, None),
        Plan::Start { units, on } => ("start", full(units)?, None, on),
        Plan::Stop { units } => ("stop", full(units)?, None, None),
        Plan::Move { unit, to, from } => ("move", full(vec![unit])?, from, to),
    };
    let forecast = bus
        .plan(what, &names, from.as_deref().unwrap_or_default(), to.as_deref().unwrap_or_default())
        .await?;
    if json {
        out::json(&forecast);
    } else {
        let style = Style::of_stdout();
        if !forecast.quorum {
            look::aged(&bus.overview().await?, json, style);
        }
        out::print(&render::forecast(&forecast, style));
    }
    if forecast.quorum { Ok(()) } else { Err(look::unconfirmed()) }
}
