//! A value typed on a terminal, which does not show it.

use std::io::{BufRead, IsTerminal, Write};

use zeroize::Zeroizing;

use super::super::Failure;

/// Whether there is somebody to ask.
pub(super) fn is_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for the value, twice.
pub(super) fn ask(name: &str) -> Result<Zeroizing<String>, Failure> {
    let dark = dark::Dark::begin()?;
    let value = line(&format!("Value of {name} (it is not shown): "))?;
    let again = line("The same again: ")?;
    drop(dark);
    if *value != *again {
        return Err(Failure::usage("the two differ").hint("repeat it; nothing was changed"));
    }
    Ok(value)
}

fn line(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |error| Failure::caused("the terminal cannot be read", &error);
    let mut err = std::io::stderr();
    let _ = write!(err, "{prompt}").and_then(|()| err.flush());
    let mut line = Zeroizing::new(String::with_capacity(8192));
    let octets = std::io::stdin().lock().read_line(&mut line).map_err(unreadable)?;
    let _ = writeln!(err);
    // Ctrl-C is a character like others while nothing is shown, so that the terminal is as before in the end.
    if octets == 0 || line.contains('\u{3}') {
        return Err(Failure::new("nothing was given").hint("nothing was changed"));
    }
    Ok(Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(unix)]
mod dark {
    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    use super::Failure;

    /// A terminal that does not show what is typed, until this is dropped.
    pub(super) struct Dark(Termios);

    impl Dark {
        pub(super) fn begin() -> Result<Dark, Failure> {
            let failed =
                |error| Failure::caused("the terminal cannot be kept from showing it", &std::io::Error::from(error));
            let before = tcgetattr(std::io::stdin()).map_err(failed)?;
            let mut modes = before.clone();
            modes.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
            tcsetattr(std::io::stdin(), OptionalActions::Flush, &modes).map_err(failed)?;
            Ok(Dark(before))
        }
    }

    impl Drop for Dark {
        fn drop(&mut self) {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
        }
    }
}

#[cfg(not(unix))]
mod dark {
    use super::Failure;

    /// Nowhere but on Unix can it be kept from showing.
    pub(super) struct Dark;

    impl Dark {
        pub(super) fn begin() -> Result<Dark, Failure> {
            Err(Failure::usage("this terminal would show it").hint("give the value by - (standard input) or @FILE"))
        }
    }
}
