//! A copy of the tree, with a target folder of its own, so that only what a mutant changes is built.

use super::{
    Mutant, Result, Unit,
    edit::{Edit, apply},
    watch::{Ended, Watched, watch},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A profile for the simulator, which builds fast and runs nearly as fast as `release`.
const SIM_PROFILE: &str = "mutants";
/// A profile for tests, which builds as fast as can be.
const TESTS_PROFILE: &str = "mutants-tests";
/// The simulator tells of its progress much more often than this.
const SEEDS_PATIENCE: Duration = Duration::from_secs(120);
/// A test says something when it has run for a minute, and no test runs for long.
const TESTS_PATIENCE: Duration = Duration::from_secs(150);
const BUILD_PATIENCE: Duration = Duration::from_secs(1800);
/// A planted bug must not take the machine's memory either.
const MEMORY_KIB: u64 = 6 << 20;

/// See the module.
pub(super) struct Workshop {
    /// Everything of ours lies here.
    folder: PathBuf,
    /// The user's tree as it was at the beginning: they may go on working.
    sound: PathBuf,
    /// The copy that mutants are planted in.
    tree: PathBuf,
    /// What is in both.
    files: BTreeSet<PathBuf>,
    /// Two runs would change the same copy.
    _lock: File,
}

impl Workshop {
    /// Makes the copy, or brings the one of the last time up to date.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let folder = root.join("target/mutants");
        let (sound, tree) = (folder.join("sound"), folder.join("tree"));
        fs::create_dir_all(&tree).map_err(|error| at(&tree, error))?;
        fs::create_dir_all(&sound).map_err(|error| at(&sound, error))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(|error| at(&path, error))?;
        lock.try_lock().map_err(|error| format!("another run is at work: {error}"))?;
        let files = listed(root)?;
        make_equal(root, &sound, &files)?;
        let workshop = Self { folder, sound, tree, files, _lock: lock };
        workshop.refresh()?;
        Ok(workshop)
    }

    /// Takes the mutant out of the copy.
    pub(super) fn refresh(&self) -> Result<()> {
        make_equal(&self.sound, &self.tree, &self.files)
    }

    /// Plants a mutant in the copy.
    pub(super) fn plant(&self, mutant: &Mutant) -> Result<()> {
        let mut by_file: BTreeMap<&str, Vec<&Edit>> = BTreeMap::new();
        for edit in &mutant.edits {
            by_file.entry(&edit.file).or_default().push(edit);
        }
        for (file, edits) in by_file {
            let path = self.tree.join(file);
            let text = fs::read_to_string(&path).map_err(|error| at(&path, error))?;
            fs::write(&path, apply(&text, &edits)?).map_err(|error| at(&path, error))?;
        }
        Ok(())
    }

    /// Builds the copy's simulator.
    pub(super) fn build_sim(&self) -> Result<()> {
        self.cargo(SIM_PROFILE, &["build", "-p", "purlin-tests", "--bin", "sim"]).map(drop)
    }

    /// Puts the simulator that was built aside: it is the one without any mutant.
    pub(super) fn keep_sound_sim(&self) -> Result<()> {
        let from = self.sim();
        fs::copy(&from, self.sound_sim()).map(drop).map_err(|error| at(&from, error))
    }

    /// Runs the seeds until one fails.
    pub(super) fn run_seeds(&self, seeds: u64) -> Result<Watched> {
        self.run_seeds_with(&self.sim(), seeds)
    }

    /// The same without any mutant.
    pub(super) fn run_sound_seeds(&self, seeds: u64) -> Result<Watched> {
        self.run_seeds_with(&self.sound_sim(), seeds)
    }

    fn run_seeds_with(&self, sim: &Path, seeds: u64) -> Result<Watched> {
        let range = format!("0..{seeds}");
        let mut sim = self.bounded(sim);
        watch(sim.args(["--first", "--no-shrink", "--seeds", &range]), SEEDS_PATIENCE)
    }

    /// Whether a seed passes without any mutant.
    pub(super) fn is_sound(&self, seed: u64) -> Result<bool> {
        let mut sim = self.bounded(&self.sound_sim());
        let watched = watch(sim.args(["--seed", &seed.to_string()]), SEEDS_PATIENCE)?;
        Ok(watched.ended == Ended::Well)
    }

    /// Builds the tests that hold a unit. They are run by themselves: a cargo that is killed leaves them
    /// behind.
    pub(super) fn build_tests(&self, unit: &Unit) -> Result<Vec<PathBuf>> {
        let place = unit.find(&self.sound)?;
        let mut arguments = vec!["test", "-p", &unit.package, "--no-run"];
        arguments.extend(place.targets.iter().map(String::as_str));
        let built = self.cargo(TESTS_PROFILE, &arguments)?;
        let executable = |line: &String| {
            let (_, path) = line.trim().strip_prefix("Executable ")?.rsplit_once('(')?;
            Some(self.tree.join(path.strip_suffix(')')?))
        };
        Ok(built.lines.iter().filter_map(executable).collect())
    }

    /// What the first of `units` that fails says, if one fails. All are of one package, and `tests` hold
    /// them.
    pub(super) fn failure(&self, tests: &[PathBuf], units: &[&Unit]) -> Result<Option<String>> {
        let Some(first) = units.first() else { return Ok(None) };
        let folder = self.tree.join(first.find(&self.sound)?.folder);
        let mut missing: BTreeSet<&str> = units.iter().map(|unit| unit.test.as_str()).collect();
        for test in tests {
            let listed = run(self.bounded(test).arg("--list"), TESTS_PATIENCE)?;
            let mut command = self.bounded(test);
            command.arg("--exact").current_dir(&folder);
            let mut holds_any = false;
            for path in listed.lines.iter().filter_map(|line| line.strip_suffix(": test")) {
                let name = path.rsplit("::").next().unwrap_or(path);
                if units.iter().any(|unit| unit.test == name) {
                    missing.remove(name);
                    command.arg(path);
                    holds_any = true;
                }
            }
            if !holds_any {
                continue;
            }
            let watched = watch(&mut command, TESTS_PATIENCE)?;
            match watched.ended {
                Ended::Well => {}
                Ended::Badly => return Ok(Some(message_of(&watched.lines))),
                Ended::Quiet => return Ok(Some("it does not end".to_owned())),
            }
        }
        if missing.is_empty() { Ok(None) } else { Err(format!("there is no test {missing:?}")) }
    }

    /// The units of mutants that fail in the copy as it is now, without any mutant.
    pub(super) fn unsound_units(&self, mutants: &[Mutant]) -> Result<BTreeSet<Unit>> {
        let mut by_place: BTreeMap<_, BTreeSet<&Unit>> = BTreeMap::new();
        for Mutant { unit, .. } in mutants {
            by_place.entry(unit.find(&self.sound)?).or_default().insert(unit);
        }
        let mut unsound = BTreeSet::new();
        for units in by_place.into_values() {
            let units: Vec<&Unit> = units.into_iter().collect();
            let tests = self.build_tests(units[0])?;
            if self.failure(&tests, &units)?.is_none() {
                continue;
            }
            for unit in units {
                if self.failure(&tests, &[unit])?.is_some() {
                    unsound.insert(unit.clone());
                }
            }
        }
        Ok(unsound)
    }

    fn cargo(&self, profile: &str, arguments: &[&str]) -> Result<Watched> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(arguments).args(["--offline", "--profile", profile]);
        cargo.env("CARGO_TARGET_DIR", self.target()).current_dir(&self.tree);
        run(&mut cargo, BUILD_PATIENCE).map_err(|error| format!("it does not build: {error}"))
    }

    fn bounded(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        let script = format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(program).current_dir(&self.folder);
        command
    }

    fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    fn sim(&self) -> PathBuf {
        self.target().join(SIM_PROFILE).join("sim")
    }

    fn sound_sim(&self) -> PathBuf {
        self.folder.join("sim-without-a-mutant")
    }
}

