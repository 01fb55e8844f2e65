//! The configuration of the clustered servers, as their pages in `docs/recipes` ask for it.

use anyhow::Result;

use crate::cluster::Cluster;

/// Galera's, with rsync for copies.
pub fn configure_galera(c: &Cluster) -> Result<()> {
    let nodes = c.nodes();
    let members: Vec<_> = nodes.iter().map(|node| node.address()).collect();
    for node in &nodes {
        let (name, address, members) = (node.name(), node.address(), members.join(","));
        let text = format!(
            "[galera]\nwsrep_on = ON\nwsrep_provider = /usr/lib/galera/libgalera_smm.so\nwsrep_cluster_name = lab\n\
             wsrep_cluster_address = gcomm://{members}\nwsrep_node_name = {name}\nwsrep_node_address = {address}\n\
             wsrep_sst_method = rsync\nbinlog_format = ROW\ninnodb_autoinc_lock_mode = 2\nbind-address = 0.0.0.0\n"
        );
        node.write("/etc/mysql/mariadb.conf.d/70-cluster.cnf", text)?;
    }
    Ok(())
}

/// RabbitMQ's, with the secret that its nodes share.
pub fn configure_rabbitmq(c: &Cluster) -> Result<()> {
    let nodes = c.nodes();
    let mut text = "cluster_partition_handling = pause_minority\n\
         cluster_formation.peer_discovery_backend = classic_config\n"
        .to_owned();
    for node in &nodes {
        let (number, name) = (node.index(), node.name());
        text.push_str(&format!("cluster_formation.classic_config.nodes.{number} = rabbit@{name}\n"));
    }
    for node in &nodes {
        node.write("/etc/rabbitmq/rabbitmq.conf", &text)?;
        node.run_ok(
            "printf THESAME | install -o rabbitmq -g rabbitmq -m 0400 /dev/stdin /var/lib/rabbitmq/.erlang.cookie",
        )?;
    }
    Ok(())
}
