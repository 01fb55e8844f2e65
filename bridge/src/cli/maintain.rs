//! `convoke maintain` and `unmaintain`: what the cluster keeps its hands off.

use super::args::What;
use super::bus::Bus;
use super::exit::Failure;
use super::out;
use crate::api::model::{MaintenanceLine, Overview};

pub(super) async fn begin(bus: &Bus, what: &What, reason: &str) -> Result<(), Failure> {
    for name in what.names() {
        bus.0.maintain(&name, reason).await?;
        let ends = if name.is_empty() { "--cluster" } else { &name };
        out::say(&format!(
            "{} is in maintenance: the cluster leaves it alone until `convoke unmaintain {ends}`",
            called(&name)
        ));
    }
    Ok(())
}

pub(super) async fn end(bus: &Bus, what: &What) -> Result<(), Failure> {
    let before = bus.confirmed().await?;
    for name in what.names() {
        bus.0.unmaintain(&name).await?;
        out::say(&ended(&before, &name));
    }
    Ok(())
}

fn called(name: &str) -> &str {
    if name.is_empty() { "the cluster" } else { name }
}

/// What became of it: it may not have been in maintenance by itself, and the whole cluster's may go on.
fn ended(before: &Overview, name: &str) -> String {
    let full = format!("{name}.service");
    let is_named = |line: &MaintenanceLine| match line.name.as_deref() {
        None => name.is_empty(),
        Some(of) => of == name || of == full,
    };
    let own = before.maintenance.iter().any(is_named);
    let whole = !name.is_empty() && before.maintenance.iter().any(|line| line.name.is_none());
    let called = called(name);
    match (own, whole) {
        (true, false) => format!("{called} is in maintenance no more"),
        (false, false) => format!("{called} was not in maintenance"),
        (_, true) => {
            format!(
                "{called} is still in maintenance: the whole cluster is, until `convoke unmaintain --cluster`"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::samples;

    #[test]
    fn what_is_not_over_is_not_said_to_be() {
        let line = |name: Option<&str>| MaintenanceLine {
            kind: if name.is_some() { "unit" } else { "cluster" }.to_owned(),
            name: name.map(str::to_owned),
            by: "alice".to_owned(),
            reason: None,
            since_wall_ms: 0,
            text: String::new(),
            remedy: String::new(),
        };
        let mut picture = samples::picture();
        assert_eq!(ended(&picture, "db"), "db was not in maintenance");
        picture.maintenance = vec![line(Some("db.service"))];
        assert_eq!(ended(&picture, "db"), "db is in maintenance no more");
        assert_eq!(ended(&picture, ""), "the cluster was not in maintenance");
        picture.maintenance.push(line(None));
        assert!(ended(&picture, "db").contains("unmaintain --cluster"));
        assert_eq!(ended(&picture, ""), "the cluster is in maintenance no more");
    }
}
