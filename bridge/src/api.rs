//! What operators and programs see of the cluster.

pub mod model;
