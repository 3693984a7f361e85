//! The logs of the nodes: each node writes its lines into the queue of the program, and a reader takes them out.
//!
//! ```text
//! a task of a node ── tracing ──► LogLines of its process ──► the reader of the node: slow, or it stands still
//! ```
//!
//! The rule of the queue is the program's ([`LogLines`]). The reader is ours. It takes a piece, and needs time for it.
//! With [`Fault::BlockLog`] it stands still now and then: a write that meets such a time goes on behind it.
//!
//! No task waits for a log and none is woken by it, nothing here is due in the world, and each reader has a random stream
//! of its own. What readers have taken is worked out when the next line comes. So a run has the same history with every
//! log, and a test compares such runs.
//!
//! Each line carries its number. A line that is written, or said to be missing, must be the next one of its process.

use super::{
    clock::now_for_logs,
    executor::{Process, polled_for_logs},
    faults::{Fault, FaultOptions},
    random::Random,
    world::OUTSIDE,
};
use purlin_rsm::NodeId;
use purlin_server::log_lines::{LogLines, Piece, cut};
use std::{
    collections::BTreeMap,
    fmt::{Debug, Write as _},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber, dispatcher,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

/// How much was logged.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LogFigures {
    /// Lines that nodes logged.
    pub lines: u64,
    /// Lines that found no room.
    pub dropped: u64,
    /// Times in which a reader stood still, and a line waited for it.
    pub blocks: u64,
}

impl LogFigures {
    /// Adds another run's figures.
    pub fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.dropped += other.dropped;
        self.blocks += other.blocks;
    }
}

/// The logs of all nodes of a run.
pub(crate) struct NodeLogs {
    /// A lock, since a subscriber must be `Sync`; nobody ever waits for it.
    logs: Arc<Mutex<Logs>>,
}

impl NodeLogs {
    pub(crate) fn new(seed: u64, faults: &FaultOptions) -> Self {
        let random = Random::new(seed, "logs");
        let blocks = faults.kinds.contains(&Fault::BlockLog);
        let logs = Logs {
            seed,
            bytes_max: random.magnitude(300.0, 4_000.0) as usize,
            line_time: Duration::from_secs_f64(random.magnitude(0.000_001, 0.1)),
            blocks: blocks.then(|| Blocks::draw(seed, faults.pause_mean)),
            nodes: BTreeMap::new(),
            figures: LogFigures::default(),
            violations: Vec::new(),
        };
        Self { logs: Arc::new(Mutex::new(logs)) }
    }

    /// Whatever nodes log while `run` runs goes into their logs, and to the subscriber of the caller.
    pub(crate) fn listen<T>(&self, run: impl FnOnce() -> T) -> T {
        let outer = dispatcher::get_default(Dispatch::clone);
        let outer_level = LevelFilter::current();
        let listener = Listener { logs: self.logs.clone(), outer, outer_level };
        tracing::subscriber::with_default(listener, run)
    }

    /// From now on no reader stands still.
    pub(crate) fn calm(&self, now: Duration) {
        let logs = &mut *self.lock();
        logs.blocks = None;
        for log in logs.nodes.values_mut() {
            log.write_until(now);
            log.reader.blocks = None;
            log.reader.free_at = log.reader.free_at.min(now);
        }
    }

    /// The readers take the rest. Returns how much was logged, and what was wrong.
    pub(crate) fn end(&self) -> (LogFigures, Vec<String>) {
        let logs = &mut *self.lock();
        for (node, mut log) in std::mem::take(&mut logs.nodes) {
            log.settle();
            logs.add(node, log);
        }
        (logs.figures, std::mem::take(&mut logs.violations))
    }

    fn lock(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().expect("no line panics inside")
    }
}

struct Logs {
    seed: u64,
    bytes_max: usize,
    line_time: Duration,
    /// How often and for how long readers stand.
    blocks: Option<Blocks>,
    nodes: BTreeMap<NodeId, NodeLog>,
    figures: LogFigures,
    violations: Vec<String>,
}

impl Logs {
    fn push(&mut self, process: Process, now: Duration, text: &str) {
        let Process { node, boot } = process;
        let mut log = match self.nodes.remove(&node) {
            Some(log) if log.boot == boot => log,
            before => self.begin(process, before),
        };
        log.push(now, text);
        self.nodes.insert(node, log);
    }

    /// The queue of a process. What the one before has not written is lost with it, and its reader stays.
    fn begin(&mut self, process: Process, before: Option<NodeLog>) -> NodeLog {
        let Process { node, boot } = process;
        let reader = match before {
            Some(mut log) => {
                let free_at = log.reader.free_at;
                log.settle();
                let (blocks, line_time) = (log.reader.blocks.take(), log.reader.line_time);
                self.add(node, log);
                Reader { line_time, free_at, blocks, blocked: 0 }
            }
            None => {
                let blocks = self.blocks.as_ref().map(|blocks| blocks.of(self.seed, node));
                let free_at = Duration::ZERO;
                Reader { line_time: self.line_time, free_at, blocks, blocked: 0 }
            }
        };
        NodeLog::new(boot, self.bytes_max, reader)
    }

