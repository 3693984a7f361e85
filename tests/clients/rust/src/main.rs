//! Runs batches of commands with the cluster client of the crate `redis`. The arguments are the ports of the seeds,
//! on loopback. `tests/tests/processes/cluster_clients/client.rs` describes the lines that come in and go out.
//!
//! The client is the blocking one, whose pipelines may have keys of many slots. When it finds nobody at a port, it does
//! not ask for the slots again, so this program connects anew after each error, as a user has to.

use redis::{
    Cmd, RedisResult, Value,
    cluster::{ClusterClient, ClusterConnection, cluster_pipe},
};
use serde_json::json;
use std::{env, error::Error, io};

/// How often the library sends a command again by itself: the default of `ClusterClientBuilder::retries`.
const RETRIES: u32 = 16;
/// The version that Cargo.toml asks for.
const LIBRARY: &str = "redis-rs 1.8.1";

fn main() -> Result<(), Box<dyn Error>> {
    let seeds = env::args().skip(1).map(|port| format!("redis://127.0.0.1:{port}"));
    let client = ClusterClient::new(seeds.collect::<Vec<_>>())?;
    let mut connection = client.get_connection()?;
    println!("{}", json!({ "client": LIBRARY, "retries": RETRIES }));
    for line in io::stdin().lines() {
        let batch: serde_json::Value = serde_json::from_str(&line?)?;
        let commands: Vec<_> = list(&batch["commands"]).iter().map(command).collect();
        let mut replies = Vec::new();
        let parts = if batch["pipeline"] == true { commands.len() } else { 1 };
        for commands in commands.chunks(parts) {
            replies.extend(run(&mut connection, commands));
            // A seed that does not answer leaves the connection as it is, until the next error.
            if replies.last().is_some_and(Result::is_err)
                && let Ok(new) = client.get_connection()
            {
                connection = new;
            }
        }
        println!("{}", serde_json::Value::from_iter(replies.iter().map(told)));
    }
    Ok(())
}

fn list(value: &serde_json::Value) -> &[serde_json::Value] {
    value.as_array().expect("a list")
}

fn command(words: &serde_json::Value) -> Cmd {
    let mut command = Cmd::new();
    for word in list(words) {
        command.arg(word.as_str().expect("a text"));
    }
    command
}

/// The library tells one outcome for all commands when a part of a pipeline fails.
fn run(connection: &mut ClusterConnection, commands: &[Cmd]) -> Vec<RedisResult<Value>> {
    if let [command] = commands {
        return vec![command.query(connection)];
    }
    let mut pipe = cluster_pipe();
    for command in commands {
        pipe.add_command(command.clone());
    }
    match pipe.query::<Vec<Value>>(connection) {
        Ok(replies) => replies.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); commands.len()],
    }
}

fn told(reply: &RedisResult<Value>) -> serde_json::Value {
    match reply {
        Ok(Value::Okay) => json!({ "ok": "OK" }),
        Ok(Value::Nil) => json!({ "ok": null }),
        Ok(Value::Int(number)) => json!({ "ok": number }),
        Ok(Value::BulkString(text)) => json!({ "ok": String::from_utf8_lossy(text) }),
        Ok(other) => json!({ "ok": format!("{other:?}") }),
        Err(error) => json!({ "error": format!("{:?}: {error}", error.kind()) }),
    }
}
