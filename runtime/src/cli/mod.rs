//! The command line: one file per verb. `run` is the runtime; every other verb is a client of a running one, except those that
//! say they work offline.
//!
//! Verbs write through [`Out`] and fail with a [`Failure`], which is the only place that knows exit codes: 0 done, 1 refused or
//! failed, 2 usage, 3 no runtime answers. A closed pipe ends every verb quietly.

mod add;
mod bench;
mod check;
mod completions;
mod console;
mod dead_letter;
mod deploy;
mod deployment;
mod durations;
mod export;
mod failure;
mod hosts;
mod identity;
mod image;
mod json_input;
mod lifecycle;
mod list;
mod login;
mod logs;
mod losses;
mod man;
mod manifest;
mod method;
mod new;
mod out;
mod places;
mod plan;
mod progress;
mod remove;
mod rollback;
mod route;
mod route_test;
mod run;
mod secret;
mod send;
mod service;
mod show;
mod support_bundle;
mod table;
mod tail;
mod tryout;
mod twin;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::admin::client::{Client, ClientError, Host};
pub use bench::{BenchOptions, BenchPart};
pub use failure::Failure;
pub use out::Out;
pub use run::{LogFormat, RunOptions};

/// Runs native shared libraries as supervised modules with identities and twins.
#[derive(Debug, Parser)]
#[command(name = "dinrail", version, disable_help_subcommand = true, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// State directory of the runtime [default: /var/lib/dinrail for root, else $XDG_STATE_HOME/dinrail; clients try both]
    #[arg(long, global = true, value_name = "DIR", env = "DINRAIL_STATE", hide_env_values = true)]
    state: Option<PathBuf>,
    /// Ask the runtime on another machine, by TLS and with the key of `login` [env: DINRAIL_HOST; port 8443 unless given]
    #[arg(short = 'H', long, global = true, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// Write JSON for programs: one document, or one per line where messages are followed
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  dinrail run --watch target/release deployments/host-monitor.json
  dinrail list
  dinrail tail filter
  dinrail twin patch filter threshold=1 --wait

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 no runtime answers.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the runtime in the foreground, until SIGTERM or Ctrl-C
    Run(run::RunArgs),
    /// List the modules
    List(list::ListArgs),
    /// Show everything about one module
    Show(show::ShowArgs),
    /// Wait until a module has a status
    Wait(wait::WaitArgs),
    /// Add a module without a manifest
    Add(add::AddArgs),
    /// End a module for good
    Remove(remove::RemoveArgs),
    /// Start a module, also one that has failed or is quarantined
    Start(lifecycle::StartArgs),
    /// Stop a module; it stays stopped, over a reboot too, until it is started
    Stop(lifecycle::StopArgs),
    /// Stop a module and start it again
    Restart(lifecycle::RestartArgs),
    /// Apply a deployment manifest
    Deploy(deploy::DeployArgs),
    /// Show what applying a manifest would do, without doing it
    Plan(plan::PlanArgs),
    /// Show the deployment in force, or those before it
    Deployment(deployment::DeploymentArgs),
    /// List the routes in force, add some outside the manifest, and try one on a message
    Route(route::RouteArgs),
    /// Go back to an earlier deployment
    Rollback(rollback::RollbackArgs),
    /// Read and change twins
    Twin(twin::TwinArgs),
    /// Look after identities: who may act, their keys and tokens
    Identity(identity::IdentityArgs),
    /// Call a direct method of a module
    Method(method::MethodArgs),
    /// Set what modules need and nobody else is to see, such as passwords
    Secret(secret::SecretArgs),
    /// Put a message on a module's input
    Send(send::SendArgs),
    /// Print messages live as they pass
    Tail(tail::TailArgs),
    /// Keep the key for the runtime on another machine: `-H HOST login`
    Login(login::LoginArgs),
    /// Show what modules and the runtime have said
    Logs(logs::LogsArgs),
    /// Show which messages were dropped, expired or parked, and why
    Losses(losses::LossesArgs),
    /// Look after messages that were set aside
    DeadLetter(dead_letter::DeadLetterArgs),
    /// Try one module in a process of its own, and see what it does (offline)
    Try(tryout::TryArgs),
    /// Look after the image store
    Image(image::ImageArgs),
    /// Look at the device and the runtime, and say what is wrong and what to do
    Check(check::CheckArgs),
    /// Put together what helps to find a fault, without secrets
    SupportBundle(support_bundle::SupportBundleArgs),
    /// Make a module project in Rust, C or C++ (offline)
    New(new::NewArgs),
    /// Measure this device (offline)
    Bench(bench::BenchArgs),
    /// Print the completions for a shell (offline)
    Completions(completions::CompletionsArgs),
    /// Write the man pages (offline)
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// What every verb is given.
struct Context {
    out: Out,
    state: Option<PathBuf>,
    /// Another machine; goes before `state`.
    host: Option<Host>,
}