    /// Adds what became of the lines of a process.
    fn add(&mut self, node: NodeId, log: NodeLog) {
        self.figures.lines += log.pushed;
        self.figures.dropped += log.dropped;
        self.figures.blocks += log.reader.blocked;
        let told = log.wrong.map(|what| format!("log of node {node}, boot {}: {what}", log.boot));
        self.violations.extend(told);
    }
}

/// The log of one process.
struct NodeLog {
    boot: u64,
    lines: LogLines,
    reader: Reader,
    bytes_max: usize,
    pushed: u64,
    dropped: u64,
    /// Lines that were written, or said to be missing.
    written: u64,
    missing: u64,
    /// What was wrong first.
    wrong: Option<String>,
}

impl NodeLog {
    fn new(boot: u64, bytes_max: usize, reader: Reader) -> Self {
        let lines = LogLines::new(bytes_max);
        let (pushed, dropped, written, missing) = Default::default();
        Self { boot, lines, reader, bytes_max, pushed, dropped, written, missing, wrong: None }
    }

    fn push(&mut self, now: Duration, text: &str) {
        self.write_until(now);
        // A reader that has nothing to take is ready when something comes.
        self.reader.free_at = self.reader.free_at.max(now);
        let line = cut(format!("{} {text}\n", self.pushed).as_bytes());
        self.pushed += 1;
        self.dropped += u64::from(!self.lines.add(line));
        // Counted anew from what waits, and with what each place costs.
        let held: usize = self.lines.waiting().map(Piece::cost).sum();
        let most = self.bytes_max;
        self.check(held <= most, || format!("{held} bytes wait in a queue for {most}"));
    }

    /// The reader takes what it can by now.
    fn write_until(&mut self, now: Duration) {
        while self.reader.free_at <= now {
            let Some(piece) = self.lines.take() else { return };
            self.write(&piece);
            self.reader.take();
        }
    }

    /// The reader takes the rest. All lines that were logged were then written or said to be missing.
    fn settle(&mut self) {
        while let Some(piece) = self.lines.take() {
            self.write(&piece);
        }
        let Self { pushed, dropped, written, missing, .. } = *self;
        self.check(written + missing == pushed && missing == dropped, || {
            format!(
                "{pushed} lines, {dropped} dropped: {written} written, {missing} said to be missing"
            )
        });
    }

    fn write(&mut self, piece: &Piece) {
        match piece {
            Piece::Line(line) => {
                let (number, next) = (number(line), self.written + self.missing);
                let is_next = number == Some(next);
                self.check(is_next, || format!("line {number:?} is written, and {next} is next"));
                self.written += 1;
            }
            Piece::Gap(lines) => self.missing += lines,
        }
    }

    fn check(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        if !is_right && self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }
}

/// The number at the beginning of a line.
fn number(line: &[u8]) -> Option<u64> {
    std::str::from_utf8(line).ok()?.split(' ').next()?.parse().ok()
}

/// Takes the log of one node, whichever process writes it.
struct Reader {
    /// How long it needs for a piece.
    line_time: Duration,
    /// When it takes the next piece.
    free_at: Duration,
    blocks: Option<BlockTimes>,
    /// How often it stood still with a piece.
    blocked: u64,
}

impl Reader {
    /// Takes a piece at [`Reader::free_at`].
    fn take(&mut self) {
        let start = self.free_at;
        self.free_at += self.line_time;
        let Some(blocks) = &mut self.blocks else { return };
        while blocks.time.end <= start {
            blocks.go_on();
        }
        while blocks.time.start < self.free_at {
            self.free_at = self.free_at.max(blocks.time.end);
            self.blocked += 1;
            blocks.go_on();
        }
    }
}

/// How often and for how long the readers of a run stand still, in the mean.
struct Blocks {
    pause: Duration,
    length: Duration,
}

impl Blocks {
    /// Rare and long, frequent and short, as the other faults.
    fn draw(seed: u64, least: Duration) -> Self {
        let random = Random::new(seed, &format!("fault {}", Fault::BlockLog));
        let pause = least.mul_f64(random.magnitude(1.0, 30.0));
        Self { pause, length: pause.mul_f64(random.magnitude(0.01, 1.0)) }
    }

    fn of(&self, seed: u64, node: NodeId) -> BlockTimes {
        let random = Random::new(seed, &format!("fault {} n{node}", Fault::BlockLog));
        let mut times = BlockTimes {
            random,
            pause: self.pause,
            length: self.length,
            time: Duration::ZERO..Duration::ZERO,
        };
        times.go_on();
        times
    }
}

/// When the reader of one node stands still.
struct BlockTimes {
    random: Random,
    pause: Duration,
    length: Duration,
    /// This time, or the next.
    time: Range<Duration>,
}

