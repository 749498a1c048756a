//! Where the state directory is when nobody says.

use std::path::{Path, PathBuf};

use super::Failure;

/// What the surroundings of the process say about its user.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    is_root: bool,
    state_home: Option<PathBuf>,
    home: Option<PathBuf>,
    session: Option<PathBuf>,
    config_home: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn read() -> Surroundings {
        // Relative paths in these variables are to be ignored. Source: XDG Base Directory Specification.
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let (state_home, home, config_home) = if cfg!(windows) {
            ("LOCALAPPDATA", "USERPROFILE", "APPDATA")
        } else {
            ("XDG_STATE_HOME", "HOME", "XDG_CONFIG_HOME")
        };
        Surroundings {
            is_root: is_root(),
            state_home: folder(state_home),
            home: folder(home),
            session: folder("XDG_RUNTIME_DIR"),
            config_home: folder(config_home),
        }
    }

    /// Where `run` keeps its state.
    pub fn run_state(&self) -> Result<PathBuf, Failure> {
        let own = if self.is_root { Some(system_state()) } else { self.user_state() };
        own.ok_or_else(|| {
            Failure::usage("there is no default state directory: HOME is not set").hint("give --state DIR")
        })
    }

    /// Where a client looks for a runtime, nearest first.
    pub fn client_states(&self) -> Vec<PathBuf> {
        let mut states: Vec<PathBuf> = self.user_state().into_iter().collect();
        states.insert(if self.is_root { 0 } else { states.len() }, system_state());
        states
    }

    /// The user's folder for short-lived files.
    pub fn session(&self) -> Option<&Path> {
        self.session.as_deref()
    }

    /// Where a user keeps what this program is told once: who is trusted on which host, and with which key.
    pub fn hosts(&self) -> Option<PathBuf> {
        let home = || Some(self.home.as_ref()?.join(".config"));
        Some(self.config_home.clone().or_else(home)?.join("dinrail").join("hosts"))
    }

    fn user_state(&self) -> Option<PathBuf> {
        let home = || Some(self.home.as_ref()?.join(".local").join("state"));
        Some(self.state_home.clone().or_else(home)?.join("dinrail"))
    }
}

fn system_state() -> PathBuf {
    PathBuf::from(if cfg!(windows) { r"C:\ProgramData\dinrail" } else { "/var/lib/dinrail" })
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn surroundings(is_root: bool, state_home: Option<&str>, home: Option<&str>) -> Surroundings {
        Surroundings {
            is_root,
            state_home: state_home.map(Into::into),
            home: home.map(Into::into),
            ..Surroundings::default()
        }
    }

    #[test]
    fn root_and_users_have_their_own_default_places() {
        let table = [
            (surroundings(true, None, Some("/root")), "/var/lib/dinrail"),
            (surroundings(false, None, Some("/home/m")), "/home/m/.local/state/dinrail"),
            (surroundings(false, Some("/data/state"), Some("/home/m")), "/data/state/dinrail"),
        ];
        for (surroundings, expected) in table {
            assert_eq!(surroundings.run_state().unwrap(), Path::new(expected));
        }
        assert!(surroundings(false, None, None).run_state().is_err());
    }

    #[test]
    fn clients_try_every_default_place_their_own_first() {
        let user = surroundings(false, None, Some("/home/m")).client_states();
        assert_eq!(user, [Path::new("/home/m/.local/state/dinrail"), Path::new("/var/lib/dinrail")]);
        let root = surroundings(true, None, Some("/root")).client_states();
        assert_eq!(root, [Path::new("/var/lib/dinrail"), Path::new("/root/.local/state/dinrail")]);
        assert_eq!(surroundings(false, None, None).client_states(), [Path::new("/var/lib/dinrail")]);
    }
}
