//! The client's end of `org.convoke1`.

use std::time::Duration;

use serde::de::DeserializeOwned;
use zbus::connection;

use super::exit::{Code, Failure};
use crate::api::model::{Forecast, HistoryLine, Overview, UnitWhy};

/// Longer than the daemon takes for anything, so that its own words are heard.
const CALL_LIMIT: Duration = Duration::from_secs(30);

#[zbus::proxy(
    interface = "org.convoke1.Manager",
    default_service = "org.convoke1",
    default_path = "/org/convoke1",
    gen_blocking = false
)]
pub(super) trait Manager {
    fn start(&self, unit: &str, node: &str) -> zbus::Result<u64>;
    fn stop(&self, unit: &str) -> zbus::Result<u64>;
    #[zbus(name = "Move")]
    fn move_unit(&self, unit: &str, from: &str, to: &str) -> zbus::Result<u64>;
    fn drain(&self, node: &str) -> zbus::Result<u64>;
    fn undrain(&self, node: &str) -> zbus::Result<u64>;
    fn drain_cluster(&self) -> zbus::Result<u64>;
    fn undrain_cluster(&self) -> zbus::Result<u64>;
    fn maintain(&self, name: &str, reason: &str) -> zbus::Result<u64>;
    fn unmaintain(&self, name: &str) -> zbus::Result<u64>;
    fn reset_failed(&self, unit: &str, node: &str) -> zbus::Result<u64>;
    fn fence_confirm(&self, node: &str, incarnation: &str) -> zbus::Result<u64>;
    fn fence_test(&self, node: &str, level: u32) -> zbus::Result<u64>;
    fn fence_cancel(&self, node: &str) -> zbus::Result<u64>;
    fn issue_token(&self, valid_seconds: u32) -> zbus::Result<String>;
    fn leave(&self, node: &str) -> zbus::Result<u64>;
    fn adopt(&self, unit: &str, node: &str) -> zbus::Result<u64>;
    fn assemble(&self, unit: &str, epoch: u64, word: &str, node: &str) -> zbus::Result<u64>;
    fn forget(&self, unit: &str) -> zbus::Result<u64>;
    fn config_apply(&self, toml: &str) -> zbus::Result<u64>;
    fn config_show(&self) -> zbus::Result<String>;
    fn overview(&self) -> zbus::Result<String>;
    fn why(&self, unit: &str) -> zbus::Result<String>;
    fn plan(&self, what: &str, names: &[String], from: &str, to: &str) -> zbus::Result<String>;
    fn history(&self, lines: u64, unit: &str, node: &str) -> zbus::Result<String>;
    #[zbus(property)]
    fn node_name(&self) -> zbus::Result<String>;
    fn wait_change(&self, index: u64, limit_ms: u32) -> zbus::Result<u64>;
}

/// A connection to this node's daemon.
pub(super) struct Bus(pub(super) ManagerProxy<'static>);

impl Bus {
    pub(super) async fn connect() -> Result<Self, Failure> {
        let connection = connection::Builder::system()?.method_timeout(CALL_LIMIT).build().await?;
        let builder = ManagerProxy::builder(&connection).cache_properties(zbus::proxy::CacheProperties::No);
        Ok(Self(builder.build().await?))
    }

    pub(super) async fn overview(&self) -> Result<Overview, Failure> {
        read(&self.0.overview().await?)
    }

    /// The cluster as a majority confirms it.
    pub(super) async fn confirmed(&self) -> Result<Overview, Failure> {
        let picture = self.overview().await?;
        if picture.quorum {
            return Ok(picture);
        }
        Err(Failure::new(Code::NoQuorum, "no quorum: the cluster can decide nothing now")
            .hint("`convoke status` shows which nodes are missing"))
    }

    pub(super) async fn why(&self, unit: &str) -> Result<UnitWhy, Failure> {
        read(&self.0.why(unit).await?)
    }

    pub(super) async fn plan(
        &self,
        what: &str,
        names: &[String],
        from: &str,
        to: &str,
    ) -> Result<Forecast, Failure> {
        read(&self.0.plan(what, names, from, to).await?)
    }

    pub(super) async fn history(
        &self,
        lines: u64,
        unit: &str,
        node: &str,
    ) -> Result<Vec<HistoryLine>, Failure> {
        read(&self.0.history(lines, unit, node).await?)
    }

    /// Sleeps until something has changed since `index`, no longer than `limit`.
    pub(super) async fn changed(&self, index: u64, limit: Duration) -> Result<(), Failure> {
        let limit = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        self.0.wait_change(index, limit).await?;
        Ok(())
    }
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| {
        Failure::new(Code::Failed, format!("convoked's answer cannot be read: {error}"))
            .hint("the running convoked is of another version: `systemctl restart convoked` stops no unit")
    })
}
