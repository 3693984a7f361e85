//! The scripts that compare: what they say without a measurement, from wherever they are called.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn run(name: &str, from: &Path, argument: &str) -> Output {
    Command::new("bash").arg(script(name)).arg(argument).current_dir(from).output().unwrap()
}

#[test]
fn the_help_can_be_read_from_any_directory() {
    let folders = [Path::new("/"), Path::new(env!("CARGO_MANIFEST_DIR")), &script("..")];
    for name in ["compare.sh", "compare/run.sh"] {
        for from in folders {
            let output = run(name, from, "--help");
            let told = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(0), "{name} from {}", from.display());
            assert!(told.contains("Options:") && told.contains("--rounds N"), "{name}: {told}");
        }
    }
}

#[test]
fn an_unknown_option_is_a_mistake_of_usage() {
    for name in ["compare.sh", "compare/run.sh"] {
        let output = run(name, Path::new("/"), "--fast");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("--fast") && told.contains("--help"), "{told}");
    }
}
