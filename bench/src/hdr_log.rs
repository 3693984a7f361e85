//! `--hdr-log`: the latencies of each second in the interval log of HdrHistogram, which its tools read and plot.
//!
//! ```text
//! #[StartTime: 1764532800.000 (seconds since epoch)]
//! #[MaxValueDivisor: 1000000.000]
//! Tag=warm-up,0.000,1.000,12.345,HISTFAAAAC…        start, length, longest in ms, histogram
//! 1.000,1.000,9.876,HISTFAAAAD…                     times are seconds since StartTime
//! ```
//!
//! Values are nanoseconds, from the intended time. A histogram of a second is written when the second ends, so the log is
//! whole up to the last second, also when the run is interrupted.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag};

use crate::recorder::Second;

/// Makes milliseconds of the longest value, which stands in the log for people.
const NANOS_A_MILLI: f64 = 1e6;
/// The tag of the seconds of the warm-up. Tools leave out what has a tag unless they are told.
pub const WARM_UP: &str = "warm-up";

/// A file, and the memory of the serializer.
pub struct HdrFile {
    path: PathBuf,
    file: File,
    serializer: V2DeflateSerializer,
}

impl HdrFile {
    /// Creates the file. What was in it is gone.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self { path: path.to_owned(), file, serializer: V2DeflateSerializer::new() })
    }
}

type Writer<'a> = IntervalLogWriter<'a, 'a, File, V2DeflateSerializer>;

/// Writes the log. After an error it writes nothing more.
pub struct HdrLog<'a> {
    stage: Stage<'a>,
    /// Where the last second ended, since the start of the run.
    written_to: Duration,
}

enum Stage<'a> {
    /// The first second tells when the run began.
    Created(&'a mut HdrFile),
    Writing(Writer<'a>, &'a Path),
    Ended(Option<String>),
}

impl<'a> HdrLog<'a> {
    /// A log that has nothing in it.
    pub fn new(file: &'a mut HdrFile) -> Self {
        Self { stage: Stage::Created(file), written_to: Duration::ZERO }
    }

    /// Writes a second that has just ended.
    pub fn write(&mut self, second: &Second, latency: &Histogram<u64>) {
        let ended = Duration::from_secs_f64(second.at.max(0.0));
        let written = match std::mem::replace(&mut self.stage, Stage::Ended(None)) {
            Stage::Created(file) => begin(file, ended),
            Stage::Writing(writer, path) => Ok((writer, path)),
            Stage::Ended(why) => return self.stage = Stage::Ended(why),
        };
        let written = written.and_then(|(mut writer, path)| {
            let tag = if second.is_warmup { Tag::new(WARM_UP) } else { None };
            let length = ended.saturating_sub(self.written_to);
            let written = writer.write_histogram(latency, self.written_to, length, tag);
            written.map_err(|error| format!("{}: {error}", path.display()))?;
            Ok((writer, path))
        });
        self.written_to = ended;
        self.stage = match written {
            Ok((writer, path)) => Stage::Writing(writer, path),
            Err(why) => Stage::Ended(Some(why)),
        };
    }

    /// Why the log is not whole, if it is not.
    pub fn failure(self) -> Option<String> {
        match self.stage {
            Stage::Ended(why) => why,
            _ => None,
        }
    }
}

/// Writes the head of the log, when `elapsed` of the run has passed.
fn begin(file: &mut HdrFile, elapsed: Duration) -> Result<(Writer<'_>, &Path), String> {
    let HdrFile { path, file, serializer } = file;
    let now = SystemTime::now();
    let writer = IntervalLogWriterBuilder::new()
        .add_comment("purlin-bench: latencies from the intended time, in nanoseconds")
        .with_start_time(now.checked_sub(elapsed).unwrap_or(now))
        .with_max_value_divisor(NANOS_A_MILLI)
        .begin_log_with(file, serializer);
    match writer {
        Ok(writer) => Ok((writer, path)),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
