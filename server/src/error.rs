//! How a command fails: what is written to the standard error, and the exit code.
//!
//! ```text
//! 0 done   1 another reason   2 usage   3 configuration   4 environment   5 data directory   6 damage
//! ```

use crate::{config::Mistakes, output::complain};
use purlin::{Error, ErrorKind};
use std::{fmt, process::ExitCode};

/// Why a command fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The configuration file has mistakes.
    Config(Mistakes),
    /// The engine or the machine refuses. In four parts: what, where, what it means, what to do.
    Error(Error),
    /// A child process has failed, and has said why: with its exit code.
    Child(u8),
}

impl Failure {
    /// In four parts.
    pub fn new(
        kind: ErrorKind,
        what: impl Into<String>,
        place: impl Into<String>,
        means: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self::Error(Error::new(kind, what, place, means, action))
    }

    /// The exit code that scripts decide by.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 3,
            Self::Error(error) => exit_code(error.kind),
            Self::Child(code) => *code,
        }
    }

    /// Writes it to the standard error, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let text = self.to_string();
        if !text.is_empty() {
            complain(text);
        }
        ExitCode::from(self.exit_code())
    }
}

/// The exit code for a kind of trouble.
fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Config => 3,
        ErrorKind::Environment => 4,
        ErrorKind::DataDirectory | ErrorKind::Refused => 5,
        ErrorKind::Damage => 6,
        _ => 1,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Each mistake says `error:` itself.
            Self::Config(mistakes) => write!(f, "{mistakes}"),
            Self::Error(error) => write!(f, "error: {error}"),
            Self::Child(_) => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Config(mistakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn kinds_have_the_exit_codes_that_are_promised() {
        for (kind, code) in [
            (ErrorKind::Config, 3),
            (ErrorKind::Environment, 4),
            (ErrorKind::DataDirectory, 5),
            (ErrorKind::Refused, 5),
            (ErrorKind::Damage, 6),
            (ErrorKind::Disk, 1),
            (ErrorKind::Bug, 1),
        ] {
            assert_eq!(Failure::new(kind, "", "", "", "").exit_code(), code, "{kind:?}");
        }
        assert_eq!(Failure::Child(4).exit_code(), 4);
    }

    #[test]
    fn an_error_has_four_parts() {
        let failure = Failure::new(
            ErrorKind::Environment,
            "port 7000 is in use",
            "127.0.0.1:7000",
            "nothing was started or changed",
            "choose another port",
        );
        assert_eq!(
            failure.to_string(),
            "error: port 7000 is in use\n  \
               in     127.0.0.1:7000\n  \
               means  nothing was started or changed\n  \
               do     choose another port"
        );
    }

    #[test]
    fn mistakes_are_shown_as_they_are() {
        let mistakes = Config::parse(Path::new("f"), "x = 1").expect_err("a mistake");
        let failure = Failure::from(mistakes.clone());
        assert_eq!(failure.exit_code(), 3);
        assert_eq!(failure.to_string(), mistakes.to_string());
        assert_eq!(Failure::Child(4).to_string(), "", "the child has said it");
    }
}
