//! `convoke maintain` and `unmaintain`: what the cluster keeps its hands off.

use super::args::What;
use super::bus::Bus;
use super::exit::Failure;
use super::out;

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
    for name in what.names() {
        bus.0.unmaintain(&name).await?;
        out::say(&format!("{} is in maintenance no more", called(&name)));
    }
    Ok(())
}

fn called(name: &str) -> &str {
    if name.is_empty() { "the cluster" } else { name }
}