impl Context {
    /// The runtime that answers at `--state`, or at any default place.
    fn client(&self) -> Result<Client, Failure> {
        match &self.host {
            Some(host) => hosts::client(host),
            None => Ok(self.find()?),
        }
    }

    /// That no other machine is meant, by a verb for which there is none.
    fn only_here(&self, verb: &str) -> Result<(), Failure> {
        match &self.host {
            Some(host) => {
                Err(Failure::usage(format!("{verb} works on this machine, not on {host}")).hint("leave out -H"))
            }
            None => Ok(()),
        }
    }

    /// A runtime on this system.
    fn find(&self) -> Result<Client, ClientError> {
        let states = match &self.state {
            Some(state) => vec![state.clone()],
            None => places::Surroundings::read().client_states(),
        };
        Client::find(&states)
    }
}

/// Does what the arguments of this process say.
pub fn main() -> ExitCode {
    if let Some(code) = completions::answer_shell() {
        return code;
    }
    let cli = Cli::parse();
    let mut context = Context { out: Out::stdout(cli.json), state: cli.state, host: None };
    let done = reached(cli.host, &cli.verb).and_then(|host| {
        context.host = host;
        dispatch(cli.verb, &mut context)?;
        context.out.flush()
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The other machine that is meant, if one is. Verbs that need no runtime are refused one, unless only the environment names it.
fn reached(given: Option<String>, verb: &Verb) -> Result<Option<Host>, Failure> {
    let is_offline = matches!(
        verb,
        Verb::Run(_) | Verb::Try(_) | Verb::New(_) | Verb::Bench(_) | Verb::Completions(_) | Verb::Man(_)
    ) || matches!(verb, Verb::Route(args) if args.is_offline());
    match given {
        Some(host) if is_offline => {
            Err(Failure::usage(format!("this verb works on this machine, not on {host}")).hint("leave out -H"))
        }
        Some(host) => hosts::parse(&host).map(Some),
        None if is_offline => Ok(None),
        None => hosts::of_environment().map(|host| hosts::parse(&host)).transpose(),
    }
}

fn dispatch(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    match verb {
        Verb::Run(args) => run::run(args, context),
        Verb::List(args) => list::run(args, context),
        Verb::Show(args) => show::run(args, context),
        Verb::Wait(args) => wait::run(args, context),
        Verb::Add(args) => add::run(args, context),
        Verb::Remove(args) => remove::run(args, context),
        Verb::Start(args) => lifecycle::start(args, context),
        Verb::Stop(args) => lifecycle::stop(args, context),
        Verb::Restart(args) => lifecycle::restart(args, context),
        Verb::Deploy(args) => deploy::run(args, context),
        Verb::Plan(args) => plan::run(args, context),
        Verb::Deployment(args) => deployment::run(args, context),
        Verb::Route(args) => route::run(args, context),
        Verb::Rollback(args) => rollback::run(args, context),
        Verb::Twin(args) => twin::run(args, context),
        Verb::Identity(args) => identity::run(args, context),
        Verb::Method(args) => method::run(args, context),
        Verb::Secret(args) => secret::run(args, context),
        Verb::Send(args) => send::run(args, context),
        Verb::Tail(args) => tail::run(args, context),
        Verb::Login(args) => login::run(args, context),
        Verb::Logs(args) => logs::run(args, context),
        Verb::Losses(args) => losses::run(args, context),
        Verb::DeadLetter(args) => dead_letter::run(args, context),
        Verb::Try(args) => tryout::run(args, context),
        Verb::Image(args) => image::run(args, context),
        Verb::Check(args) => check::run(args, context),
        Verb::SupportBundle(args) => support_bundle::run(args, context),
        Verb::New(args) => new::run(args, context),
        Verb::Bench(args) => bench::run(args, context),
        Verb::Completions(args) => completions::run(args, context),
        Verb::Man(args) => man::run(args, context),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_examples_and_says_what_it_does() {
        fn look(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("dinrail "), "{} has no example", command.get_name());
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }

    #[test]
    fn names_are_not_empty() {
        let lines = [
            "show _",
            "remove _",
            "start _",
            "stop _",
            "restart _",
            "wait _",
            "add _ x",
            "add x _",
            "send _ in x",
            "send c _ x",
            "losses _",
            "logs _",
            "method _ m",
            "method c _",
            "twin get _",
            "twin patch _ a=1",
            "twin replace _ {}",
            "twin history _",
            "twin undo _",
            "image remove _",
            "image inspect _",
            "route add _ x",
            "route remove _",
            "dead-letter list _",
            "dead-letter resend --of _",
            "identity show _",
            "identity add _",
            "identity remove _",
            "identity enable _",
            "identity disable _",
            "identity token _",
            "identity rotate _",
            "identity connection-string _",
            "secret set _",
            "secret allow s _",
            "secret remove _",
            "try x.so --name _",
        ];
        for line in lines {
            let words = line.split(' ').map(|word| if word == "_" { "" } else { word });
            let refused = Cli::try_parse_from(std::iter::once("dinrail").chain(words)).map(|_| ()).expect_err(line);
            assert_eq!((refused.kind(), refused.exit_code()), (clap::error::ErrorKind::InvalidValue, 2), "{line}");
            assert!(refused.to_string().contains("a value is required for '"), "{line}: {refused}");
        }
    }

    #[test]
    fn documented_command_lines_are_understood() {
        let lines = [
            "run",
            "run m.json --watch a --watch b --autostart --config c.toml --device-id D --log-format json --state s",
            "list --json",
            "--state s list",
            "wait filter --for stopped --timeout 1h",
            "stop filter",
            "add pump filter:1 --set limit=3 --set a.b=x --env TZ=UTC --isolation thread --restart-policy never --startup-order 3 --device-twin read",
            "add pump ./libfilter.so --stopped",
            "remove pump --purge",
            "deploy m.json --wait --timeout 2m",
            "deployment",
            "deployment history --json",
            "deployment 3",
            "rollback",
            "rollback 3 --wait --timeout 1m",
            "twin get /devices/D",
            "twin patch filter threshold=1 a.b=null --wait",
            "twin replace filter @file",
            "identity list --json",
            "identity show /devices/press-1",
            "identity add /devices/press-1 --disabled --primary-key - --secondary-key @f",
            "identity remove /devices/press-1/modules/scanner",
            "identity enable press",
            "identity disable press --reason stolen",
            "identity token insight --ttl 1h",
            "identity connection-string insight --key secondary",
            "identity connection-string --policy owner",
            "identity rotate insight --key primary",
            "identity rotate --policy reader",
            "secret set plc-pw @file --for pump --for valve",
            "secret set plc-pw",
            "secret allow plc-pw pump valve --only",
            "secret list --json",
            "secret remove plc-pw --force",
            "send filter in {} -p a=b -p c=d --content-type text/plain",
            "tail -n 3 --timeout 10s",
            "tail filter",
            "logs filter -f --tail 5 --since 15m --level warn --grep a|b",
            "logs --runtime --until 90s",
            "losses",
            "losses filter --json",
            "dead-letter list filter --older-than 1h --limit 5",
            "dead-letter show 17 --json",
            "dead-letter resend 17 18",
            "dead-letter resend --of filter",
            "dead-letter purge --all --yes",
            "send filter in @a @b --lines --count 3 --rate 10/s --message-id m --correlation-id c --system contentType=x",
            "logs --audit -f",
            "-H line3 list",
            "list -H line3:8443",
            "-H line3 login --ca ca.pem",
            "run --listen 127.0.0.1:8443",
            "try x.so --message in=a --property k=v --patch a=1 --method m --for 1s --timeout 5s --expect text --json",
            "image inspect x.so",
            "image remove filter:1",
            "check --warnings-as-errors",
            "support-bundle -o f.zip --with-values",
            "new hello --lang cpp --json",
            "new hello --path ../plugin-api",
            "bench hop --json",
            "bench all --probe p.so",
            "completions bash",
            "man pages",
        ];
        for line in lines {
            let parsed = Cli::try_parse_from(std::iter::once("dinrail").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
