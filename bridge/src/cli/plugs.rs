//! Which plugs the devices of a document list, asked before it is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use policy::{AgentAction, Device, NodeId};

use crate::agent::executor;
use crate::api::document::{Document, Listed};
use crate::fence_agents;
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
        let separator = device.options.get("separator").cloned().unwrap_or_else(|| ",".to_owned());
        one_device(calls, separator)
    };
    let lists = futures_util::stream::iter(document.devices.iter().map(of)).buffer_unordered(AT_ONCE);
    lists.flat_map(futures_util::stream::iter).collect().await
}

async fn one_device(
    calls: Vec<((String, String), AgentCall)>,
    separator: String,
) -> Vec<((String, String), Listed)> {
    let mut said: BTreeMap<Vec<u8>, Listed> = BTreeMap::new();
    let mut lists = Vec::new();
    for (key, call) in calls {
        let listed = match executor::stdin(&call, "list") {
            Err(why) => Err(why),
            Ok(input) => match said.get(&input) {
                Some(listed) => listed.clone(),
                None => {
                    let listed = list(&call, &input, &separator).await;
                    said.insert(input, listed.clone());
                    listed
                }
            },
        };
        lists.push((key, listed));
    }
    lists
}

async fn list(call: &AgentCall, input: &[u8], separator: &str) -> Listed {
    let program = fence_agents::find(fence_agents::DIRECTORY.as_ref(), &call.agent);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plug_is_no_part_of_the_question_and_the_address_is() {
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
        let inputs = [1, 2].map(|id| {
            let call = call("pdu", &device, NodeId(id)).expect("a target");
            executor::stdin(&call, "list").expect("an input")
        });
        assert_eq!(String::from_utf8_lossy(&inputs[0]), "action=list\nip=b\nsnmp_version=1\n");
        assert_eq!(inputs[0], inputs[1], "one question for both");
    }
}
