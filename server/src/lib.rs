//! server.
pub mod resp;

#[path = "cli/client.rs"]
pub mod cli_client;
