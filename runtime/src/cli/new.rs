//! `dinrail new NAME`: a module project; needs no runtime.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Context, Failure, places};
use crate::project::{Crates, Language, Project, ProjectError};

/// What a module is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lang {
    /// Rust, with the crate dinrail-plugin
    Rust,
    /// C99, with the header
    C,
    /// C++17, with the header
    Cpp,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The project is made in a folder of that name, builds without a network, and has a test and a manifest. Its README.md says how \
to go on. Nothing is overwritten. Needs no runtime.

Examples:
  dinrail new hello
  dinrail new hello --lang c
  dinrail new hello --online
  dinrail new hello --path ~/dinrail/plugin-api")]
pub struct NewArgs {
    /// Name of the module
    name: String,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    lang: Lang,
    /// Rust: take crates from the registry instead of those that lie in the project
    #[arg(long)]
    online: bool,
    /// Rust: use the plugin-api in this folder, and crates from the registry
    #[arg(long, value_name = "DIR", conflicts_with = "online")]
    path: Option<PathBuf>,
}

pub(super) fn run(args: NewArgs, context: &mut Context) -> Result<(), Failure> {
    let language = match args.lang {
        Lang::Rust => Language::Rust,
        Lang::C => Language::C,
        Lang::Cpp => Language::Cpp,
    };
    if language != Language::Rust && (args.online || args.path.is_some()) {
        return Err(Failure::usage("--online and --path are for projects in Rust")
            .hint("C and C++ need no crates: the header lies in the project"));
    }
    let crates = match args.path {
        Some(folder) => Crates::Checkout(folder),
        None if args.online => Crates::Registry,
        None => Crates::Carried,
    };
    let project = Project::new(&args.name, language, crates)?;
    let made = project.make(Path::new(""))?;
    let next = project.next_steps(&drop_folder(context));

    let names = project.names();
    if context.out.is_json() {
        return context.out.document(&json!({
            "name": names.module(),
            "folder": made.folder,
            "library": names.library(),
            "files": made.files,
            "carriedFiles": made.carried_files,
            "next": next,
        }));
    }
    if let Some(note) = names.note() {
        context.out.note(format_args!("note: {note}"));
    }
    context.out.line(format_args!("made {}: {}", made.folder.display(), made.files.join(", ")))?;
    if made.carried_files > 0 {
        context.out.line(format_args!("and .dinrail with {} files that it is built from", made.carried_files))?;
    }
    context.out.line("next:")?;
    next.iter().try_for_each(|step| context.out.line(format_args!("  {step}")))
}

/// Where a library is to be put, as far as that is known without a runtime.
fn drop_folder(context: &Context) -> PathBuf {
    let given = context.state.clone();
    let state = given.or_else(|| places::Surroundings::read().run_state().ok());
    state.unwrap_or_else(|| "STATE".into()).join("drop").join("")
}

impl From<ProjectError> for Failure {
    fn from(error: ProjectError) -> Failure {
        Failure::of(&error).hint(error.hint())
    }
}
