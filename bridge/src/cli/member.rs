//! `convoke init` and `convoke join`: this machine becomes a node.

use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use units::systemd::{JobResult, Systemd};

use super::args::{Init, Join, Machine};
use super::bus::Bus;
use super::exit::{Code, Failure};
use super::out;
use crate::api::model::Overview;
use crate::atomic;
use crate::config::Config;
use crate::identity::{self, Enrolled, IdentityError};
use crate::init::{self, First};
use crate::join::{self, AttemptError, JoinError, Joiner, RefusalKind, Token};
use crate::net::addresses;
use crate::paths::Paths;

/// How long convoked may take to say that it is ready.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long the node may take to be led, or to be online: an election, a session, an inventory.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Between two questions while the daemon comes up and has nothing to wait on.
const LOOK: Duration = Duration::from_millis(100);
const SERVICE: &str = "convoked.service";
const SYSTEMD: Option<&str> = Some("org.freedesktop.systemd1");
const PROPERTIES: Option<&str> = Some("org.freedesktop.DBus.Properties");

pub(super) async fn init(asked: &Init) -> Result<(), Failure> {
    let paths = Paths::default();
    outsider(&paths)?;
    let settings = settle(&paths, &asked.machine)?;
    let config = &settings.config;
    let name = asked.node.clone().unwrap_or_else(|| config.name.clone());
    machine(&paths)?;
    let first =
        First { cluster_name: asked.name.clone(), node_name: name.clone(), addresses: reached_at(config) };
    let systemd = systemd().await?;
    settings.write(&paths)?;
    let made = init::create(&paths, &first).map_err(|error| refused(&error))?;
    start(&systemd).await?;
    // Online as well: before the node has said what it offers, the next command would find no unit.
    let up = |picture: &Overview| {
        let online = picture.nodes.iter().any(|node| node.name == name && node.state == "online");
        picture.quorum && picture.leader.as_deref() == Some(name.as_str()) && online
    };
    wait(up, "does not lead its cluster yet").await?;
    out::say(&format!(
        "cluster {} is made ({}); {name} is its first node",
        asked.name, made.identity.cluster
    ));
    out::say("next: `convoke token` here, then `convoke join TOKEN` on each further machine");
    Ok(())
}

pub(super) async fn join(asked: &Join) -> Result<(), Failure> {
    let token: Token = read_token(&asked.token)?.parse().map_err(|error| Failure::of(Code::Usage, &error))?;
    let paths = Paths::default();
    outsider(&paths)?;
    let settings = settle(&paths, &asked.machine)?;
    let config = &settings.config;
    let machine = machine(&paths)?;
    let joiner = Joiner {
        name: asked.name.clone().unwrap_or_else(|| config.name.clone()),
        addresses: config.advertise.clone(),
        port: config.listen.port(),
        machine_id: machine.machine_id,
        product_uuid: machine.product_uuid,
        role: asked.role.map(Into::into).or(config.role),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let systemd = systemd().await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let joined = join::request(&token, &joiner, now).await.map_err(|error| not_joined(&error))?;
    let name = joiner.name.as_str();
    let installed =
        settings.write(&paths).and_then(|()| joined.install(&paths).map_err(|error| refused(&error)));
    installed.map_err(|failure| half_joined(failure, name))?;
    start(&systemd).await?;
    let online = |picture: &Overview| {
        picture.quorum && picture.nodes.iter().any(|node| node.name == name && node.state == "online")
    };
    wait(online, "is not online yet").await?;
    let role = joined.identity.role.word();
    out::say(&format!("{name} is a {role} of cluster {} and online", joined.identity.cluster_name));
    Ok(())
}

/// Refuses what would only fail half-way.
fn outsider(paths: &Paths) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(Code::Failed, "only root may do this").hint("try again with `sudo`"));
    }
    match identity::load(paths) {
        Ok(None) => Ok(()),
        Ok(Some(Enrolled { identity, .. })) => Err(refused(&identity::already(identity))),
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &IdentityError) -> Failure {
    let failure = Failure::of(Code::Failed, error);
    if matches!(error, IdentityError::AlreadyEnrolled { .. }) {
        return failure.hint(
            "`convoke status` shows the cluster; if convoked is not up, `systemctl enable --now convoked` starts it",
        );
    }
    failure
}

/// The cluster has said yes, and would refuse the same machine a second time.
fn half_joined(failure: Failure, name: &str) -> Failure {
    let text = format!(
        "the cluster has taken this machine in as {name}, but it cannot be set up here: {}",
        failure.text
    );
    Failure::new(failure.code, text).hint(format!(
        "mend that; then `convoke leave {name}` on a node of the cluster, and join again with the same token"
    ))
}

/// The node's settings together with what the command line says of addresses.
struct Settings {
    config: Config,
    /// What to write into the settings' file, which the daemon reads too; none if it says so already.
    text: Option<String>,
}

