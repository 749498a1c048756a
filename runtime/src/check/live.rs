//! What the runtime knows of itself, judged: instances, images, watched folders, the deployment, messages.

use std::time::Duration;

use super::{Problem, gathered, ok, skipped, spoken_bytes, warning};
use crate::view::{ApiView, DeploymentView, Finding, HealthView, ImageView, ModuleDetail, Status, WatchedFolderView};

/// Everything that the runtime can say at one moment.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Runtime.
    pub health: HealthView,
    /// Whether the device id is a host name that many devices share.
    pub has_generic_id: bool,
    /// Instances.
    pub modules: Vec<ModuleDetail>,
    /// Images, and files that are not taken in.
    pub images: Vec<ImageView>,
    /// Watched folders.
    pub folders: Vec<WatchedFolderView>,
    /// Deployment in force.
    pub deployment: Option<DeploymentView>,
    /// Requests from other machines whose token was not taken, and connections that were too many.
    pub turned_away: (u64, u64),
    /// Modules that refused the newest desired properties, with the version and why.
    pub refused: Vec<(String, u64, String)>,
    /// Messages on disk.
    pub store: StoreSeen,
}

/// What the store says of itself.
#[derive(Debug, Clone, Default)]
pub struct StoreSeen {
    /// Bytes that wait, and that may.
    pub held: (u64, u64),
    /// Endpoints with the bytes that wait for them, and those that may where they have a limit of their own.
    pub endpoints: Vec<(String, u64, Option<u64>)>,
    /// Why nothing more is taken, and what to do.
    pub shortage: Option<(String, &'static str)>,
    /// Why files cannot be written, and what to do.
    pub faults: Vec<(String, &'static str)>,
    /// Half of all commits, and 99 of 100, took no longer.
    pub commits: Option<(Duration, Duration)>,
    /// Messages that were put on disk since the start, and bytes that this made the disk write.
    pub written: (u64, u64),
}

/// Judges it.
pub fn judge(seen: &Seen) -> Vec<Finding> {
    vec![
        device(seen),
        folders(&seen.folders),
        images(&seen.images),
        deployment(seen.deployment.as_ref()),
        instances(&seen.modules),
        twins(&seen.refused),
        store(&seen.store),
        messages(&seen.health),
        api(seen.health.api.as_ref(), seen.turned_away),
        skipped("hub", "no hub above this device is set up: it works on its own"),
    ]
}

fn device(seen: &Seen) -> Finding {
    let id = &seen.health.device_id;
    if seen.has_generic_id {
        let text = format!("the device id '{id}' is a host name that many devices share");
        return warning("device", text, "start once with an empty state directory and --device-id ID");
    }
    ok("device", format!("/devices/{id}"))
}

fn folders(folders: &[WatchedFolderView]) -> Finding {
    let problem = |folder: &WatchedFolderView| {
        let trouble = folder.trouble.as_ref()?;
        Some(Problem::warning(format!("{}: {trouble}", folder.path), "correct it; the folder is tried again by itself"))
    };
    let problems = folders.iter().filter_map(problem).collect();
    let mut found = gathered(
        "watched-folders",
        format!("{} watched", count(folders.len(), "folder")),
        "not all are watched",
        problems,
    );
    if found.details.is_empty() {
        let started =
            |folder: &WatchedFolderView| if folder.autostart { "what appears is started" } else { "supplies images" };
        found.details = folders.iter().map(|folder| format!("{}: {}", folder.path, started(folder))).collect();
    }
    found
}

fn images(images: &[ImageView]) -> Finding {
    let line = |image: &ImageView| {
        let name = match (&image.name, &image.version) {
            (Some(name), Some(version)) => format!("{name} {version}"),
            _ => image.source.clone().unwrap_or_default(),
        };
        format!("{name}: {}", image.reason)
    };
    let is_bad = |image: &&ImageView| image.verdict != "admitted";
    let bad = images.iter().filter(is_bad).map(|image| {
        let text = match &image.source {
            // Nothing of it is left but its name.
            Some(sent) if image.verdict == "refused" && !sent.contains(['/', '\\']) => {
                format!("{}; to forget it: dinrail image remove {sent}", line(image))
            }
            _ => line(image),
        };
        Problem::warning(
            text,
            "supply a library that is admitted, or take the file away; details: dinrail image inspect FILE",
        )
    });
    let problems: Vec<Problem> = bad.collect();
    let ill = format!("{} cannot be used", count(problems.len(), "library"));
    let mut found = gathered("images", format!("{} admitted", count(images.len(), "image")), &ill, problems);
    // Where some cannot be used, the others would only hide them; `image list` has all.
    if found.details.is_empty() {
        found.details = images.iter().map(line).collect();
    }
    found
}

fn deployment(deployment: Option<&DeploymentView>) -> Finding {
    let Some(deployment) = deployment else { return ok("deployment", "none; what runs was dropped or added") };
    let text = format!("{} is {} (from {})", deployment.id, deployment.status, deployment.origin);
    if deployment.reason.is_empty() {
        return ok("deployment", text);
    }
    let mut found =
        warning("deployment", text, "correct the cause and deploy again; what went before: dinrail deployment history");
    found.details = vec![deployment.reason.clone()];
    found
}

fn instances(modules: &[ModuleDetail]) -> Finding {
    let problem = |detail: &ModuleDetail| {
        let module = &detail.module;
        let text = format!("{} is {}: {}", module.name, module.status.as_str(), detail.reason);
        let hint =
            detail.next_step.clone().unwrap_or_else(|| format!("dinrail show {}; dinrail logs {0}", module.name));
        match module.status {
            Status::Failed | Status::Quarantined | Status::Unhealthy => Some(Problem::error(text, hint)),
            Status::Backoff | Status::Waiting => Some(Problem::warning(text, hint)),
            // Somebody wanted it so, or it is on its way.
            Status::Running | Status::Starting | Status::Stopping | Status::Stopped => None,
        }
    };
    let running = modules.iter().filter(|detail| detail.module.status == Status::Running).count();
    let well = format!("{running} of {} run", count(modules.len(), "instance"));
    let problems = modules.iter().filter_map(problem).collect();
    gathered("instances", well.clone(), &well, problems)
}

/// Modules that go on with older desired properties than were written last.
fn twins(refused: &[(String, u64, String)]) -> Finding {
    let problem = |(name, version, why): &(String, u64, String)| {
        let text =
            format!("{name} refused version {version} of its desired properties and goes on with what it had: {why}");
        Problem::warning(text, format!("dinrail twin patch {name} … with values that it takes"))
    };
    let problems = refused.iter().map(problem).collect();
    gathered("twins", "no module refused its desired properties", "desired properties were refused", problems)
}

/// Of a hundred bytes that may wait, so many are much.
const MUCH: u64 = 80;

fn store(seen: &StoreSeen) -> Finding {
    let (held, limit) = seen.held;
    let text = format!("{} of {} wait on disk", spoken_bytes(held), spoken_bytes(limit));
    let is_much = |held: u64, limit: u64| held.saturating_mul(100) >= limit.saturating_mul(MUCH) && held > 0;
    let mut problems = Vec::new();
    if let Some((shortage, hint)) = &seen.shortage {
        problems.push(Problem::error(format!("nothing more is taken: {shortage}"), *hint));
    }
    problems.extend(seen.faults.iter().map(|(fault, hint)| Problem::error(fault.clone(), *hint)));
    let ill =
        if seen.faults.is_empty() { "the store has little room left for messages" } else { "not all can be stored" };
    let hint = "see why it is not delivered: dinrail list; or raise maxBytes in storeAndForwardConfiguration";
    if is_much(held, limit) {
        problems.push(Problem::warning(text.clone(), hint));
    }
    for (endpoint, held, limit) in &seen.endpoints {
        if let Some(limit) = limit.filter(|limit| is_much(*held, *limit)) {
            let text = format!("{endpoint}: {} of its {} wait", spoken_bytes(*held), spoken_bytes(limit));
            problems.push(Problem::warning(text, hint));
        }
    }
    let mut found = gathered("store", text, ill, problems);
    for (endpoint, held, _) in &seen.endpoints {
        found.details.push(format!("{endpoint}: {}", spoken_bytes(*held)));
    }
    if let Some((half, most)) = seen.commits {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        found.details.push(format!("commits: half within {:.2} ms, 99 of 100 within {:.2} ms", ms(half), ms(most)));
    }
    if let (messages @ 1.., written) = seen.written {
        found.details.push(format!(
            "{} written to the disk for {}: {} for each",
            spoken_bytes(written),
            count(usize::try_from(messages).unwrap_or(usize::MAX), "message"),
            spoken_bytes(written / messages)
        ));
    }
    found
}

fn messages(health: &HealthView) -> Finding {
    let problems =
        health.notes.iter().map(|note| Problem::warning(note.clone(), "dinrail list; dinrail show NAME")).collect();
    gathered("runtime-notes", "none", "the runtime has something to say", problems)
}

fn api(api: Option<&ApiView>, (tokens, connections): (u64, u64)) -> Finding {
    let Some(api) = api else { return ok("api", "not reached from other machines") };
    let mut found = ok("api", format!("reached from other machines at {}", api.address));
    found.details = vec![format!("names: {}", api.names.join(", ")), format!("fingerprint: {}", api.fingerprint)];
    if tokens + connections > 0 {
        found.details.push(format!(
            "turned away since the start: {tokens} requests without a good token, {connections} connections too many"
        ));
    }
    found.details.extend(api.authority.as_ref().map(|file| format!("clients trust: {file}")));
    found
}

fn count(count: usize, what: &str) -> String {
    let plural = match what {
        "library" => "libraries".to_owned(),
        what => format!("{what}s"),
    };
    if count == 1 { format!("1 {what}") } else { format!("{count} {plural}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Severity;

    #[test]
    fn the_store_is_judged_by_what_still_fits() {
        let seen = |held, limit| StoreSeen {
            held: (10, 100),
            endpoints: vec![("e".into(), held, limit)],
            ..StoreSeen::default()
        };
        let full = StoreSeen { shortage: Some(("no room".into(), "free some")), ..seen(1, None) };
        let table = [
            (seen(10, None), Severity::Ok),
            (seen(79, Some(100)), Severity::Ok),
            (seen(80, Some(100)), Severity::Warning),
            (StoreSeen { held: (80, 100), ..StoreSeen::default() }, Severity::Warning),
            (full, Severity::Error),
            (StoreSeen { faults: vec![("queue.db is gone".into(), "put it back")], ..seen(1, None) }, Severity::Error),
        ];
        for (seen, expected) in table {
            let found = store(&seen);
            assert_eq!((found.status, found.hint.is_some()), (expected, expected != Severity::Ok), "{found:?}");
        }
        let wear = StoreSeen {
            written: (2, 4096),
            commits: Some((Duration::from_millis(2), Duration::from_millis(9))),
            ..seen(1, None)
        };
        let details = store(&wear).details;
        assert!(details.contains(&"commits: half within 2.00 ms, 99 of 100 within 9.00 ms".to_owned()), "{details:?}");
        assert!(
            details.contains(&"4.0 KiB written to the disk for 2 messages: 2.0 KiB for each".to_owned()),
            "{details:?}"
        );
    }
}
