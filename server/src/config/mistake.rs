//! What is wrong with a configuration file, drawn at its place:
//!
//! ```text
//! error: unknown key `raft.election_timout`
//!   --> /etc/purlin/purlin.toml:27:1
//! 27 | election_timout = "500ms..1s"
//!    | ^^^^^^^^^^^^^^^ did you mean `election_timeout`?
//! ```

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

/// Mistakes beyond this many are counted, not shown. To draw one takes as long as the text is.
const SHOWN_MAX: usize = 20;
/// The part of a line that is drawn, in characters.
const DRAWN_MAX: usize = 120;
/// The longest message and the longest remark, in characters: a name of the file may stand in them.
const TEXT_MAX: usize = 400;

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mistake {
    /// What is wrong, in a sentence without a full stop.
    pub(super) message: String,
    /// Where in the text, in bytes; nothing when it is about what is not there.
    pub(super) span: Option<Range<usize>>,
    /// What stands beside the carets; perhaps empty.
    pub(super) label: String,
}

impl Mistake {
    pub(super) fn new(message: impl Into<String>, span: Option<Range<usize>>) -> Self {
        Self { message: message.into(), span, label: String::new() }
    }

    /// With a remark beside the carets.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }
}

/// All that is wrong with one configuration file. Shows as text for people, of several lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistakes {
    path: PathBuf,
    /// Of the first ones.
    drawings: Vec<String>,
    count: usize,
}

impl Mistakes {
    /// In the order of their places. `text` is what the file at `path` holds.
    pub(super) fn new(path: &Path, text: &str, mut mistakes: Vec<Mistake>) -> Self {
        assert!(!mistakes.is_empty(), "no mistake in {}", path.display());
        mistakes.sort_by_key(|mistake| mistake.span.as_ref().map_or(usize::MAX, |span| span.start));
        let shown = mistakes.iter().take(SHOWN_MAX);
        let drawings = shown.map(|mistake| draw(path, text, mistake)).collect();
        Self { path: path.to_owned(), drawings, count: mistakes.len() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.drawings.join("\n"))?;
        match self.count - self.drawings.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more mistakes"),
        }
    }
}

impl std::error::Error for Mistakes {}

fn draw(path: &Path, text: &str, mistake: &Mistake) -> String {
    let head = format!("error: {}\n  --> {}", shortened(&mistake.message), path.display());
    let label = shortened(&mistake.label);
    let Some(span) = &mistake.span else {
        return if label.is_empty() { head } else { format!("{head}\n   = {label}") };
    };
    let place = Place::of(text, span);
    let (number, margin) = (place.line, " ".repeat(place.line.to_string().len()));
    let carets = " ".repeat(place.before) + &"^".repeat(place.width);
    let below = format!("{carets} {label}");
    format!(
        "{head}:{number}:{}\n{number} | {}\n{margin} | {}",
        place.column,
        place.drawn,
        below.trim_end()
    )
}

/// Where a span lies, and how its first line is drawn. Lines and columns count from 1, columns in
/// characters.
struct Place {
    line: usize,
    column: usize,
    /// The line, or the part of it around the span.
    drawn: String,
    /// Characters of `drawn` before the span.
    before: usize,
    /// Characters of the span in `drawn`, at least one.
    width: usize,
}

impl Place {
    fn of(text: &str, span: &Range<usize>) -> Self {
        let start = floor_char(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_text = text[line_start..].lines().next().unwrap_or("");
        let before = text[line_start..start].chars().count();
        let end =
            floor_char(text, span.end).clamp(start, (line_start + line_text.len()).max(start));
        let width = text[start..end].chars().count();

        let cut = if before + width > DRAWN_MAX { before.saturating_sub(DRAWN_MAX / 4) } else { 0 };
        let drawn: String = line_text.chars().skip(cut).take(DRAWN_MAX).map(printable).collect();
        let room = DRAWN_MAX.saturating_sub(before - cut);
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: before + 1,
            drawn,
            before: before - cut,
            width: width.clamp(1, room.max(1)),
        }
    }
}