impl BlockTimes {
    fn go_on(&mut self) {
        let start = self.time.end + self.random.exponential(self.pause);
        self.time = start..start + self.random.exponential(self.length);
    }
}

/// Hears what the tasks of all nodes log.
struct Listener {
    logs: Arc<Mutex<Logs>>,
    /// The subscriber of the caller.
    outer: Dispatch,
    /// The most that it takes, or another one of this program.
    outer_level: LevelFilter,
}

impl Listener {
    const LEVEL: Level = Level::DEBUG;

    /// Whether a node may log it: the simulator itself logs too.
    fn wants(metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Self::LEVEL && !metadata.target().starts_with("purlin_tests")
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::wants(metadata) || self.outer.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.outer_level.max(LevelFilter::from_level(Self::LEVEL)))
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.outer.new_span(span)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        self.outer.record(span, values);
    }

    fn record_follows_from(&self, span: &span::Id, follows: &span::Id) {
        self.outer.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        if self.outer.enabled(event.metadata()) {
            self.outer.event(event);
        }
        if let Some(process) = polled_for_logs()
            && process.node != OUTSIDE
            && Self::wants(event.metadata())
        {
            let mut text = Text(event.metadata().level().to_string());
            event.record(&mut text);
            let mut logs = self.logs.lock().expect("no line panics inside");
            logs.push(process, now_for_logs(), &text.0);
        }
    }

    fn enter(&self, span: &span::Id) {
        self.outer.enter(span);
    }

    fn exit(&self, span: &span::Id) {
        self.outer.exit(span);
    }
}

/// The text of a line.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A log whose reader stands still from second 10 to second 20.
    fn log() -> NodeLog {
        let blocks = BlockTimes {
            random: Random::new(1, "test"),
            pause: 1_000 * SECOND,
            length: SECOND,
            time: 10 * SECOND..20 * SECOND,
        };
        let line_time = Duration::from_millis(1);
        let reader =
            Reader { line_time, free_at: Duration::ZERO, blocks: Some(blocks), blocked: 0 };
        NodeLog::new(1, 1_000, reader)
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_that_are_said_when_it_is_back() {
        let mut log = log();
        (0..9).for_each(|second| log.push(second * SECOND, "calm"));
        log.write_until(9 * SECOND);
        assert_eq!((log.written, log.dropped), (9, 0));
        for second in 10..20 {
            (0..3).for_each(|_| log.push(second * SECOND, "blocked"));
        }
        assert_eq!(log.written, 10, "one is in the write that stands");
        assert!(log.dropped > 10, "{} of 30 were dropped", log.dropped);
        assert_eq!((log.missing, log.reader.blocked), (0, 1));
        log.push(21 * SECOND, "after");
        log.write_until(22 * SECOND);
        assert_eq!(log.missing, log.dropped);
        assert_eq!(log.written + log.missing, 40);
        log.settle();
        assert_eq!(log.wrong, None);
    }

    /// The queue never runs empty behind the gap, so only a line that comes next can be told of it.
    #[test]
    fn a_slow_reader_is_told_in_front_of_a_line_what_is_missing() {
        let mut log = log();
        log.reader.blocks = None;
        log.reader.line_time = SECOND;
        // Too many at once, and then one a second, as fast as the reader.
        (0..30).for_each(|_| log.push(Duration::ZERO, "burst"));
        let missed = log.dropped;
        assert!(missed > 10, "{missed} of 30 were dropped");
        let mut second = Duration::ZERO;
        while log.missing == 0 && log.wrong.is_none() {
            second += SECOND;
            assert!(second < 30 * SECOND, "no gap is said");
            log.push(second, "later");
            assert_ne!(log.lines.waiting().count(), 0, "the queue ran empty");
        }
        assert_eq!(log.wrong, None);
        assert_eq!(log.missing, log.dropped, "one gap for all");
        log.settle();
        assert_eq!(log.wrong, None);
    }

    /// The bytes of the lines alone would be within the bound.
    #[test]
    fn a_queue_that_counts_no_places_is_wrong() {
        let mut log = log();
        log.reader.blocks = None;
        log.reader.free_at = 100 * SECOND;
        log.lines = LogLines::new(2 * log.bytes_max);
        (0..30).for_each(|_| log.push(Duration::ZERO, "x"));
        let wrong = log.wrong.expect("too much waits");
        assert!(wrong.ends_with("bytes wait in a queue for 1000"), "{wrong}");
    }

    #[test]
    fn a_line_that_is_missing_unsaid_is_wrong() {
        let mut log = log();
        ["one", "two", "three"].iter().for_each(|text| log.push(Duration::ZERO, text));
        let _ = log.lines.take();
        log.settle();
        let wrong = log.wrong.expect("a line is gone");
        assert!(wrong.contains("and 1 is next") || wrong.contains("and 0 is next"), "{wrong}");
    }
}
