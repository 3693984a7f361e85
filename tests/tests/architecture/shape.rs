//! How large a file, a struct and a function may be.

use crate::source::{
    assert_none, assert_only_shrinks, code_lines, is_test, sources, without_tests,
};

/// Files longer than [`FILE_LINES_MAX`], with their lines of code: they may only shrink.
const LONG_FILES: [(&str, usize); 0] = [];
const FILE_LINES_MAX: usize = 600;

/// Structs with more than [`FIELDS_MAX`] fields, with their count: they may only shrink.
/// It is the layout of a block on disk.
const LARGE_STRUCTS: [(&str, usize); 1] = [("storage/src/segment.rs Raw", 18)];
const FIELDS_MAX: usize = 15;

/// The longest function that says no reason, in lines of code.
const FUNCTION_LINES_MAX: usize = 60;
/// How the reason begins: a comment inside a long function, or directly above it.
const REASON: &str = "// Long because ";

#[test]
fn long_files_only_shrink() {
    let long = sources().into_iter().filter_map(|(path, source)| {
        let lines = code_lines(without_tests(&source)).count();
        (!is_test(&path) && lines > FILE_LINES_MAX).then_some((path, lines))
    });
    assert_only_shrinks(
        "lines of code",
        "give its second noun a file",
        &LONG_FILES,
        long.collect(),
    );
}

#[test]
fn large_structs_only_shrink() {
    let mut large = Vec::new();
    for (path, source) in sources() {
        let structs = structs(&source).into_iter().filter(|(_, fields)| *fields > FIELDS_MAX);
        large.extend(structs.map(|(name, fields)| (format!("{path} {name}"), fields)));
    }
    assert_only_shrinks("fields", "give some of them a struct", &LARGE_STRUCTS, large);
}

#[test]
fn a_long_function_says_why() {
    let mut wrong = Vec::new();
    for (path, source) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        let functions = functions(without_tests(&source)).into_iter();
        for long in functions.filter(|it| it.lines > FUNCTION_LINES_MAX && !it.says_why) {
            wrong.push(format!(
                "{path} {} has {} lines of code: cut it, or say `{REASON}...`",
                long.name, long.lines
            ));
        }
    }
    assert_none(&wrong);
}

/// The structs with named fields, and how many.
fn structs(source: &str) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut open = false;
    for line in source.lines() {
        let head = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        if let Some(rest) = head.strip_prefix("struct ")
            && line.ends_with('{')
        {
            found.push((name(rest), 0));
            open = true;
        } else if line == "}" {
            open = false;
        } else if let (true, Some((_, fields))) = (open, found.last_mut()) {
            let is_indented = line.starts_with("    ") && !line.starts_with("     ");
            let name =
                line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            let is_field = name.split_once(": ").is_some_and(|(name, _)| {
                name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
            });
            *fields += usize::from(is_indented && is_field);
        }
    }
    found
}

/// The name at the start of a text.
fn name(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[derive(Debug, PartialEq)]
struct Function {
    name: String,
    /// From the line of its name to its last brace.
    lines: usize,
    says_why: bool,
}

/// The functions that have a body of several lines.
fn functions(source: &str) -> Vec<Function> {
    let lines: Vec<_> = source.lines().collect();
    let mut found = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let Some(name) = function(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        // The signature ends in its own line, or in the next one that is indented like it.
        let is_level = |line: &str| {
            line.strip_prefix(indent)
                .is_some_and(|rest| !rest.starts_with([' ', '\n']) && !rest.is_empty())
        };
        let is_head =
            |line: &&&str| is_level(line) && (line.ends_with('{') || line.ends_with([';', '}']));
        let rest = &lines[place..];
        let Some(head) = rest.iter().position(|line| is_head(&line)) else { continue };
        if !rest[head].ends_with('{') {
            continue;
        }
        let end = rest[head..].iter().position(|line| *line == format!("{indent}}}"));
        let body = &rest[..=head + end.unwrap_or_else(|| panic!("{name} has no end"))];
        let above = lines[..place].iter().rev().take_while(|line| is_about_the_next(line));
        found.push(Function {
            name,
            lines: code_lines(&body.join("\n")).count(),
            says_why: above.chain(body).any(|line| line.trim().starts_with(REASON)),
        });
    }
    found
}

/// The name of the function that begins in this line.
fn function(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    for word in
        ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe ", "extern \"C\" "]
    {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    rest.strip_prefix("fn ").map(name)
}

/// Whether a line is a comment or an attribute.
fn is_about_the_next(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("#[")
}

#[test]
fn fields_of_structs_are_counted() {
    let source = "pub struct A<T> {\n    /// A: doc.\n    pub a: T,\n    b: Vec<(u8, u8)>,\n}\n\
                  struct B;\nstruct C(u8);\nstruct D {\n    #[x]\n    pub(crate) d: u8,\n}\n";
    assert_eq!(structs(source), [("A".to_owned(), 2), ("D".to_owned(), 1)]);
}

#[test]
fn lines_of_functions_are_counted() {
    let source = "trait T {\n    fn none(&self);\n    fn long(\n        &self,\n    ) -> u8;\n}\n\
                  fn short() {}\n\n/// Doc.\n// Long because it may.\n#[x]\npub(crate) async fn a<T>(\n    t: T,\n\
                  ) -> u8\nwhere\n    T: B,\n{\n    // No code.\n    if t {\n    }\n\n    1\n}\n\
                  impl D {\n    pub fn d(&self) {\n        self.e();\n    }\n}\n";
    let function =
        |name: &str, lines, says_why| Function { name: name.to_owned(), lines, says_why };
    assert_eq!(functions(source), [function("a", 10, true), function("d", 3, false)]);
}
