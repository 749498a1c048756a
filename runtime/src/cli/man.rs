//! `dinrail man DIR`: the man pages, one for the command and one for every verb, made from the same words as `--help`.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use super::{Cli, Context, Failure};

#[derive(Debug, Args)]
#[command(after_help = "\
Meant for packages. An existing page is overwritten.

Examples:
  dinrail man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Folder for the pages; made where it is not there
    folder: PathBuf,
}

pub(super) fn run(args: ManArgs, context: &mut Context) -> Result<(), Failure> {
    let unwritable = |error: std::io::Error| {
        Failure::caused(format!("the man pages cannot be written to {}", args.folder.display()), &error)
    };
    std::fs::create_dir_all(&args.folder).map_err(unwritable)?;
    let mut names = Vec::new();
    for (name, page) in pages()? {
        std::fs::write(args.folder.join(&name), page).map_err(unwritable)?;
        names.push(name);
    }
    if context.out.is_json() {
        return context.out.document(&names);
    }
    context.out.line(format_args!("{} pages in {}", names.len(), Path::new(&args.folder).display()))
}

/// File names and texts.
fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut command = Cli::command();
    // Gives every verb its full name, and the options that all have.
    command.build();
    let mut pages = Vec::new();
    add(&command, None, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, parent: Option<&str>, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
    if command.is_hide_set() {
        return Ok(());
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    pages.push((format!("{name}.1"), page(command, parent)?));
    command.get_subcommands().try_for_each(|verb| add(verb, Some(&name), pages))
}

fn page(command: &Command, parent: Option<&str>) -> Result<Vec<u8>, Failure> {
    let man = Man::new(command.clone());
    // Without a date: the same release gives the same bytes.
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut page = format!(".TH \"{name}\" 1 \"\" \"dinrail {}\" dinrail\n", env!("CARGO_PKG_VERSION")).into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (words, examples) = parts(&help);
    let mut more = Roff::new();
    words.iter().for_each(|paragraph| {
        more.control("PP", []).text([roman(paragraph)]);
    });
    more.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|verb| !verb.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    terms(&mut rest, "EXIT STATUS", &EXIT_STATUS);
    terms(&mut rest, "ENVIRONMENT", &ENVIRONMENT);
    terms(&mut rest, "FILES", &FILES);
    rest.control("SH", ["EXAMPLES"]);
    rest.control("nf", []);
    for example in examples {
        rest.text([bold(example)]);
    }
    rest.control("fi", []);
    rest.control("SH", ["SEE ALSO"]);
    match parent {
        Some(parent) => rest.text([bold(parent), roman("(1)")]),
        None => rest.text([bold("systemctl"), roman("(1), "), bold("journalctl"), roman("(1)")]),
    };
    rest.to_writer(&mut page)?;
    Ok(page)
}

fn terms(page: &mut Roff, title: &str, terms: &[(&str, &str)]) {
    page.control("SH", [title]);
    for (term, meaning) in terms {
        page.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
    }
}

/// Paragraphs and example lines of what stands below the options in `--help`.
fn parts(help: &str) -> (Vec<String>, Vec<&str>) {
    let (mut words, mut examples) = (Vec::new(), Vec::new());
    let mut in_examples = false;
    for line in help.lines() {
        match line.trim() {
            "" => in_examples = false,
            "Examples:" => in_examples = true,
            example if in_examples => examples.push(example),
            // These have a section of their own.
            codes if codes.starts_with("Exit codes:") => {}
            paragraph => words.push(paragraph.to_owned()),
        }
    }
    (words, examples)
}

const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "Done."),
    ("1", "Refused or failed; the causes and a hint are on stderr."),
    ("2", "An argument that cannot be meant."),
    ("3", "No runtime answers; the places tried are on stderr."),
];

const ENVIRONMENT: [(&str, &str); 3] = [
    ("DINRAIL_STATE", "State directory, where --state does not say it."),
    ("XDG_STATE_HOME", "Where a user's state directory is made, as the folder dinrail; else ~/.local/state is."),
    ("NO_COLOR", "No colours, if it is set and not empty."),
];

const FILES: [(&str, &str); 6] = [
    ("/var/lib/dinrail", "State directory of the service and of root."),
    ("~/.local/state/dinrail", "State directory of a user."),
    ("drop/", "In the state directory: libraries that appear here are started."),
    ("dinrail.sock", "In the state directory: the management API, for the owner and the group."),
    ("/etc/default/dinrail", "Arguments of the service."),
    ("/usr/lib/dinrail", "Plugins of the package; the service watches it for images."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_taken_apart() {
        let (words, examples) = parts("One.\n\nExamples:\n  dinrail a\n  dinrail b\n\nTwo.\n\nExit codes: 0 done.");
        assert_eq!(words, ["One.", "Two."]);
        assert_eq!(examples, ["dinrail a", "dinrail b"]);
    }

    #[test]
    fn every_verb_has_a_page_with_the_sections_that_people_look_for() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["dinrail.1", "dinrail-list.1", "dinrail-twin-patch.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.contains(&"dinrail-man.1"), "hidden verbs have none");
        for (name, page) in &pages {
            let page = String::from_utf8_lossy(page);
            for section in ["NAME", "SYNOPSIS", "\"EXIT STATUS\"", "FILES", "ENVIRONMENT", "EXAMPLES"] {
                assert!(page.contains(&format!(".SH {section}\n")), "{name} has no {section}: {page}");
            }
            assert!(page.contains("\\fBdinrail "), "{name} has no example");
        }
    }
}
