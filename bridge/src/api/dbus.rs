//! `org.convoke1` on the system bus: what `convoke` and other programs of this node ask.
//!
//! Translates names, and asks the leader; decides nothing. Only root may change the cluster: the bus's policy file
//! says so, and each call is checked once more here.
#![allow(missing_docs, reason = "the macro makes a trait of the signals and gives it no docs")]

mod reads;
mod wishes;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use policy::{Incarnation, NodeId, Wanted, Wish};
use tokio::sync::{Mutex, mpsc, watch};
use zbus::connection;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;

use super::caller;
use super::document;
use super::error::ApiError;
use super::names;
use super::picture;
use crate::agent::AgentCommand;
use crate::leader::Asked;
use crate::net::Dialer;
use crate::pki::{hex, random};
use crate::session::message::{Reply, Request};
use crate::session::{Asker, Lease, Standing};
use reads::Reads;

/// The name on the bus.
pub const NAME: &str = "org.convoke1";
/// The only object.
pub const OBJECT: &str = "/org/convoke1";
/// Its interface.
pub const INTERFACE: &str = "org.convoke1.Manager";

/// How long a wish waits: an election takes a second or two, and a wish outlives it.
const WISH_LIMIT: Duration = Duration::from_secs(10);
/// Between two signals: a busy log must not keep the bus busy.
const SIGNALS: Duration = Duration::from_millis(100);
/// After the bus went away.
const RECONNECT: Duration = Duration::from_secs(1);

