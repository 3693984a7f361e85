//! Plants bugs in a copy of the tree, one at a time, and tells which of them nothing notices.

use clap::Parser;
use purlin_tests::mutants::{self, Fate, Mutant, Trial};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Plants bugs in a copy of the tree, one at a time, and tells which of them nothing notices.
#[derive(Parser)]
struct Arguments {
    /// The mutants to try, by name; all of them otherwise.
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// How many seeds may pass before its unit test decides; with 0 that decides at once.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// Only says whether all mutants fit the tree. Builds nothing.
    #[arg(long, conflicts_with_all = ["only", "seeds"])]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.check {
        return check();
    }
    let trials = match run(&arguments) {
        Ok(trials) => trials,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", mutants::table(&trials));
    let is_alive = |trial: &Trial| matches!(trial.fate, Fate::Survived | Fate::Void(_));
    let mut alive = false;
    for trial in trials.iter().filter(|trial| is_alive(trial)) {
        println!("{}: {:?}. It: {}", trial.mutant.slug, trial.fate, trial.mutant.what);
        alive = true;
    }
    if alive { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn check() -> ExitCode {
    match mutants::check(root(), &folder()) {
        Ok(count) => {
            println!("all {count} mutants fit");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> mutants::Result<Vec<Trial>> {
    let found = Mutant::read_all(&folder(), &arguments.only)?;
    mutants::try_all(root(), found, arguments.seeds, |trial| {
        let (building, running) = (trial.building.as_secs_f64(), trial.running.as_secs_f64());
        let (slug, killer) = (&trial.mutant.slug, mutants::killer(trial));
        eprintln!("{slug}: built in {building:.1} s, ran {running:.1} s: {killer}");
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is around it")
}

fn folder() -> PathBuf {
    root().join("tests/mutants/planted")
}