/// The start of the character that `at` points into.
fn floor_char(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The text, as far as a reader wants it, and in one line.
fn shortened(text: &str) -> String {
    let more = if text.chars().nth(TEXT_MAX).is_some() { "…" } else { "" };
    text.chars().take(TEXT_MAX).map(printable).chain(more.chars()).collect()
}

/// One column wide, and nothing that a terminal would obey.
fn printable(letter: char) -> char {
    match letter {
        '\t' => ' ',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, span: Range<usize>) -> String {
        draw(Path::new("f.toml"), text, &Mistake::new("wrong", Some(span)).label("why"))
    }

    #[test]
    fn a_span_is_drawn_under_its_line() {
        let text = "a = 1\nbcd = 22\n";
        assert_eq!(
            drawn(text, 12..14),
            "error: wrong\n  --> f.toml:2:7\n2 | bcd = 22\n  |       ^^ why"
        );
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(
            drawn("ä = \t1", 6..7),
            "error: wrong\n  --> f.toml:1:6\n1 | ä =  1\n  |      ^ why"
        );
    }

    #[test]
    fn the_end_of_the_text_has_a_place() {
        assert_eq!(drawn("a =", 3..3), "error: wrong\n  --> f.toml:1:4\n1 | a =\n  |    ^ why");
        assert_eq!(drawn("", 7..9), "error: wrong\n  --> f.toml:1:1\n1 | \n  | ^ why");
    }

    #[test]
    fn a_span_of_several_lines_is_drawn_to_the_end_of_its_first() {
        assert_eq!(
            drawn("a = [\n1,\n]", 4..10),
            "error: wrong\n  --> f.toml:1:5\n1 | a = [\n  |     ^ why"
        );
    }

    #[test]
    fn of_a_long_line_the_part_around_the_span_is_drawn() {
        let text = format!("{}here{}", "x".repeat(1000), "y".repeat(1000));
        let drawing = drawn(&text, 1000..1004);
        let lines: Vec<_> = drawing.lines().collect();
        assert_eq!(lines[1], "  --> f.toml:1:1001");
        let caret = lines[3].find('^').expect("carets");
        assert_eq!(&lines[2][caret..caret + 4], "here");
        assert!(lines[2].len() < 130, "{}", lines[2].len());
    }

    #[test]
    fn nothing_that_a_terminal_would_obey_is_drawn() {
        assert!(drawn("a\x1b[2J = 1", 0..1).contains("a\u{fffd}[2J = 1"));
        let named = Mistake::new("unknown key `\x1b[2J`", None).label("did you mean \x07?");
        let drawing = draw(Path::new("f"), "", &named);
        assert!(!drawing.contains(|letter: char| letter.is_control() && letter != '\n'));
    }

    #[test]
    fn a_long_name_makes_no_long_message() {
        let name = "ä".repeat(100_000);
        let mistake = Mistake::new(format!("unknown key `{name}`"), Some(0..1)).label(name);
        let drawing = draw(Path::new("f"), "x", &mistake);
        assert!(drawing.chars().count() < 2 * TEXT_MAX + 100, "{}", drawing.chars().count());
        assert!(drawing.starts_with("error: unknown key `ä") && drawing.ends_with('…'));
    }

    #[test]
    fn many_mistakes_are_counted_not_shown() {
        let mistakes = (0..25).map(|at| Mistake::new(format!("m{at}"), Some(0..1))).collect();
        let mistakes = Mistakes::new(Path::new("f"), "x", mistakes);
        assert_eq!((mistakes.count(), mistakes.drawings.len()), (25, SHOWN_MAX));
        let text = mistakes.to_string();
        assert!(text.contains("m19") && !text.contains("m20"), "{text}");
        assert!(text.ends_with("and 5 more mistakes"), "{text}");
    }
}
