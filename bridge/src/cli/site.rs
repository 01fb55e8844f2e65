//! `convoke drain --cluster` and `undrain --cluster`: the whole site off, and on again, with what happens on the way.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

use super::act;
use super::args::Wait;
use super::bus::Bus;
use super::exit::Failure;
use super::judge::{self, Progress, Verdict, Way};
use super::out;
use crate::api::model::Overview;

/// For all to stop: databases one copy after another, each in its time.
pub(super) const OFF: Duration = Duration::from_secs(3_600);

pub(super) async fn off(bus: &Bus, wait: &Wait) -> Result<(), Failure> {
    let until = Instant::now() + wait.timeout;
    let before = bus.confirmed().await?;
    act::answer(until, wait, bus.0.drain_cluster()).await?;
    out::say("the whole cluster is drained: all stops in the reverse order of its start, and nothing starts");
    walk(bus, wait, until, Progress::from(&before, Way::Off), judge::off).await
}

pub(super) async fn on(bus: &Bus, wait: &Wait) -> Result<(), Failure> {
    let until = Instant::now() + wait.timeout;
    let before = bus.confirmed().await?;
    act::answer(until, wait, bus.0.undrain_cluster()).await?;
    let text = match &before.drained {
        Some(by) => format!("the cluster is drained no more, as it was by {by}: all starts in its order"),
        None => "the cluster was not drained as a whole".to_owned(),
    };
    out::say(&text);
    walk(bus, wait, until, Progress::from(&before, Way::On), judge::on).await
}

/// Tells each step, and the end.
async fn walk(
    bus: &Bus,
    wait: &Wait,
    until: Instant,
    progress: Progress,
    judge: impl Fn(&Overview) -> Verdict,
) -> Result<(), Failure> {
    let progress = RefCell::new(progress);
    let told = |picture: &Overview| {
        if picture.quorum {
            progress.borrow_mut().news(picture).iter().for_each(|line| out::say(line));
        }
        judge(picture)
    };
    if let Some(text) = act::follow_by(bus, wait, until, ("the cluster", "convoke status"), told).await? {
        out::say(&text);
    }
    Ok(())
}
