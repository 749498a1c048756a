//! `dinrail completions SHELL`, and the answers to the shells that ask.
//!
//! The script of a shell calls this binary at each Tab with the words of the line; what is completed are verbs, options and the
//! ids that the running runtime knows. Guarantee: nothing is written to stderr, and an answer that would take long is none.

mod values;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Command, CommandFactory};
use clap_complete::env::Shells;

use super::{Cli, Context, Failure};
use values::Line;

/// Set by the scripts: the shell that asks. Its value is of no use to anybody else.
const VARIABLE: &str = "DINRAIL_COMPLETE";
const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "elvish", "powershell"];
const BASH: &str = include_str!("dinrail.bash");

#[derive(Debug, Args)]
#[command(after_help = "\
Prints a script that the shell reads at its start; names of modules, identities, images, routes and deployments are asked of \
the runtime that runs. The Debian package installs it for bash, zsh and fish.

Examples:
  source <(dinrail completions bash)
  dinrail completions zsh > ~/.zfunc/_dinrail
  dinrail completions fish > ~/.config/fish/completions/dinrail.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_parser = PossibleValuesParser::new(SHELLS))]
    shell: String,
}

pub(super) fn run(args: CompletionsArgs, context: &mut Context) -> Result<(), Failure> {
    let script = script(&args.shell)?;
    if context.out.is_json() {
        return context.out.document(&serde_json::json!({"shell": args.shell, "script": script}));
    }
    context.out.text(&script)
}

fn script(shell: &str) -> Result<String, Failure> {
    if shell == "bash" {
        return Ok(BASH.to_owned());
    }
    let shells = Shells::builtins();
    let known =
        shells.completer(shell).ok_or_else(|| Failure::usage(format!("there are no completions for {shell}")))?;
    let mut script = Vec::new();
    known.write_registration(VARIABLE, "dinrail", "dinrail", "dinrail", &mut script)?;
    let mut script = String::from_utf8_lossy(&script).trim_start().to_owned();
    if shell == "zsh" {
        // From a folder of functions it is read at the first Tab, which is to be answered too.
        script.push_str("[[ ${funcstack[1]-} != _dinrail ]] || _clap_dynamic_completer_dinrail \"$@\"\n");
    }
    Ok(script)
}

/// Answers the shell, if it is one that asks; then nothing else is to be done.
pub(super) fn answer_shell() -> Option<ExitCode> {
    let name = std::env::var_os(VARIABLE).filter(|name| !name.is_empty())?;
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let is_done = answer(&name.to_string_lossy(), words).is_some();
    Some(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn answer(shell: &str, words: Vec<OsString>) -> Option<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(shell)?;
    let line = Line::new(&words);
    let mut command = with_values(Cli::command(), "", &line);
    let here = std::env::current_dir().ok();
    let mut answer = Vec::new();
    // Words that nothing can follow are no error to anybody who presses Tab.
    shell.write_complete(&mut command, words, here.as_deref(), &mut answer).ok()?;
    std::io::stdout().write_all(&answer).ok()
}

/// The command with what completes its arguments; `verb` is the way to it, such as `image remove`.
fn with_values(command: Command, verb: &str, line: &Line) -> Command {
    let command = command.mut_args(|argument| match values::of(verb, argument.get_id().as_str(), line) {
        Some(completer) => argument.add(completer),
        None => argument,
    });
    command.mut_subcommands(|command| {
        let verb = format!("{verb} {}", command.get_name());
        with_values(command, verb.trim_start(), line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_its_script() {
        for shell in SHELLS {
            let script = script(shell).unwrap();
            assert!(script.contains(VARIABLE), "{shell}: {script}");
            assert!(script.contains("dinrail"), "{shell}: {script}");
        }
        assert!(script("zsh").unwrap().starts_with("#compdef dinrail"), "zsh looks at the first line");
    }

    /// Arguments that look like an id, with their verbs.
    fn ids(command: &Command, verb: &str) -> Vec<(String, String)> {
        let looks = |id: &str| ["name", "id", "reference", "image", "identity", "route", "module"].contains(&id);
        let own = command.get_arguments().map(|argument| argument.get_id().to_string()).filter(|id| looks(id));
        let own = own.map(|id| (verb.to_owned(), id));
        let inner = command
            .get_subcommands()
            .flat_map(|command| ids(command, format!("{verb} {}", command.get_name()).trim_start()));
        own.chain(inner).collect()
    }

    #[test]
    fn every_id_is_completed_save_those_that_are_new() {
        let line = Line::new(&[]);
        let new = [("add", "name"), ("try", "name"), ("new", "name"), ("route add", "name"), ("identity add", "id")];
        for (verb, id) in ids(&Cli::command(), "") {
            let is_completed = values::of(&verb, &id, &line).is_some();
            let is_new = new.contains(&(verb.as_str(), id.as_str()));
            assert!(is_completed != is_new, "say in completions/values.rs what completes {id} of '{verb}'");
        }
    }
}