/// Nothing is written yet: the cluster may still say no.
fn settle(paths: &Paths, machine: &Machine) -> Result<Settings, Failure> {
    let file = paths.config_file();
    let mut config = Config::load(paths).map_err(|error| Failure::of(Code::Usage, &error))?;
    let port = machine.port.unwrap_or_else(|| config.listen.port());
    // An address with a port of its own keeps it; without, the parser has put the usual one, which --port replaces.
    let usual = |address: &SocketAddr| address.port() == crate::net::DEFAULT_PORT;
    let advertise: Vec<_> = machine
        .address
        .iter()
        .map(|address| SocketAddr::new(address.ip(), if usual(address) { port } else { address.port() }))
        .collect();
    let listens = config.listen.port() == port;
    let advertises = advertise.is_empty() || advertise == config.advertise;
    if listens && advertises {
        return Ok(Settings { config, text: None });
    }
    if file.exists() {
        return Err(Failure::new(
            Code::Usage,
            format!("`{}` says otherwise than the command line", file.display()),
        )
        .hint("set `listen` and `advertise` there, and leave --port and --address out"));
    }
    let mut text = "# Written by convoke from its command line; see convoke.toml(5).\n".to_owned();
    if !listens {
        config.listen.set_port(port);
        text.push_str(&format!("listen = \"{}\"\n", config.listen));
    }
    if !advertise.is_empty() {
        let list: Vec<_> = advertise.iter().map(|address| format!("\"{address}\"")).collect();
        text.push_str(&format!("advertise = [{}]\n", list.join(", ")));
        config.advertise = advertise;
    }
    Ok(Settings { config, text: Some(text) })
}

impl Settings {
    fn write(&self, paths: &Paths) -> Result<(), Failure> {
        let Some(text) = &self.text else { return Ok(()) };
        let file = paths.config_file();
        let write = || {
            if let Some(dir) = file.parent() {
                std::fs::create_dir_all(dir)?;
            }
            atomic::write(&file, text.as_bytes(), atomic::PUBLIC)
        };
        write().map_err(|error| {
            Failure::new(Code::Failed, format!("cannot write `{}`: {error}", file.display()))
        })
    }
}

fn reached_at(config: &Config) -> Vec<SocketAddr> {
    if !config.advertise.is_empty() {
        return config.advertise.clone();
    }
    addresses::local().into_iter().map(|ip| SocketAddr::new(ip, config.listen.port())).collect()
}

fn read_token(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(64 * 1024)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(Code::Usage, format!("cannot read the token: {error}")))?;
    Ok(text)
}

/// What the cluster is to know this machine by; the daemon does not start without it.
fn machine(paths: &Paths) -> Result<identity::Machine, Failure> {
    identity::Machine::read(paths).map_err(|error| Failure::of(Code::Failed, &error))
}

fn not_joined(error: &JoinError) -> Failure {
    match error {
        JoinError::Token(_) => Failure::of(Code::Usage, error),
        JoinError::Refused { refusal, .. } => {
            let code = match refusal.kind {
                RefusalKind::Token | RefusalKind::Expired => Code::Usage,
                RefusalKind::NotNow => Code::NoQuorum,
                RefusalKind::Taken | RefusalKind::Request => Code::Failed,
            };
            Failure::of(code, error)
        }
        JoinError::NoAnswer { attempts, .. } => {
            let handshake = attempts.iter().any(|(_, error)| matches!(error, AttemptError::Handshake(_)));
            let later = attempts.iter().any(|(_, error)| matches!(error, AttemptError::NotNow(_)));
            Failure::of(Code::NoQuorum, error).hint(if later {
                "the cluster has no quorum now; look at `convoke status` there, and try again"
            } else if handshake {
                "another cluster, or something else, answers there; get a new token with `convoke token` on a node of \
                 the cluster that you mean, and look at this machine's clock"
            } else {
                "see that convoked runs there, and that no firewall is between (TCP port 7433 unless set otherwise); \
                 a node that changed its address needs a new token"
            })
        }
        JoinError::Answer { .. } | JoinError::Key(_) => Failure::of(Code::Failed, error),
    }
}

/// A machine without systemd would be enrolled and never run anything, so this comes before anything is written.
async fn systemd() -> Result<zbus::Connection, Failure> {
    let unusable = |error: zbus::Error| {
        Failure::of(Code::Failed, &error)
            .hint("a node needs systemd as PID 1 and the system bus; nothing was changed")
    };
    let bus = zbus::Connection::system().await.map_err(unusable)?;
    let path: zbus::zvariant::OwnedObjectPath = manager(&bus, "LoadUnit", &SERVICE)
        .await
        .and_then(|reply| reply.body().deserialize())
        .map_err(unusable)?;
    let unit = bus
        .call_method(SYSTEMD, &path, PROPERTIES, "Get", &("org.freedesktop.systemd1.Unit", "LoadState"))
        .await
        .map_err(unusable)?;
    let state: zbus::zvariant::OwnedValue = unit.body().deserialize().map_err(unusable)?;
    match String::try_from(state).as_deref() {
        Ok("loaded") => Ok(bus),
        Ok(other) => Err(Failure::new(Code::Failed, format!("{SERVICE} is {other} on this machine"))
            .hint("install the package convoke, or `systemctl unmask convoked`; nothing was changed")),
        Err(error) => Err(Failure::of(Code::Failed, error)),
    }
}

