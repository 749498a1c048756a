//! `dinrail deployment --export`.

use clap::Args;

use super::{Context, Failure};
use crate::document::to_yaml;
use crate::view::ExportView;

/// Options of `deployment` that are about its export.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Print the manifest in force, so that it can be deployed elsewhere; what it does not say is told on stderr
    #[arg(long)]
    pub export: bool,
    /// With --export: as YAML
    #[arg(long, requires = "export", conflicts_with = "json")]
    yaml: bool,
}

/// Prints the manifest as it was given, or in the form that was asked for.
pub(super) fn run(args: &ExportArgs, context: &mut Context) -> Result<(), Failure> {
    let export: ExportView = context.client()?.get("/deployment/export")?;
    let out = &mut context.out;
    if out.is_json() {
        out.document(&export.manifest)?;
    } else if args.yaml && export.format != "yaml" {
        out.text(&to_yaml(&export.manifest))?;
    } else {
        let end = if export.text.ends_with('\n') { "" } else { "\n" };
        out.text(&format!("{}{end}", export.text))?;
    }
    // Before the notes, which a terminal shows below it.
    out.flush()?;
    export.notes.iter().for_each(|note| out.note(format_args!("note: {note}")));
    Ok(())
}
