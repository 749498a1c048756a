//! Why no project was made.

use std::io;
use std::path::PathBuf;

use crate::image::ImageNameError;
use crate::name::NameError;

/// Why no project was made; nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The name cannot be a module's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name that a manifest or a route could not say.
    #[error("'{name}' cannot be the name of a project: {why}")]
    Unusable {
        /// The name.
        name: String,
        /// What stands against it.
        why: &'static str,
    },
    /// The library, which is called like the module, could not be used.
    #[error("{why}")]
    NoImageName {
        /// What stands against it.
        why: ImageNameError,
        /// A name like it that can be.
        fitting: String,
    },
    /// There is something in its place.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// The folder given as plugin-api is none.
    #[error("{} holds no plugin-api: {why}", .folder.display())]
    NoPluginApi {
        /// The folder.
        folder: PathBuf,
        /// What was looked for.
        why: String,
    },
    /// It cannot be written.
    #[error("{} cannot be made", .folder.display())]
    Unwritable {
        /// The folder that was to be made.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ProjectError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            ProjectError::Name(NameError::BadCharacter { found: '/' | '\\', .. }) => {
                "go to the folder that is to hold the project, and give its name alone".into()
            }
            ProjectError::Name(_) | ProjectError::Unusable { .. } => {
                "names that work everywhere have letters, digits and '-', such as line-3".into()
            }
            ProjectError::NoImageName { fitting, .. } => format!("{fitting} would do"),
            ProjectError::Exists(_) => "choose another name, or move away what is there: nothing is overwritten".into(),
            ProjectError::NoPluginApi { .. } => "give the folder plugin-api of a clone of dinrail".into(),
            ProjectError::Unwritable { .. } => "go to a folder that you may write to".into(),
        }
    }
}
