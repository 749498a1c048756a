//! Writes what arrives at its input into files: any JSON, text or bytes as JSON lines, or chosen members of it as CSV.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | the desired properties |
//! | `row` | a message as a line |
//! | `log`, `repair` | the files: rotated, bounded, repaired |
//! | `export` | a copy of the recording in one file |
//!
//! **Promise**: a message is accepted only once its whole line is in the file: what is accepted survives a kill of the runtime. A power
//! cut may take what was not synced, the last `sync` (1 s unless told; 0: nothing). If a line cannot be written (the disk is
//! full), its message is delivered again until it can; nothing is left out. A message that is delivered again after its line was
//! written is dropped by its sequence, and counted; one that reaches the input along two routes is written once.
//! What is older than the bound of all files is deleted, and counted.

mod export;
mod log;
mod repair;
mod row;
mod settings;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dinrail_plugin::prelude::*;
use dinrail_plugin::reading::format_time;

use export::{Asked, Export, Made};
use log::Recording;
use row::Key;
use settings::Settings;

/// After a failed write, the next one is tried.
const RETRY: Duration = Duration::from_secs(1);
/// The reported properties follow at this pace.
const REPORT: Duration = Duration::from_secs(10);
/// Up to so many bytes are exported while messages wait; more, beside them.
const AT_ONCE: u64 = 4 << 20;

struct Recorder {
    client: Client,
    settings: Settings,
    recording: Option<Recording>,
    /// What was deleted in earlier runs: files and bytes.
    deleted_before: (u64, u64),
    trouble: Option<String>,
    is_exporting: bool,
    last_export: Value,
    reported: (Instant, Value),
    timer: Option<Timer>,
}

impl Module for Recorder {
    type Desired = Settings;
    const INPUTS: &'static [&'static str] = &["records"];
    const METHODS: &'static [&'static str] = &["export", "files", "flush"];
    const TRIAL_SAFE: bool = true;

    fn create(client: Client, desired: Settings) -> Result<Recorder, Error> {
        Ok(Recorder {
            client,
            settings: desired.checked()?,
            recording: None,
            deleted_before: (0, 0),
            trouble: None,
            is_exporting: false,
            last_export: Value::Null,
            reported: (Instant::now(), Value::Null),
            timer: None,
        })
    }

    /// Takes up the files of the last run.
    fn start(&mut self) -> Result<(), Error> {
        let twin = self.client.get_twin()?;
        let reported = &twin.reported;
        let number = |name: &str| reported[name].as_u64().unwrap_or(0);
        self.deleted_before = (number("deletedFiles"), number("deletedBytes"));
        self.last_export = reported["lastExport"].clone();
        let (recording, cut) = Recording::open(self.client.data_folder()?, &self.settings)?;
        if cut > 0 {
            warn!("{cut} bytes of a line that was cut are taken away; its message comes again if it was not lost");
        }
        self.recording = Some(recording);
        self.begin_ticks()?;
        self.report();
        Ok(())
    }

    fn on_desired(&mut self, desired: Settings) -> Result<(), Error> {
        let desired = desired.checked()?;
        if let Some(recording) = &mut self.recording {
            recording.configure(&desired)?;
        }
        self.settings = desired;
        self.begin_ticks()?;
        self.report();
        Ok(())
    }

    fn on_message(&mut self, message: &Message<'_>, _: &Delivery<'_>) -> Result<(), Fault> {
        let Some(recording) = &mut self.recording else { return Err(Fault::retry()) };
        let line = recording.writer().line(message)?;
        match recording.write(Key::of(message), &line, now_us()) {
            Ok(()) => {
                self.is_well();
                Ok(())
            }
            Err(error) => {
                self.is_ill(&error);
                Err(Fault::retry_after(RETRY).because(error))
            }
        }
    }

    fn on_timer(&mut self, _: Timer, _missed: u64) -> Result<(), Error> {
        if let Some(recording) = &mut self.recording {
            let done = recording.sync().and_then(|()| recording.tick());
            if let Err(error) = done {
                self.is_ill(&error);
            }
        }
        if self.reported.0.elapsed() >= REPORT {
            self.report();
        }
        self.tell_health();
        Ok(())
    }

    fn on_method(&mut self, call: &MethodCall<'_>) -> Result<MethodResponse, Error> {
        match call.name() {
            "export" => self.export(call),
            "files" => MethodResponse::ok(self.files()?),
            "flush" => {
                let recording = self.recording()?;
                recording.sync()?;
                let current = recording.current();
                MethodResponse::ok(json!({"file": current.map(log::Segment::name), "bytes": recording.bytes()}))
            }
            name => Err(Error::not_found(format!("no method '{name}'; there are: export, files, flush"))),
        }
    }

    fn stop(&mut self) -> Result<(), Error> {
        if let Some(recording) = &mut self.recording {
            recording.sync()?;
        }
        Ok(())
    }
}

impl Recorder {
    fn recording(&mut self) -> Result<&mut Recording, Error> {
        self.recording.as_mut().ok_or_else(|| Error::new("it has not started"))
    }

