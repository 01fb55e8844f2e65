//! Resource agents as units: what `convoke-ocf@.service` runs.
//!
//! The agents of the resource-agents collection (OCF resource agent API 1.x) are programs with actions: `start`, `stop`,
//! `monitor`. An instance of the unit is one resource; its file names the agent and the parameters. What a resource is made of
//! lives outside the unit's processes, so it counts as gone only when its agent says so (`GoneExec=`).

mod agent;
mod metadata;
mod record;
mod resource;
mod service;

pub use agent::{Agent, Ended, installed};
pub use metadata::{Metadata, MetadataError};
pub use resource::{Finding, Resource, ResourceError};
pub use service::{ServiceError, gone, run, stop};