impl Drop for Workshop {
    /// No mutant stays in the copy. If taking it out fails, the next run does it.
    fn drop(&mut self) {
        let _tried_again = self.refresh();
    }
}

/// Runs a command that must end well; otherwise the first error that it told of says why.
fn run(command: &mut Command, patience: Duration) -> Result<Watched> {
    let watched = watch(command, patience)?;
    if watched.ended == Ended::Well {
        return Ok(watched);
    }
    let error = watched.lines.iter().find(|line| line.starts_with("error"));
    Err(error.or(watched.lines.last()).cloned().unwrap_or_default())
}

/// The message of the first panic among the lines of a test, or else its last line.
fn message_of(lines: &[String]) -> String {
    let Some(panic) = lines.iter().position(|line| line.contains(" panicked at ")) else {
        return lines.last().cloned().unwrap_or_default();
    };
    let ends = |line: &String| {
        line.is_empty() || line.starts_with("note: ") || line.starts_with("stack backtrace:")
    };
    let message = lines[panic + 1..].iter().take_while(|line| !ends(line));
    message.map(|line| line.trim()).collect::<Vec<_>>().join(", ")
}

/// The files of the user's tree that are not ignored, and are there.
fn listed(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let names = run(&mut git, BUILD_PATIENCE)?.lines.into_iter().map(PathBuf::from);
    Ok(names.filter(|name| root.join(name).is_file()).collect())
}