/// What the service needs of its daemon.
#[derive(Clone)]
pub struct Api {
    /// Asks the leader.
    pub asker: Asker,
    /// This node's name.
    pub node_name: String,
    /// This node's id.
    pub node: NodeId,
    /// Cluster's name.
    pub cluster: String,
    /// On a voter: asks what its own copy of the log says.
    pub asked: Option<mpsc::Sender<Asked>>,
    /// On a voter: the index that was applied last.
    pub applied: Option<watch::Receiver<u64>>,
    /// Asks the agent of this node.
    pub agent: mpsc::Sender<AgentCommand>,
    /// Knows the links.
    pub dialer: Dialer,
    /// This node's lease.
    pub lease: Lease,
    /// Whether the cluster has turned this node away.
    pub standing: Standing,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("node_name", &self.node_name)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// Serves until it is dropped; comes back after the bus was restarted.
pub async fn serve(api: Api) {
    let client =
        random::<8>().map_or_else(|_| format!("{}-{}", api.node, std::process::id()), |bytes| hex(&bytes));
    let manager = Manager(Arc::new(Shared {
        api,
        client: format!("dbus-{client}"),
        number: AtomicU64::new(0),
        one_wish: Mutex::new(()),
        reads: Reads::default(),
    }));
    let mut silent = false;
    loop {
        match connect(manager.clone()).await {
            Ok(connection) => {
                tracing::info!("serving {NAME} on the system bus");
                silent = false;
                tokio::select! {
                    () = connection.closed() => {}
                    () = announce(&connection, manager.0.api.applied.clone()) => {}
                }
                tracing::warn!("the system bus has gone; connecting again");
            }
            // Once is enough: a node without a bus tries every second for as long as it is up.
            Err(error) if !silent => {
                tracing::warn!(%error, "cannot serve {NAME} on the system bus; trying again");
                silent = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn connect(manager: Manager) -> zbus::Result<zbus::Connection> {
    connection::Builder::system()?.name(NAME)?.serve_at(OBJECT, manager)?.build().await
}

/// Tells the bus of changes; ends with the connection only.
async fn announce(connection: &zbus::Connection, applied: Option<watch::Receiver<u64>>) {
    let (Some(mut applied), Ok(emitter)) = (applied, SignalEmitter::new(connection, OBJECT)) else {
        return std::future::pending().await;
    };
    while applied.changed().await.is_ok() {
        let index = *applied.borrow_and_update();
        if let Err(error) = Manager::changed(&emitter, index).await {
            tracing::debug!(%error, "a change was not signalled");
        }
        tokio::time::sleep(SIGNALS).await;
    }
    std::future::pending().await
}

#[derive(Clone)]
struct Manager(Arc<Shared>);

struct Shared {
    api: Api,
    client: String,
    number: AtomicU64,
    /// Wishes go one by one: the cluster refuses a number that a later one of the same client has overtaken.
    one_wish: Mutex<()>,
    /// Questions go together: anybody may ask, and the leader looks at all units for it.
    reads: Reads,
}

fn unexpected(reply: Reply) -> ApiError {
    match reply {
        Reply::Unable(why) => {
            ApiError::NoQuorum(format!("the leader could not tell: {why}; ask again in a moment"))
        }
        Reply::Declined(why) => ApiError::Failed(why),
        _ => ApiError::Failed("the leader runs another version and answered something else".to_owned()),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, ApiError> {
    serde_json::to_string(value).map_err(|error| ApiError::Failed(error.to_string()))
}

#[zbus::interface(name = "org.convoke1.Manager")]
impl Manager {
    /// `convoke start`. All wishes return the log index that they were recorded at.
    async fn start(
        &self,
        unit: &str,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let unit = names::unit(unit)?;
        let on = self.0.some_node(node).await?;
        if on.is_some() {
            self.0.may_go(&unit, node, "start").await?;
        }
        let node = on;
        self.0.wish(Wish::SetGoal { unit, wanted: Wanted::Started, node, seen: None, by }).await
    }

    async fn stop(
        &self,
        unit: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let unit = names::unit(unit)?;
        self.0.wish(Wish::SetGoal { unit, wanted: Wanted::Stopped, node: None, seen: None, by }).await
    }

    #[zbus(name = "Move")]
    async fn move_unit(
        &self,
        unit: &str,
        from: &str,
        to: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let unit = names::unit(unit)?;
        let target = to;
        let (from, to) = (self.0.some_node(from).await?, self.0.some_node(to).await?);
        if to.is_some() {
            self.0.may_go(&unit, target, "move").await?;
        }
        self.0.wish(Wish::Move { unit, from, to, by }).await
    }

    /// Drains a node. The whole cluster has a method of its own, so that a script whose variable is empty does not ask for
    /// that.
    async fn drain(
        &self,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let node = Some(self.0.node(node).await?);
        self.0.wish(Wish::SetDrained { node, drained: true, by }).await
    }

    async fn undrain(
        &self,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let node = Some(self.0.node(node).await?);
        self.0.wish(Wish::SetDrained { node, drained: false, by }).await
    }

    async fn drain_cluster(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        self.0.wish(Wish::SetDrained { node: None, drained: true, by }).await
    }

    async fn undrain_cluster(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        self.0.wish(Wish::SetDrained { node: None, drained: false, by }).await
    }

    /// Begins the maintenance of a node, a unit, or of the cluster if no name is given.
    async fn maintain(
        &self,
        name: &str,
        reason: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let reason = names::maintenance_reason(reason)?;
        let scope = names::scope(&self.0.picture().await?, name)?;
        self.0.wish(Wish::BeginMaintenance { scope, reason, by }).await
    }

    /// Ends it.
    async fn unmaintain(
        &self,
        name: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let scope = names::scope(&self.0.picture().await?, name)?;
        self.0.wish(Wish::EndMaintenance { scope, by }).await
    }

    /// A node by its name, else a unit: as [`maintain`](Self::maintain).
    async fn reset_failed(
        &self,
        unit: &str,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        if node.is_empty()
            && let Ok(node) = names::node(&self.0.picture().await?, unit)
        {
            return self.0.wish(Wish::ForgiveNode { node, by }).await;
        }
        let unit = names::unit(unit)?;
        let node = self.0.some_node(node).await?;
        self.0.wish(Wish::ResetFailed { unit, node }).await
    }

    /// The incarnation is the one that the operator was shown (F36).
    async fn fence_confirm(
        &self,
        node: &str,
        incarnation: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let node = self.0.node(node).await?;
        self.0.wish(Wish::VouchFenced { node, incarnation: Incarnation(incarnation.to_owned()), by }).await
    }

    /// A drill through this level, or through the first if it is 0.
    async fn fence_test(
        &self,
        node: &str,
        level: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let node = self.0.node(node).await?;
        self.0.wish(Wish::TestFence { node, level: (level > 0).then_some(level), by }).await
    }

    async fn fence_cancel(
        &self,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let node = self.0.node(node).await?;
        self.0.wish(Wish::CancelFence { node, by }).await
    }

    async fn issue_token(
        &self,
        valid_seconds: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<String, ApiError> {
        let by = self.caller(connection, &header).await?;
        self.0.issue_token(valid_seconds, by).await
    }

    async fn leave(
        &self,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let id = self.0.node(node).await?;
        let by = picture::marked(&by, node);
        self.0.wish(Wish::RemoveNode { node: id, by }).await
    }

    async fn adopt(
        &self,
        unit: &str,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let unit = names::unit(unit)?;
        let node = self.0.node(node).await?;
        self.0.wish(Wish::AdoptFrom { unit, node, by }).await
    }

    /// The epoch is the one that the operator was shown; the word is `without`, `from` or `resync`.
    async fn assemble(
        &self,
        unit: &str,
        epoch: u64,
        word: &str,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let unit = names::unit(unit)?;
        let word = names::word(word)?(self.0.node(node).await?);
        self.0.wish(Wish::Assemble { unit, epoch, word, by }).await
    }

    async fn forget(
        &self,
        unit: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let unit = names::unit(unit)?;
        self.0.wish(Wish::Forget { unit, by }).await
    }

    /// Takes the whole settings document as TOML.
    async fn config_apply(
        &self,
        toml: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<u64, ApiError> {
        let by = self.caller(connection, &header).await?;
        let settled = self.0.config().await?;
        let parsed = document::parse(toml, "document".as_ref(), &settled.names());
        let document::Document { settings, devices, attributes, .. } =
            parsed.map_err(|findings| ApiError::BadInput(document::listing(&findings)))?;
        self.0.wish(Wish::Configure { settings, devices, attributes, by }).await
    }

    /// The settings document in force, as TOML.
    async fn config_show(&self) -> Result<String, ApiError> {
        match self.0.read_at_once(Request::Config).await {
            Ok(Reply::Config { settings, devices, nodes }) => {
                Ok(document::render(&document::Settled { settings, devices, nodes }))
            }
            Ok(other) => Err(unexpected(other)),
            Err(ApiError::NoQuorum(_)) => {
                let why = self.0.here().await.why();
                Err(ApiError::NoQuorum(format!("the settings are read from a majority only, and {why}")))
            }
            Err(error) => Err(error),
        }
    }

    /// The cluster as JSON; what this node last knew, marked as such, where there is no quorum.
    async fn overview(&self) -> Result<String, ApiError> {
        json(self.0.overview().await?.as_ref())
    }

    /// Why a unit is where it is, as JSON.
    async fn why(&self, unit: &str) -> Result<String, ApiError> {
        json(&self.0.why(names::unit(unit)?).await?)
    }

    /// What would happen, as JSON. `what` is `now`, `lose` (nodes), `drain` or `undrain` (a node, or an empty name for the
    /// whole cluster), `maintain` or `unmaintain` (nodes, units, or nothing for the cluster), `start` (units, `to` a node),
    /// `stop` (units), `move` (a unit, `from` and `to` nodes), `adopt` (units, `from` a node) or `define` (a unit, `from` what
    /// its files say, as JSON).
    async fn plan(&self, what: &str, names: Vec<String>, from: &str, to: &str) -> Result<String, ApiError> {
        let asked = names::Asked { what, names: &names, from, to, here: self.0.api.node };
        json(&self.0.forecast(|picture| names::supposed(picture, &asked)).await?)
    }

    /// The last lines of the history, oldest first, as JSON; of one unit or node if named.
    async fn history(&self, lines: u64, unit: &str, node: &str) -> Result<String, ApiError> {
        let unit = if unit.is_empty() { None } else { Some(names::unit(unit)?) };
        let node = (!node.is_empty()).then(|| node.to_owned());
        let lines = usize::try_from(lines).unwrap_or(usize::MAX);
        json(&self.0.history(Request::History { lines, unit, node }).await?)
    }

    /// Waits until the log is longer than `index`, at most `limit_ms`; returns its length as known then.
    async fn wait_change(&self, index: u64, limit_ms: u32) -> u64 {
        self.0.wait_change(index, Duration::from_millis(limit_ms.into())).await
    }

    /// Something has changed, up to this log index; at most ten times a second, and from nodes that vote only.
    #[zbus(signal)]
    async fn changed(emitter: &SignalEmitter<'_>, index: u64) -> zbus::Result<()>;

    #[zbus(property)]
    async fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    #[zbus(property)]
    async fn node_name(&self) -> String {
        self.0.api.node_name.clone()
    }

    #[zbus(property)]
    async fn cluster(&self) -> String {
        self.0.api.cluster.clone()
    }
}

impl Manager {
    async fn caller(&self, connection: &zbus::Connection, header: &Header<'_>) -> Result<String, ApiError> {
        caller::root(connection, header, &self.0.api.node_name).await
    }
}
