//! Configuration files of operators.

use super::cost::bounded;
use purlin_server::config::Config;
use std::path::Path;

/// The longest text that tells the mistakes of a file: twenty of them, each with a message, a remark and a
/// line.
const TOLD_BYTES_MAX: usize = 20 * 4 * (400 + 400 + 2 * 120 + 100);

/// The input is a configuration file, if it is text. A good file that is written again is read again, and what
/// is said of a bad one is short.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("/etc/purlin.toml");
    // A key of one letter is a node of a tree, and a mistake with a place and a remark.
    match bounded(text.len(), 1 << 10, 256 << 10, || Config::parse(path, text)) {
        Ok(config) => {
            let written = config.render();
            let again = Config::parse(path, &written);
            assert_eq!(again.expect("what we wrote"), config, "written again:\n{written}");
        }
        Err(mistakes) => {
            let told = mistakes.to_string();
            assert!(mistakes.count() > 0 && told.starts_with("error: "), "{told}");
            assert!(told.len() <= TOLD_BYTES_MAX, "{} bytes of mistakes", told.len());
            let obeyed = |letter: char| letter.is_control() && letter != '\n';
            assert!(!told.contains(obeyed), "a terminal would obey {told:?}");
        }
    }
}
