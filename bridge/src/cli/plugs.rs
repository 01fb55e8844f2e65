//! Which plugs the devices of a document list, asked before it is applied: to check the targets that it names, or to find them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use policy::{AgentAction, Device, NodeId};

use crate::agent::executor::Prepared;
use crate::api::document::{Document, Listed};
use crate::fence_agents;
use crate::secrets::Secrets;
use crate::session::message::AgentCall;

/// A strip of 48 outlets says each of them by itself; somebody waits for the answer.
const LIMIT: Duration = Duration::from_secs(20);
/// Devices that are asked at a time; one device gets one question after another.
const AT_ONCE: usize = 16;

/// Asks the devices for the plugs of these targets. Two targets of one call are asked for once.
pub(super) async fn ask(
    document: &Document,
    names: &BTreeMap<String, NodeId>,
    asked: &BTreeSet<(String, String)>,
) -> BTreeMap<(String, String), Listed> {
    let of = |(name, device): (&String, &Device)| {
        let own = asked.iter().filter(|(of, _)| of == name);
        let calls = own.filter_map(|key| Some((key.clone(), call(name, device, *names.get(&key.1)?)?)));
        let calls: Vec<_> = calls.collect();
        one_device(calls, separator_of(device))
    };
    let lists = futures_util::stream::iter(document.devices.iter().map(of)).buffer_unordered(AT_ONCE);
    lists.flat_map(futures_util::stream::iter).collect().await
}

/// Asks each of these devices, in `agents`, for all its plugs by the action that lists them.
pub(super) async fn ask_all(
    agents: &Path,
    document: &Document,
    actions: &BTreeMap<String, &'static str>,
) -> BTreeMap<String, Listed> {
    let of = |(name, action): (&String, &&'static str)| {
        let (name, action) = (name.clone(), *action);
        let device =
            document.devices.get(&name).map(|device| (of_device(&name, device), separator_of(device)));
        async move {
            let (call, separator) = device?;
            let listed = match input(&call, action).await {
                Ok(input) => list(agents, &call, &input, &separator).await,
                Err(why) => Err(why),
            };
            Some((name, listed))
        }
    };
    let lists = futures_util::stream::iter(actions.iter().map(of)).buffer_unordered(AT_ONCE);
    lists.filter_map(std::future::ready).collect().await
}

/// What stands between a plug and its name.
fn separator_of(device: &Device) -> String {
    device.options.get("separator").cloned().unwrap_or_else(|| ",".to_owned())
}

async fn one_device(
    calls: Vec<((String, String), AgentCall)>,
    separator: String,
) -> Vec<((String, String), Listed)> {
    let mut said: BTreeMap<Vec<u8>, Listed> = BTreeMap::new();
    let mut lists = Vec::new();
    for (key, call) in calls {
        let listed = match input(&call, "list").await {
            Err(why) => Err(why),
            Ok(input) => match said.get(&input) {
                Some(listed) => listed.clone(),
                None => {
                    let listed = list(fence_agents::DIRECTORY.as_ref(), &call, &input, &separator).await;
                    said.insert(input, listed.clone());
                    listed
                }
            },
        };
        lists.push((key, listed));
    }
    lists
}

/// What the agent is told, with this node's secrets.
async fn input(call: &AgentCall, action: &str) -> Result<Vec<u8>, String> {
    Ok(Prepared::read(call, &Secrets::default()).await?.stdin(action))
}

async fn list(agents: &Path, call: &AgentCall, input: &[u8], separator: &str) -> Listed {
    let program = fence_agents::find(agents, &call.agent);
    let program = program.ok_or_else(|| format!("{} is not installed here", call.agent))?;
    let own = call.timeouts.get(&AgentAction::List).copied().map(Duration::from_millis);
    let limit = own.unwrap_or_else(|| LIMIT.min(Duration::from_millis(call.timeout_ms)));
    fence_agents::list(&program, input, separator, limit).await.map_err(|error| error.to_string())
}

/// The call, but for the plug: what is asked for is the device.
fn call(name: &str, device: &Device, node: NodeId) -> Option<AgentCall> {
    let mut call = AgentCall::of(name, device, node, String::new(), 0)?;
    call.options.retain(|option, _| fence_agents::present(option) != "plug");
    Some(call)
}

/// A call that is of no target.
fn of_device(name: &str, device: &Device) -> AgentCall {
    AgentCall {
        device: name.to_owned(),
        agent: device.agent.clone(),
        options: device.options.clone(),
        secrets: device.secrets.clone(),
        timeout_ms: device.timeout_ms,
        timeouts: device.timeouts.clone(),
        at_once: device.at_once,
        configured: 0,
        node: NodeId(0),
        node_name: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::api::document;
    use crate::fence_agents::Plug;

    #[tokio::test]
    async fn a_device_is_asked_for_all_its_plugs_with_its_options_and_no_target() {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/src/fence_agents/samples/agent");
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["fence_strip", "fence_broken"] {
            symlink(sample, dir.path().join(name)).expect("a link");
        }
        let device = |name: &str| {
            format!("[fence.{name}]\nagent = \"fence_{name}\"\ntargets = {{}}\noptions = {{ ip = \"a\" }}\n")
        };
        let text = ["strip", "broken", "gone"].map(device).concat();
        let read = document::parse(&text, "cluster.toml".as_ref(), &BTreeMap::new()).expect("a document");
        let by = |name: &str| (name.to_owned(), "list-status");
        let actions = ["strip", "broken", "gone", "unknown"].map(by).into();
        let lists = ask_all(dir.path(), &read, &actions).await;
        let plug = |id: &str, name: &str| Plug { id: id.to_owned(), name: name.to_owned() };
        let expected: BTreeMap<String, Listed> = [
            ("strip".to_owned(), Ok(vec![plug("1", "n1"), plug("2", "rack a")])),
            ("broken".to_owned(), Err("it ended with exit status: 1 instead of answering".to_owned())),
            ("gone".to_owned(), Err("fence_gone is not installed here".to_owned())),
        ]
        .into();
        assert_eq!(lists, expected);
    }

    #[tokio::test]
    async fn the_plug_is_no_part_of_the_question_and_the_address_is() {
        let own =
            |plug: &str| [("port".to_owned(), plug.to_owned()), ("ip".to_owned(), "b".to_owned())].into();
        let device = Device {
            agent: "fence_x".to_owned(),
            options: [("snmp_version".to_owned(), "1".to_owned())].into(),
            secrets: BTreeMap::new(),
            targets: [(NodeId(1), own("1")), (NodeId(2), own("2"))].into(),
            timeout_ms: 5_000,
            timeouts: BTreeMap::new(),
            level: 1,
            delay_ms: 0,
            retries: 0,
            at_once: 1,
            isolates: None,
        };
        let mut inputs = Vec::new();
        for id in [1, 2] {
            let call = call("pdu", &device, NodeId(id)).expect("a target");
            inputs.push(input(&call, "list").await.expect("an input"));
        }
        assert_eq!(String::from_utf8_lossy(&inputs[0]), "action=list\nip=b\nsnmp_version=1\n");
        assert_eq!(inputs[0], inputs[1], "one question for both");
    }
}
