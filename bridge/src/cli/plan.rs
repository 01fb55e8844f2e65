//! `convoke plan`: what would happen.

use units::systemd::Systemd;

use super::args::Plan;
use super::bus::Bus;
use super::exit::{Code, Failure};
use super::out::{self, Style};
use super::{act, look, render};
use crate::api::Files;

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
        Plan::Adopt { unit, from } => ("adopt", full(vec![unit])?, Some(from), None),
        Plan::Define { unit } => {
            let unit = act::full(&unit)?;
            let files = on_disk(&unit, json)?;
            let files = Files { running: runs(&unit).await, ..files };
            ("define", vec![unit], Some(files.to_text()), None)
        }
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

/// What this machine's files say of a unit now, whether or not PID 1 has read them. What is wrong in them is told as
/// `convoke verify` tells it.
fn on_disk(unit: &str, json: bool) -> Result<Files, Failure> {
    let found = units::unit("/".as_ref(), unit);
    if let Some(files) = found.as_ref().and_then(Files::of) {
        return Ok(files);
    }
    super::verify(&[unit.to_owned()], json)?;
    // Between the two looks somebody has mended them.
    Err(Failure::new(Code::Failed, format!("the files of {unit} are being changed"))
        .hint("ask again in a moment"))
}

/// Whether it runs here: then the cluster would take that copy over. Where PID 1 does not say, it is not supposed.
async fn runs(unit: &str) -> bool {
    let Ok((systemd, _signals)) = Systemd::connect().await else { return false };
    systemd.read(unit).await.is_ok_and(|reading| !reading.active_state.is_down())
}
