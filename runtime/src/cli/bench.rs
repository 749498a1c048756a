//! `dinrail bench`: measures this device; needs no runtime.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum};

use super::progress::Progress;
use super::run::Signals;
use super::table::Table;
use super::{Context, Failure};
use crate::bench::{self, BenchError};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchPart {
    /// A message from module to module
    Hop,
    /// Messages to the disk and through it
    Durable,
    /// Twins: reports to the disk, reads, desired changes
    Twin,
    /// A thousand modules: start, stop, memory
    Instances,
    /// Ten thousand identities with twins: start, list, memory
    Identities,
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
    /// Messages of a round of the hop, and of each sender to the disk.
    pub messages: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Prints our figure, that of the plainest program that does the same on this device in the same run, and their ratio. \
Needs no runtime; other load on the device shows in the figures. What goes to a disk goes to that of the temporary folder \
(TMPDIR). The probe module is looked for beside the executable, \
then in ../lib/dinrail.

Examples:
  dinrail bench
  dinrail bench hop --json
  dinrail bench durable
  dinrail bench twin
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
    /// Messages of a round of the hop, and of each sender to the disk; fewer say less
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    messages: Option<u64>,
}

pub(super) fn run(args: BenchArgs, context: &mut Context) -> Result<(), Failure> {
    let BenchArgs { what, probe, rounds, messages } = args;
    measure(BenchOptions { what, probe, json: context.out.is_json(), rounds, messages }, context)
}

/// Exit code of a bench that was told to end, as a shell has it after Ctrl-C.
const ENDED_BY_SIGNAL: i32 = 130;
/// Rounds unless somebody says otherwise.
const ROUNDS: u32 = 5;

fn measure(options: BenchOptions, context: &mut Context) -> Result<(), Failure> {
    static IS_TOLD_TO_END: AtomicBool = AtomicBool::new(false);
    leave_nothing_behind(&IS_TOLD_TO_END)?;
    let measured = measure_parts(options, context);
    while measured.is_err() && IS_TOLD_TO_END.load(Ordering::SeqCst) {
        // Its files have gone under it: that is no failure, and who cleared them up ends the process.
        std::thread::park();
    }
    measured
}

fn measure_parts(options: BenchOptions, context: &mut Context) -> Result<(), Failure> {
    let failed = |error: BenchError| Failure::of(&error).hint(error.hint());
    let probe = bench::find_probe(options.probe).map_err(failed)?;
    let mut progress = Progress::start();
    let mut say = |text: &str| progress.say(text);
    let mut report = bench::Report::default();
    if matches!(options.what, BenchPart::Hop | BenchPart::All) {
        let messages = options.messages.unwrap_or(bench::hop::MESSAGES);
        let extent = bench::Extent { rounds: options.rounds.unwrap_or(ROUNDS), messages };
        report.hop = Some(bench::hop::measure(&probe, extent, &mut say).map_err(failed)?);
    }
    if matches!(options.what, BenchPart::Durable | BenchPart::All) {
        let messages = options.messages.unwrap_or(bench::durable::MESSAGES);
        let extent = bench::Extent { rounds: options.rounds.unwrap_or(ROUNDS), messages };
        report.durable = Some(bench::durable::measure(&probe, extent, &mut say).map_err(failed)?);
    }
    if matches!(options.what, BenchPart::Twin | BenchPart::All) {
        let rounds = options.rounds.unwrap_or(ROUNDS);
        report.twin = Some(bench::twin::measure(&probe, rounds, &mut say).map_err(failed)?);
    }
    if matches!(options.what, BenchPart::Instances | BenchPart::All) {
        let rounds = options.rounds.unwrap_or(bench::instances::ROUNDS);
        report.instances = Some(bench::instances::measure(&probe, rounds, &mut say).map_err(failed)?);
    }
    if matches!(options.what, BenchPart::Identities | BenchPart::All) {
        let rounds = options.rounds.unwrap_or(bench::identities::ROUNDS);
        report.identities = Some(bench::identities::measure(rounds, &mut say).map_err(failed)?);
    }
    drop(progress);
    if options.json {
        return context.out.document(&report);
    }
    for table in tables(&report) {
        context.out.text(&table)?;
    }
    Ok(())
}

/// A signal ends the process with its scratch folders and the runtimes that it has started.
fn leave_nothing_behind(is_told_to_end: &'static AtomicBool) -> Result<(), Failure> {
    Signals::catch()?.heed(|signals| {
        signals.wait();
        is_told_to_end.store(true, Ordering::SeqCst);
        bench::clear_up();
        std::process::exit(ENDED_BY_SIGNAL);
    })
}