    fn begin_ticks(&mut self) -> Result<(), Error> {
        if let Some(timer) = self.timer.take() {
            self.client.cancel(timer);
        }
        let period = self.settings.sync.0.clamp(Duration::from_millis(50), Duration::from_secs(1));
        self.timer = Some(self.client.every(if self.settings.sync.0.is_zero() { RETRY } else { period })?);
        Ok(())
    }

    fn export(&mut self, call: &MethodCall<'_>) -> Result<MethodResponse, Error> {
        let asked = match call.json::<Option<Asked>>() {
            Ok(asked) => asked.unwrap_or_default(),
            Err(error) => return Ok(refused(400, vec![error.to_string()])),
        };
        if self.is_exporting {
            return Ok(refused(409, vec!["an export is being made; ask again when 'files' shows it".to_owned()]));
        }
        let (format, columns) = (self.settings.format, self.settings.columns.clone());
        let folder = self.client.data_folder()?.to_owned();
        let recording = self.recording()?;
        let (segments, now) = (recording.segments(), format_time(now_us()));
        let export = match Export::new(asked, &folder, segments, (format, &columns), &now) {
            Ok(export) => export,
            Err(problems) => return Ok(refused(400, problems)),
        };
        if export.bytes() <= AT_ONCE {
            let made = export.make();
            self.last_export = export_view(&made);
            return MethodResponse::ok(made?);
        }
        let path = export.path.display().to_string();
        let client = self.client.clone();
        self.client.spawn("export", move |stop| {
            let made = export.until(stop).make();
            // An instance that stops has no use for it.
            let _ = client.post::<Recorder>(move |recorder| {
                recorder.is_exporting = false;
                recorder.last_export = export_view(&made);
                recorder.report();
                Ok(())
            });
        })?;
        self.is_exporting = true;
        Ok(MethodResponse::new(202, json!({"path": path, "running": true})))
    }

    fn files(&mut self) -> Result<Value, Error> {
        let folder = self.client.data_folder()?.to_owned();
        let (is_exporting, last) = (self.is_exporting, self.last_export.clone());
        let recording = self.recording()?;
        let current = recording.current().map(log::Segment::name);
        let files: Vec<Value> = recording
            .segments()
            .iter()
            .map(|segment| json!({"file": segment.name(), "bytes": segment.bytes, "open": Some(segment.name()) == current}))
            .collect();
        let exports: Vec<Value> =
            export::list(&folder).into_iter().map(|(file, bytes)| json!({"file": file, "bytes": bytes})).collect();
        Ok(json!({
            "folder": folder.display().to_string(), "files": files, "bytes": recording.bytes(),
            "exports": exports, "exporting": is_exporting, "lastExport": last
        }))
    }

    fn is_well(&mut self) {
        if self.trouble.take().is_some() {
            info!("lines are written again");
            self.tell_health();
        }
    }

    fn is_ill(&mut self, error: &Error) {
        if self.trouble.is_none() {
            warn!("a line could not be written, its message will come again: {error}");
        }
        self.trouble = Some(error.to_string());
        self.tell_health();
    }

    fn view(&self) -> Value {
        let Some(recording) = &self.recording else { return Value::Null };
        let counts = recording.counts;
        json!({
            "files": recording.segments().len(),
            "bytes": recording.bytes(),
            "file": recording.current().map(log::Segment::name),
            "rows": counts.rows,
            "repeats": counts.repeats,
            "deletedFiles": self.deleted_before.0 + counts.deleted_files,
            "deletedBytes": self.deleted_before.1 + counts.deleted_bytes,
            "lastExport": self.last_export,
        })
    }

    fn report(&mut self) {
        let view = self.view();
        self.reported.0 = Instant::now();
        if view == self.reported.1 {
            return;
        }
        let then = |end: Result<(), Error>| {
            if let Err(error) = end {
                warn!("not reported: {error}");
            }
        };
        match self.client.begin_patch_reported(&view, then) {
            Ok(()) => self.reported.1 = view,
            Err(error) => warn!("not reported: {error}"),
        }
    }

    fn tell_health(&self) {
        let Some(recording) = &self.recording else { return };
        let counts = recording.counts;
        let mebibytes = recording.bytes() as f64 / f64::from(1 << 20);
        let mut sentence =
            format!("{} lines written, {mebibytes:.1} MiB in {} files", counts.rows, recording.segments().len());
        if counts.deleted_files > 0 {
            sentence += &format!(", {} oldest deleted", counts.deleted_files);
        }
        match &self.trouble {
            None => self.client.health(Level::Info, &sentence),
            Some(trouble) => {
                self.client
                    .health(Level::Warn, &format!("messages wait, a line cannot be written: {trouble}; {sentence}"));
            }
        }
    }
}

fn refused(status: i32, problems: Vec<String>) -> MethodResponse {
    MethodResponse::new(status, json!({"error": problems.join("; ")}))
}

fn export_view(made: &Result<Made, Error>) -> Value {
    match made {
        Ok(made) => json!(made),
        Err(error) => json!({"error": error.to_string()}),
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

export_module!(Recorder);

#[cfg(test)]
mod tests;
