//! `dinrail -H HOST login`: keeps the key for a runtime on another machine, once it was tried, and whom to trust for it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Context, Failure, hosts};
use crate::admin::client::{Client, ClientError, Host, Remote, no_host, shown_by};
use crate::tls::{self, CertificateDer};
use crate::view::HealthView;

#[derive(Debug, Args)]
#[command(after_help = "\
The connection string is read from standard input, so that the key stands in no list of processes and no history. On the device,
`dinrail check` says the address, the fingerprint and the file of the certificate to trust.

Examples:
  dinrail -H line3 login --ca ca.pem < operator.txt
  dinrail -H line3:8443 login
  ssh line3 dinrail identity connection-string --policy reader | dinrail -H line3 login --fingerprint 3A:F1:…")]
pub struct LoginArgs {
    /// File with the certificate to trust: tls/ca.pem of the device's state directory
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust the certificate that the host shows, if it has this SHA-256
    #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
    fingerprint: Option<String>,
}

pub(super) fn run(args: LoginArgs, context: &mut Context) -> Result<(), Failure> {
    let host = context
        .host
        .clone()
        .ok_or_else(|| Failure::usage("login to which host?").hint("dinrail -H HOST[:PORT] login"))?;
    let text = read_string(&host)?;
    let credential = hosts::parsed(&text)?;
    let trusted = trust(&args, &host)?;
    let roots = trusted.clone().unwrap_or_else(tls::system_roots);
    let remote = Remote::new(host.clone(), credential, &roots);
    let client = Client::remote(remote.map_err(|error| Failure::of(&error).hint(error.hint()))?)?;
    let health = match client.get::<HealthView>("/health") {
        Ok(health) => Some(health),
        // An identity's own key is good, although it may not ask this.
        Err(ClientError::Refused { status: 403, .. }) => None,
        Err(ClientError::Untrusted(trouble)) if trusted.is_none() => return Err(stranger(&host, trouble.message)),
        Err(error) => return Err(error.into()),
    };
    let pem = trusted.map(|certificates| certificates.iter().map(tls::to_pem).collect::<String>());
    let file = hosts::keep(&host, &text, pem.as_deref())?;
    let out = &mut context.out;
    if out.is_json() {
        let device = health.as_ref().map(|health| &health.device_id);
        return out.document(&json!({"host": host.to_string(), "deviceId": device, "file": file}));
    }
    if let Some(health) = health {
        out.line(format!("{host} is the device {}, dinrail {}", health.device_id, health.version))?;
    }
    out.line(format!("the key is kept in {}", file.display()))
}

fn read_string(host: &Host) -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin();
    let mut text = Zeroizing::new(String::new());
    let read = if stdin.is_terminal() {
        let _ = write!(io::stderr(), "connection string for {host} (not shown): ");
        let quiet = Quiet::start();
        let read = stdin.lock().read_line(&mut text);
        drop(quiet);
        let _ = writeln!(io::stderr());
        read
    } else {
        stdin.lock().read_line(&mut text)
    };
    read.map_err(|error| Failure::caused("standard input cannot be read", &error))?;
    if text.trim().is_empty() {
        return Err(Failure::usage("there is no connection string on standard input")
            .hint("get one on the device: dinrail identity connection-string --policy operator"));
    }
    Ok(text)
}

/// Whom to trust for `host`; `None`: whom the system trusts.
fn trust(args: &LoginArgs, host: &Host) -> Result<Option<Vec<CertificateDer<'static>>>, Failure> {
    if let Some(file) = &args.ca {
        let read = tls::read_certificates(file);
        return read.map(Some).map_err(|error| Failure::of(&error).hint("name a file with a certificate in PEM"));
    }
    let shown = || shown_by(host).map_err(|error| Failure::from(no_host(host, &error)));
    if let Some(expected) = &args.fingerprint {
        let certificate = shown()?;
        let found = tls::fingerprint(&certificate);
        let plain = |text: &str| text.replace([':', ' '], "").to_ascii_uppercase();
        if plain(expected) != plain(&found) {
            return Err(Failure::new(format!("{host} shows another certificate than expected"))
                .detail(format!("expected {expected}"))
                .detail(format!("shown    {found}"))
                .hint("compare with `dinrail check` on the device; somebody may stand in between"));
        }
        return Ok(Some(vec![certificate]));
    }
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let certificate = shown()?;
    let mut stderr = io::stderr();
    let _ = writeln!(stderr, "{host} shows a certificate with the fingerprint\n  {}", tls::fingerprint(&certificate));
    let _ = write!(stderr, "Does `dinrail check` on the device say the same? [y/N] ");
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    if answer.trim().eq_ignore_ascii_case("y") {
        return Ok(Some(vec![certificate]));
    }
    Err(Failure::new(format!("{host} is not trusted, and nothing is kept")))
}

/// Nobody can be asked.
fn stranger(host: &Host, why: String) -> Failure {
    let told = Failure::new(why);
    match shown_by(host) {
        Ok(certificate) => told.detail(format!("it shows {}", tls::fingerprint(&certificate))).hint(
            "if `dinrail check` on the device says the same, add --fingerprint with it; or --ca FILE with its tls/ca.pem",
        ),
        Err(_) => told.hint("add --ca FILE with tls/ca.pem of the device"),
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl Quiet {
    #[cfg(unix)]
    fn start() -> Quiet {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &quiet);
        }
        Quiet { before }
    }

    #[cfg(not(unix))]
    fn start() -> Quiet {
        Quiet {}
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, before);
        }
    }
}