/// Makes `to` hold these `files` of `from`, and nothing else. A file that is equal already is left
/// alone, so that nothing is built for it.
fn make_equal(from: &Path, to: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    for name in files {
        let (from, to) = (from.join(name), to.join(name));
        let content = fs::read(&from).map_err(|error| at(&from, error))?;
        if fs::read(&to).is_ok_and(|copied| copied == content) {
            continue;
        }
        let folder = to.parent().expect("it lies in the tree");
        fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
        fs::write(&to, content).map_err(|error| at(&to, error))?;
    }
    remove_others(to, to, files)
}

/// Removes the files below `folder` that are not `wanted`.
fn remove_others(tree: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|error| at(folder, error))? {
        let path = entry.map_err(|error| at(folder, error))?.path();
        let name = path.strip_prefix(tree).expect("it lies in the tree");
        if path.is_dir() {
            remove_others(tree, &path, wanted)?;
        } else if !wanted.contains(name) {
            fs::remove_file(&path).map_err(|error| at(&path, error))?;
        }
    }
    Ok(())
}

fn at(path: &Path, error: std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_the_words_of_its_panic() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let panic =
            "running 1 test\n\nthread 'a' (7) panicked at a.rs:1:2:\nwrong\n  left: 1\nnote: b";
        assert_eq!(message_of(&lines(panic)), "wrong, left: 1");
        assert_eq!(message_of(&lines("running 1 test\nmemory is gone")), "memory is gone");
        assert_eq!(message_of(&[]), "");
    }

    #[test]
    fn a_copy_becomes_equal_and_what_is_equal_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("purlin-mutants-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        };
        ["same", "deep/changed"].iter().for_each(|name| write(from.join(name), name));
        write(to.join("same"), "same");
        write(to.join("deep/changed"), "by a mutant");
        write(to.join("deep/added"), "by a mutant");
        let changed_at = |name: &str| fs::metadata(to.join(name)).and_then(|it| it.modified()).ok();
        let before = changed_at("same");
        let files = ["same", "deep/changed"].into_iter().map(PathBuf::from).collect();
        make_equal(&from, &to, &files).expect("both can be read and written");
        assert_eq!(
            fs::read_to_string(to.join("deep/changed")).ok().as_deref(),
            Some("deep/changed")
        );
        assert_eq!((changed_at("same"), to.join("deep/added").exists()), (before, false));
        fs::remove_dir_all(&folder).expect("it can be removed");
    }
}