fn tables(report: &bench::Report) -> Vec<String> {
    let mut tables = Vec::new();
    if let Some(hop) = &report.hop {
        let mut table =
            Table::new(&["HOP", "OURS", "RAW", "RATIO", "RAW INLINE", "RATIO", "LOST", "REORDERED", "PROCESSORS"]);
        for (name, figures) in [("windowed", &hop.windowed), ("flood", &hop.flood)] {
            table.row(vec![
                name.into(),
                format!("{:.2} M/s", figures.ours_per_s / 1e6).into(),
                format!("{:.2} M/s", figures.raw_per_s / 1e6).into(),
                format!("{:.2}", figures.ratio).into(),
                format!("{:.2} M/s", figures.raw_inline_per_s / 1e6).into(),
                format!("{:.2}", figures.ratio_inline).into(),
                figures.lost.to_string().into(),
                figures.reordered.to_string().into(),
                stood(&figures.processors).into(),
            ]);
        }
        tables.push(table.render(None, false));
        let paced = &hop.paced;
        let mut table = Table::new(&["PACED", "OURS", "RAW", "RATIO"]);
        let rate = paced.rate_per_s;
        for (name, ours, raw, ratio) in [
            ("p50", paced.ours_p50_us, paced.raw_p50_us, paced.ratio_p50),
            ("p99", paced.ours_p99_us, paced.raw_p99_us, paced.ratio_p99),
        ] {
            table.row(vec![
                format!("{rate}/s {name}").into(),
                format!("{ours:.1} us").into(),
                format!("{raw:.1} us").into(),
                format!("{ratio:.2}").into(),
            ]);
        }
        tables.push(table.render(None, false));
    }
    if let Some(fan_out) = report.hop.as_ref().map(|hop| &hop.fan_out) {
        let mut table =
            Table::new(&["FAN-OUT", "DELIVERIES", "TO A SINGLE ONE", "RATIO", "LOST", "REORDERED", "PROCESSORS"]);
        table.row(vec![
            format!("to {} inputs", fan_out.inputs).into(),
            format!("{:.2} M/s", fan_out.deliveries_per_s / 1e6).into(),
            format!("{:.2} M/s", fan_out.single_per_s / 1e6).into(),
            format!("{:.2}", fan_out.ratio).into(),
            fan_out.lost.to_string().into(),
            fan_out.reordered.to_string().into(),
            stood(&fan_out.processors).into(),
        ]);
        tables.push(table.render(None, false));
    }
    if let Some(conditions) = report.hop.as_ref().map(|hop| &hop.conditions) {
        let mut table = Table::new(&[
            "CONDITIONS",
            "PLAIN ROUTE",
            "3 PROPERTIES",
            "$BODY OF 256 B",
            "LOST",
            "REORDERED",
            "PROCESSORS",
        ]);
        table.row(vec![
            "a message".into(),
            format!("{:.0} ns", conditions.plain_ns).into(),
            format!("{:+.0} ns", conditions.properties_ns).into(),
            format!("{:+.0} ns", conditions.body_ns).into(),
            conditions.lost.to_string().into(),
            conditions.reordered.to_string().into(),
            stood(&conditions.processors).into(),
        ]);
        tables.push(table.render(None, false));
    }
    if let Some(durable) = &report.durable {
        let mut table = Table::new(&["DURABLE", "OURS", "RAW", "RATIO", "GROUP"]);
        for (name, rate) in [
            ("sends of 8 modules", &durable.send),
            ("through the store, handled", &durable.end_to_end),
            ("sends of one module", &durable.single),
        ] {
            table.row(vec![
                name.into(),
                format!("{:.0}/s", rate.ours_per_s).into(),
                format!("{:.0}/s", rate.raw_per_s).into(),
                format!("{:.2}", rate.ratio).into(),
                format!("{:.1}", rate.group).into(),
            ]);
        }
        tables.push(table.render(None, false));
        let slow = &durable.slow_disk;
        let mut table = Table::new(&["SLOW DISK", "SEND, P50", "SEND, P99", "WRITTEN FOR EACH"]);
        table.row(vec![
            format!("{:.0} ms a sync", slow.fsync_ms).into(),
            format!("{:.1} ms", slow.p50_ms).into(),
            format!("{:.1} ms", slow.p99_ms).into(),
            format!("{:.0} B", slow.bytes_written_per_message).into(),
        ]);
        tables.push(table.render(None, false));
    }
    if let Some(twin) = &report.twin {
        let mut table = Table::new(&["TWIN", "OURS", "RAW", "RATIO", "GROUP"]);
        table.row(vec![
            "reports of 8 modules".into(),
            format!("{:.0}/s", twin.report.ours_per_s).into(),
            format!("{:.0}/s", twin.report.raw_per_s).into(),
            format!("{:.2}", twin.report.ratio).into(),
            format!("{:.1}", twin.report.group).into(),
        ]);
        let without_raw = |name: &str, ours: String| vec![name.into(), ours.into(), "-".into(), "-".into(), "-".into()];
        table.row(without_raw("reads", format!("{:.2} M/s", twin.read_per_s / 1e6)));
        table.row(without_raw("desired to handler, p50", format!("{:.0} us", twin.desired_p50_us)));
        tables.push(table.render(None, false));
    }
    if let Some(instances) = &report.instances {
        let mut table = Table::new(&["INSTANCES", "START", "STOP", "EACH", "EMPTY RUNTIME"]);
        table.row(vec![
            instances.count.to_string().into(),
            format!("{:.0} ms", instances.start_ms).into(),
            format!("{:.0} ms", instances.stop_ms).into(),
            format!("{:.1} KB", instances.bytes_each / 1e3).into(),
            format!("{:.2} MB", instances.empty_bytes as f64 / 1e6).into(),
        ]);
        tables.push(table.render(None, false));
    }
    if let Some(identities) = &report.identities {
        let mut table = Table::new(&["IDENTITIES", "TWIN", "START", "LIST", "RUNTIME"]);
        table.row(vec![
            identities.count.to_string().into(),
            format!("{:.0} B", identities.twin_bytes).into(),
            format!("{:.0} ms", identities.start_ms).into(),
            format!("{:.0} ms", identities.list_ms).into(),
            format!("{:.1} MB", identities.resident_bytes as f64 / 1e6).into(),
        ]);
        tables.push(table.render(None, false));
    }
    tables
}

fn stood(processors: &bench::Processors) -> String {
    processors.apart_ns.map_or_else(|| "-".to_owned(), |apart| format!("{apart:.0} ns apart"))
}