/// Enables and starts convoked by PID 1, and waits until it says that it is ready.
async fn start(bus: &zbus::Connection) -> Result<(), Failure> {
    let failed = |what: &str, error: &dyn std::error::Error| {
        let failure = Failure::of(Code::Failed, error);
        Failure { text: format!("this machine is enrolled, but {what}: {}", failure.text), ..failure }
            .hint("see `journalctl -u convoked -e`; then `systemctl enable --now convoked`")
    };
    let enable = async {
        manager(bus, "EnableUnitFiles", &(vec![SERVICE], false, false)).await?;
        manager(bus, "Reload", &()).await
    };
    enable.await.map_err(|error| failed("convoked could not be enabled", &error))?;
    let (systemd, _signals) =
        Systemd::connect().await.map_err(|error| failed("systemd does not answer", &error))?;
    let end = systemd
        .start(SERVICE, START_LIMIT)
        .await
        .map_err(|error| failed("convoked did not start", &error))?;
    if end.result == JobResult::Done {
        return Ok(());
    }
    Err(Failure::new(
        Code::Failed,
        format!("this machine is enrolled, but convoked did not start ({:?})", end.result),
    )
    .hint("see `journalctl -u convoked -e`; then `systemctl enable --now convoked`"))
}

async fn manager(
    bus: &zbus::Connection,
    method: &str,
    body: &(impl serde::Serialize + zbus::zvariant::DynamicType),
) -> zbus::Result<zbus::Message> {
    let interface = Some("org.freedesktop.systemd1.Manager");
    bus.call_method(SYSTEMD, "/org/freedesktop/systemd1", interface, method, body).await
}

/// Waits until the daemon shows what is waited for.
async fn wait(ready: impl Fn(&Overview) -> bool, what: &str) -> Result<(), Failure> {
    let until = Instant::now() + READY_LIMIT;
    loop {
        let look = async { Bus::connect().await?.overview().await };
        let seen = look.await;
        if seen.as_ref().is_ok_and(&ready) {
            return Ok(());
        }
        if Instant::now() >= until {
            let text = format!("convoked runs, but this node {what} after {} s", READY_LIMIT.as_secs());
            let why = seen.err().map(|failure| format!(": {}", failure.text)).unwrap_or_default();
            return Err(Failure::new(Code::NotDone, text + &why)
                .hint("see `convoke status` and `journalctl -u convoked -e`"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_lines_addresses_are_written_for_the_daemon() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        let machine = Machine { address: vec!["10.0.0.1:7433".parse().expect("address")], port: Some(7000) };
        let settings = settle(&paths, &machine).expect("settled");
        assert_eq!(settings.config.listen.port(), 7000);
        assert_eq!(settings.config.advertise, ["10.0.0.1:7000".parse().expect("address")]);
        // Not before the cluster has said yes.
        assert!(!paths.config_file().exists());
        settings.write(&paths).expect("written");
        assert_eq!(Config::load(&paths).expect("readable"), settings.config);
        // Saying the same again changes nothing; saying something else is refused.
        assert_eq!(settle(&paths, &machine).expect("settled").text, None);
        let other = Machine { address: Vec::new(), port: Some(7001) };
        assert_eq!(settle(&paths, &other).err().expect("contradiction").code, Code::Usage);
    }

    #[test]
    fn nothing_is_written_where_nothing_was_said() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        let settings = settle(&paths, &Machine { address: Vec::new(), port: None }).expect("defaults");
        settings.write(&paths).expect("nothing to write");
        assert!(!paths.config_file().exists());
    }

    #[test]
    fn a_join_that_broke_off_names_the_way_back() {
        let failure = half_joined(Failure::new(Code::Failed, "no space left").hint("try again"), "n2");
        assert!(
            failure.text.contains("as n2") && failure.text.ends_with("no space left"),
            "{}",
            failure.text
        );
        assert!(failure.hint.expect("a hint").contains("`convoke leave n2`"));
    }

    #[test]
    fn each_failure_to_join_has_its_code_and_its_advice() {
        let no_answer = |error| JoinError::NoAnswer {
            cluster_name: "harbour".to_owned(),
            attempts: vec![("10.0.0.1:7433".parse().expect("address"), error)],
        };
        let unreachable = not_joined(&no_answer(AttemptError::TimedOut));
        assert_eq!(unreachable.code, Code::NoQuorum);
        assert!(unreachable.hint.expect("a hint").contains("firewall"));
        let foreign = crate::tls::HandshakeError::UnknownAuthority;
        let foreign = not_joined(&no_answer(AttemptError::Handshake(foreign)));
        assert!(foreign.hint.expect("a hint").contains("another cluster"));
        for (kind, code) in [
            (RefusalKind::Token, Code::Usage),
            (RefusalKind::Expired, Code::Usage),
            (RefusalKind::Taken, Code::Failed),
            (RefusalKind::NotNow, Code::NoQuorum),
        ] {
            let error = JoinError::Refused {
                cluster_name: "harbour".to_owned(),
                refusal: join::Refusal::new(kind, "no"),
            };
            assert_eq!(not_joined(&error).code, code);
        }
    }
}
