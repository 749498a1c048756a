//! `dinrail image list|add|inspect|remove`.

use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::out::{Paint, printable};
use super::places::Surroundings;
use super::progress::Progress;
use super::table::{Cell, Table};
use super::{Context, Failure};
use crate::admin::client::{Client, path, query};
use crate::image;
use crate::view::ImageView;

#[derive(Debug, Args)]
#[command(after_help = "\
A reference is name (the newest admitted), name:1, name:1.2, name:1.2.3, or name@sha256:…

Examples:
  dinrail image list
  dinrail image add target/release/libfilter.so
  dinrail image inspect target/release/libfilter.so")]
pub struct ImageArgs {
    #[command(subcommand)]
    verb: ImageVerb,
}

#[derive(Debug, Subcommand)]
enum ImageVerb {
    /// List the images, and the files that were refused
    List(ImageListArgs),
    /// Put a library into the store
    Add(ImageAddArgs),
    /// Print a library's descriptor and verdict, without running any of its code (offline)
    Inspect(ImageInspectArgs),
    /// Remove an image that nothing uses, or forget one that was sent and refused
    Remove(ImageRemoveArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail image list
  dinrail image list --json")]
struct ImageListArgs {}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail image add target/release/libfilter.so")]
struct ImageAddArgs {
    /// The library
    file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Needs no runtime; a reference is looked up in the state directory.

Examples:
  dinrail image inspect target/release/libfilter.so
  dinrail image inspect filter:1 --json")]
struct ImageInspectArgs {
    /// A library, or a reference to an image of the store
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    what: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail image remove filter:1.2.0
  dinrail image remove libfilter.so    (was sent and refused)")]
struct ImageRemoveArgs {
    /// Reference of the image, or the file name of one that was refused
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    reference: String,
}

pub(super) fn run(args: ImageArgs, context: &mut Context) -> Result<(), Failure> {
    match args.verb {
        ImageVerb::List(ImageListArgs {}) => list(context),
        ImageVerb::Add(args) => add(&args.file, context),
        ImageVerb::Inspect(args) => {
            context.only_here("image inspect")?;
            inspect(&args.what, context)
        }
        ImageVerb::Remove(args) => remove(&args.reference, context),
    }
}

fn list(context: &mut Context) -> Result<(), Failure> {
    let images: Vec<ImageView> = context.client()?.get("/images")?;
    let out = &mut context.out;
    if out.is_json() {
        return out.document(&images);
    }
    out.text(&table(&images).render(out.width(), out.has_colour()))
}

fn add(file: &Path, context: &mut Context) -> Result<(), Failure> {
    let image = upload(&context.client()?, file)?;
    if context.out.is_json() {
        context.out.document(&image)?;
    }
    if image.verdict != "admitted" {
        return Err(Failure::new(printable(&format!("{} is {}: {}", file.display(), image.verdict, image.reason))));
    }
    if !context.out.is_json() {
        context.out.line(printable(&format!("{} admitted: {}", title(&image), image.reason)))?;
    }
    Ok(())
}

fn remove(reference: &str, context: &mut Context) -> Result<(), Failure> {
    let image: ImageView = context.client()?.delete(&path(&["images", reference]))?;
    if context.out.is_json() {
        return context.out.document(&image);
    }
    let what = if image.verdict == "refused" { "is forgotten" } else { "removed" };
    context.out.line(printable(&format!("{} {what}", title(&image))))
}

/// Prints what a library says of itself and whether it is admitted; runs none of its code.
fn inspect(what: &str, context: &mut Context) -> Result<(), Failure> {
    let file = find_library(what, context)?;
    let out = &mut context.out;
    let inspection = match image::inspect_file(&file) {
        Ok(inspection) => inspection,
        Err(refusal) => {
            if out.is_json() {
                out.document(&serde_json::json!({
                    "file": file.display().to_string(), "verdict": "refused", "loadsHere": false,
                    "reason": refusal.what, "hint": refusal.hint,
                }))?;
            }
            let text = format!("{}: not admitted: {}", file.display(), refusal.what);
            return Err(Failure::new(printable(&text)).hint(printable(&refusal.hint)));
        }
    };
    let needs = &inspection.needs;
    let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    if out.is_json() {
        let one = |library: &image::NeededLibrary| serde_json::json!({"name": library.name, "found": library.found});
        return out.document(&serde_json::json!({
            "file": file.display().to_string(), "verdict": "admitted", "loadsHere": true,
            "digest": inspection.digest.to_string(), "bytes": inspection.bytes, "arch": inspection.arch,
            "needs": {
                "libraries": needs.libraries.iter().map(one).collect::<Vec<_>>(), "glibc": needs.glibc.map(version)
            },
            "warnings": needs.warnings, "descriptor": inspection.descriptor,
        }));
    }
    described(&file, &inspection).iter().try_for_each(|line| out.line(line))
}

/// What a person reads of a library: its texts are a stranger's.
fn described(file: &Path, inspection: &image::Inspection) -> Vec<String> {
    let needs = &inspection.needs;
    let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    let list = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let descriptor = &inspection.descriptor;
    let mut wanted: Vec<String> = needs.libraries.iter().map(|library| library.name.clone()).collect();
    wanted.extend(needs.glibc.map(|newest| format!("glibc {} or newer", version(newest))));
    let lines = [
        ("description", descriptor.description.clone()),
        ("file", file.display().to_string()),
        ("digest", inspection.digest.to_string()),
        ("size", format!("{} bytes", inspection.bytes)),
        ("built for", inspection.arch.clone()),
        ("needs", list(&wanted)),
        ("abi", descriptor.abi.to_string()),
        ("sdk", descriptor.sdk.clone()),
        ("inputs", list(&descriptor.inputs)),
        ("outputs", list(&descriptor.outputs)),
        ("methods", list(&descriptor.methods)),
        ("loads here", "yes, as far as can be seen without running its code".to_owned()),
    ];
    let title = format!("{} {}  admitted", descriptor.name, descriptor.version);
    let lines =
        lines.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("  {name:<12} {value}"));
    let warnings = needs.warnings.iter().map(|warning| format!("  {:<12} {warning}", "warning"));
    std::iter::once(title).chain(lines).chain(warnings).map(|line| printable(&line)).collect()
}

/// The file that `what` names: itself, or the best match among the images of a state directory.
fn find_library(what: &str, context: &Context) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(what);
    if path.exists() {
        return Ok(path);
    }
    let reference: image::Reference =
        what.parse().map_err(|error: image::ReferenceError| Failure::usage(error.to_string()))?;
    if reference.name().is_none() {
        return Err(
            Failure::new(format!("there is no file {what}")).hint("give the path of a library, or NAME[:VERSION]")
        );
    }
    let states = context.state.clone().map_or_else(|| Surroundings::read().client_states(), |state| vec![state]);
    for state in &states {
        if let Some(file) = image::find_stored(&state.join("images"), &reference) {
            return Ok(file);
        }
    }
    let places: Vec<String> = states.iter().map(|state| state.display().to_string()).collect();
    Err(Failure::new(format!("there is no file and no image '{what}' in {}", places.join(", ")))
        .hint("dinrail image list shows the images; --state DIR names another state directory"))
}

/// Sends a library to the runtime.
pub(super) fn upload(client: &Client, file: &Path) -> Result<ImageView, Failure> {
    upload_for(client, file, "instances")
}

/// Sends a library for `instances`, which may use it at once, or for a `deployment`, which says who uses it.
pub(super) fn upload_for(client: &Client, file: &Path, purpose: &str) -> Result<ImageView, Failure> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut progress = Progress::start();
    let said = format!("sending {name}");
    let route = query("/images", &[("file", &name), ("for", purpose)]);
    Ok(client.upload(&route, file, move |sent, total| {
        progress.say(&format!("{said}: {} of {} MiB", sent >> 20, total >> 20));
    })?)
}

/// Name and version, or the file it came from.
fn title(image: &ImageView) -> String {
    match (&image.name, &image.version) {
        (Some(name), Some(version)) => format!("{name} {version}"),
        (Some(name), None) => name.clone(),
        _ => image.source.clone().unwrap_or_else(|| "the image".into()),
    }
}

fn table(images: &[ImageView]) -> Table {
    let mut table = Table::new(&["NAME", "VERSION", "DIGEST", "VERDICT", "USED BY", "REASON"]);
    for image in images {
        let paint = if image.verdict == "admitted" { Paint::Green } else { Paint::Red };
        table.row([
            title_column(image).into(),
            image.version.as_deref().unwrap_or("-").into(),
            image.digest.as_deref().map_or("-", short_digest).into(),
            Cell::painted(image.verdict.as_str(), paint),
            if image.used_by.is_empty() { "-".into() } else { image.used_by.join(",").into() },
            image.reason.as_str().into(),
        ]);
    }
    table
}

/// The name, or the name of the file that was refused.
fn title_column(image: &ImageView) -> String {
    let file = || Some(Path::new(image.source.as_deref()?).file_name()?.to_string_lossy().into_owned());
    image.name.clone().or_else(file).unwrap_or_else(|| "-".into())
}

/// The first 12 digits of `sha256:…`: what is enough to tell images apart.
fn short_digest(digest: &str) -> &str {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    digits.get(..12).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_shows_refused_files_beside_images() {
        let image = |document| serde_json::from_value::<ImageView>(document).unwrap();
        let images = [
            image(serde_json::json!({
                "name": "filter", "version": "1.2.0", "digest": "sha256:ba7816bf8f01cfea414140de5dae2223",
                "verdict": "admitted", "reason": "used", "usedBy": ["filter", "filter-2"], "source": "/w/libfilter.so",
                "arrivedUtc": null, "bytes": 4096
            })),
            image(serde_json::json!({
                "name": null, "version": null, "digest": null, "verdict": "refused", "usedBy": [], "source": "/w/notes.so",
                "reason": "it is text, not a library: copy a .so built for this machine", "arrivedUtc": null, "bytes": null
            })),
        ];

        assert_eq!(
            table(&images).render(None, false),
            "\
NAME      VERSION  DIGEST        VERDICT   USED BY          REASON
filter    1.2.0    ba7816bf8f01  admitted  filter,filter-2  used
notes.so  -        -             refused   -                it is text, not a library: copy a .so built for this machine
"
        );
    }

    #[test]
    fn a_terminal_obeys_nothing_that_a_library_says_of_itself() {
        let descriptor = serde_json::json!({
            "name": "filter", "version": "1.2.0", "description": "a\u{1b}[31mred\u{7}\nline2", "sdk": "\u{9b}2J",
            "inputs": ["in\rout"], "methods": ["\u{8}"]
        });
        let inspection = image::Inspection {
            descriptor: serde_json::from_value(descriptor).unwrap(),
            format: image::Format::Elf,
            arch: "x86_64".into(),
            bytes: 4096,
            digest: image::Digest::of(b""),
            needs: image::Needs {
                libraries: vec![image::NeededLibrary { name: "lib\u{1b}c.so".into(), found: None }],
                glibc: None,
                warnings: vec!["finds \u{1b}]0;x\u{7}".into()],
            },
        };

        let lines = described(Path::new("/w/lib\nfilter.so"), &inspection);

        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
        assert!(lines.contains(&"  description  a [31mred  line2".to_owned()), "{lines:?}");
    }
}
