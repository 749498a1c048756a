//! `dinrail bench`: measures this device; needs no runtime.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Context, Failure};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchPart {
    /// A message from module to module
    Hop,
    /// A thousand modules: start, stop, memory
    Instances,
    /// Everything
    All,
}

/// Everything that `bench` was told.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// What is measured.
    pub what: BenchPart,
    /// The probe module; `None`: it is looked for beside the executable, then in `../lib/dinrail`.
    pub probe: Option<PathBuf>,
    /// True if the result is one JSON object.
    pub json: bool,
    /// Rounds of which the median is taken.
    pub rounds: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Prints our figure, that of the plainest program that does the same on this device in the same run, and their ratio. \
Needs no runtime; other load on the device shows in the figures. The probe module is looked for beside the executable, \
then in ../lib/dinrail.

Examples:
  dinrail bench
  dinrail bench hop --json
  dinrail bench instances --probe target/release/libprobe.so")]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_value = "all")]
    what: BenchPart,
    /// The probe module
    #[arg(long, value_name = "FILE")]
    probe: Option<PathBuf>,
    /// Rounds of which the median is taken
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
}

pub(super) fn run(args: BenchArgs, context: &mut Context) -> Result<(), Failure> {
    let BenchArgs { what, probe, rounds } = args;
    measure(BenchOptions { what, probe, json: context.out.is_json(), rounds }, context)
}

/// The place where the measurements are connected.
fn measure(options: BenchOptions, _: &mut Context) -> Result<(), Failure> {
    Err(Failure::new(format!("this build cannot measure {:?}", options.what))
        .hint("it is a build of the command line alone"))
}
