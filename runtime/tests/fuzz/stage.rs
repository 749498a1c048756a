//! A runtime of this process in a folder of its own, and requests to its socket byte by byte.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use dinrail::runtime::{self, Options, Running};

/// Longest that an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime named `fuzz`, stopped with this.
pub struct Stage {
    running: Option<Running>,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    pub fn start() -> Stage {
        let folder = tempfile::Builder::new().prefix("dinrail-fuzz-").tempdir().unwrap();
        let state = folder.path().join("s");
        let running = runtime::start(Options {
            manifest: None,
            config: dinrail::config::Config::default(),
            state: state.clone(),
            device_id: Some("fuzz".to_owned()),
            new_device_key: false,
            watch: Vec::new(),
            autostart: false,
            logs: dinrail::log::Logs::nowhere(),
            session_folder: None,
        });
        Stage { running: Some(running.unwrap()), socket: state.join("dinrail.sock"), _folder: folder }
    }

    /// Sends bytes as they are, and gives what comes back until the other side ends. `is_all`: says that no more will come,
    /// after which the runtime may give the request up.
    pub fn exchange(&self, request: &[u8], is_all: bool) -> Vec<u8> {
        let mut stream = UnixStream::connect(&self.socket).expect("the runtime accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // Who is refused early may find the door closed while it still speaks.
        let _ = stream.write_all(request);
        if is_all {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no end of the answer: {error}; so far {}", String::from_utf8_lossy(&answer)),
        }
        answer
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}
