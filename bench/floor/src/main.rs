//! A hand-written write path: what a machine reaches with the durability of Purlin and without its safety.
//!
//! Three processes, of one thread each. A leader takes SET and GET of the Redis protocol, and two followers
//! keep a copy. A SET is answered when it is durable in the logs of two of the three:
//!
//! ```text
//! clients ─► leader ─┬─► log of the leader      one write for all SETs of a turn
//!                    ├─► follower 1 ─► its log    one frame for each turn
//!                    └─► follower 2 ─► its log
//! ```
//!
//! Each log is a preallocated file, overwritten through a raw io_uring with `O_DIRECT | O_DSYNC`. So the ratio
//! of Purlin to this program, in one run, is what the engine costs beside the machine (`bench/compare.sh`).
//!
//! **This is a yardstick and no server.** It leaves out:
//!
//! * raft: no terms, no votes, no election. The leader is fixed, and ends when a follower is lost;
//! * recovery: the logs are written and never read, they wrap around, and they are removed at the end;
//! * groups, shards, and cores: one log and one thread for each process;
//! * snapshots, sessions, outcomes, limits of memory: the keys stay in memory until the end;
//! * a defence against peers or clients: keys that collide on purpose, or a slow client, cost all clients;
//! * all commands but `SET key value`, `GET key` and `PING`.
//!
//! The modules in reading order: [`options`]; [`leader`] and [`follower`]; what the two share: [`log`] over
//! [`ring`], [`frame`], [`resp`], [`store`], [`connection`], [`poll`]; and [`failure`].

mod options;

mod follower;
mod leader;

mod frame;
mod log;
mod resp;
mod ring;
mod store;

mod connection;
mod poll;

mod failure;

use std::io::Write;
use std::process::ExitCode;

use options::{Command, Role};

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let role = match options::read(std::env::args().skip(1)) {
        Ok(Command::Run(role)) => role,
        Ok(Command::Help) => {
            // A reader that has gone needs no help.
            drop(std::io::stdout().write_all(options::HELP.as_bytes()));
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            complain(&format!("error: {mistake}\n\n{}", options::HELP));
            return ExitCode::from(USAGE);
        }
    };
    let ended = match role {
        Role::Leader(options) => leader::run(&options),
        Role::Follower(options) => follower::run(&options),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn complain(text: &str) {
    drop(std::io::stderr().write_all(format!("{}\n", text.trim_end()).as_bytes()));
}
