//! Module projects: the folder that `dinrail new` makes, in Rust, C or C++.
//!
//! A project builds as it is made, with a compiler and no network: what it needs of dinrail, and for Rust the crates that this is
//! built from, is carried in this binary and laid beside it. Its test passes, and fails once the module no longer does what it says.
//!
//! Invariant: a folder is there whole or not at all, and nothing that was there before is touched.

mod carried;
mod error;
mod names;
mod template;
mod write;

use std::path::{Path, PathBuf};

pub use error::ProjectError;
pub use names::Names;

/// What the module is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// With the crate `dinrail-plugin`.
    Rust,
    /// With the header, C99.
    C,
    /// With the header, C++17.
    Cpp,
}

/// Where a project in Rust has plugin-api and other crates from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crates {
    /// Both from this binary.
    Carried,
    /// Plugin-api from this binary, the others from the registry.
    Registry,
    /// Plugin-api from this folder, the others from the registry.
    Checkout(PathBuf),
}

/// A project that is to be made.
#[derive(Debug)]
pub struct Project {
    names: Names,
    language: Language,
    crates: Crates,
}

/// A project that was made.
#[derive(Debug)]
pub struct Made {
    /// Its folder.
    pub folder: PathBuf,
    /// The author's files, from that folder.
    pub files: Vec<String>,
    /// How many files lie in its folder `.dinrail`, which nobody has to look at; 0: there is none.
    pub carried_files: usize,
}

impl Project {
    /// A project for a module of this name.
    ///
    /// # Errors
    /// Of the name, or of the checkout: [`ProjectError`].
    pub fn new(name: &str, language: Language, crates: Crates) -> Result<Project, ProjectError> {
        let names = Names::new(name, language)?;
        let crates = match crates {
            Crates::Checkout(folder) => Crates::Checkout(write::plugin_api_at(&folder)?),
            carried_or_registry => carried_or_registry,
        };
        Ok(Project { names, language, crates })
    }

    /// What is called how.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Makes its folder in `parent`.
    ///
    /// # Errors
    /// There is something in that place already, or it cannot be written; then nothing was made.
    pub fn make(&self, parent: &Path) -> Result<Made, ProjectError> {
        let folder = parent.join(self.names.folder());
        let files = template::files(&self.names, self.language, &self.crates);
        let parts = carried::parts(self.language, &self.crates);
        let carried_files = write::whole(&folder, &files, parts)?;
        let files = files.into_iter().map(|(path, _)| path).collect();
        Ok(Made { folder, files, carried_files })
    }

    /// The commands that build, test and try it, one after the other; `drop` is a folder where libraries are started.
    pub fn next_steps(&self, drop: &Path) -> Vec<String> {
        template::next_steps(&self.names, self.language, drop)
    }
}
