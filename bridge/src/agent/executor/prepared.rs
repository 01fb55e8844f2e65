//! A call of a fence agent together with all that the agent is told.
//!
//! Decides what may be told; what is secret of it goes to the agent's standard input, and is taken out of what the agent says. Where
//! secrets are found is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::fence_agents;
use crate::secrets::Secrets;
use crate::session::message::AgentCall;

/// A call that lacks nothing. Holds secrets, and therefore shows nothing of itself.
pub(crate) struct Prepared<'a> {
    call: &'a AgentCall,
    /// The options as lines.
    told: String,
    /// What is secret of it.
    hidden: Vec<String>,
}

impl<'a> Prepared<'a> {
    /// The call with its secrets, as they are on this node at this moment.
    ///
    /// # Errors
    /// If it has an option that nobody may give, or this node does not have a secret; which node, and what to do there, is part of it.
    pub(crate) async fn read(call: &'a AgentCall, secrets: &Secrets) -> Result<Self, String> {
        let mut given = BTreeSet::new();
        for name in call.options.keys().chain(call.secrets.keys()) {
            // What the call is for is nobody's option; and of two lines an agent takes the last.
            if fence_agents::says_what_to_do(name) || !given.insert(fence_agents::present(name)) {
                return Err(format!(
                    "the option `{name}` of {} is not taken; `convoke config diff` says why",
                    call.device
                ));
            }
        }
        let mut read = BTreeMap::new();
        for (name, source) in &call.secrets {
            let secret = secrets.read(source).await.map_err(|error| error.to_string())?;
            read.insert(name.as_str(), secret);
        }
        let mut told = String::new();
        let options = call.options.iter().map(|(name, value)| (name.as_str(), value));
        for (name, value) in options.chain(read.iter().map(|(name, value)| (*name, value))) {
            told.push_str(&line(name, value)?);
        }
        let open = call.options.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.clone());
        let mut hidden: Vec<String> =
            open.chain(read.into_values()).filter(|value| !value.is_empty()).collect();
        // As it stands in a command line that Python has quoted for a shell.
        let quoted = |secret: &String| secret.contains('\'').then(|| secret.replace('\'', r#"'"'"'"#));
        hidden.extend(hidden.iter().filter_map(quoted).collect::<Vec<_>>());
        // One may be a part of another.
        hidden.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        Ok(Self { call, told, hidden })
    }

    pub(crate) fn call(&self) -> &'a AgentCall {
        self.call
    }

    /// The agent's complete input.
    pub(crate) fn stdin(&self, action: &str) -> Vec<u8> {
        format!("action={action}\n{}", self.told).into_bytes()
    }

    /// The agent's output, with nothing secret in it. To be called before anything else is made of it: a secret without the space at
    /// its end, or shortened, would be none that is known.
    pub(super) fn without_secrets(&self, output: &[u8]) -> String {
        let output = String::from_utf8_lossy(output).into_owned();
        self.hidden.iter().fold(output, |output, secret| output.replace(secret, "***"))
    }
}

fn line(name: &str, value: &str) -> Result<String, String> {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !plain || value.contains(['\n', '\r', '\0']) {
        return Err(format!("the option `{name}` has a name or value of more than one line"));
    }
    Ok(format!("{name}={value}\n"))
}

/// By its name: an option that stands in the settings, and would better not.
fn is_secret(name: &str) -> bool {
    ["pass", "secret", "community", "token", "key"].iter().any(|part| name.contains(part))
}
