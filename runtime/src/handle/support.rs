//! The support bundle of the running runtime. Secrets are known here, so this is where they are taken out.

use std::io::Cursor;

use serde_json::{Value, json};

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::clock;
use crate::control::Control;
use crate::instance::spec::{EnvValue, InstanceSpec};
use crate::log::{Query, Which};
use crate::name::{Identity, folder_name};
use crate::support::{self, Bundle, Secrets, file_name};
use crate::twin::TwinSnapshot;
use crate::view::{CheckView, DeploymentView, HealthView, ImageView, ModuleDetail};

/// Lines of each log that go into a bundle, as far as there is room.
const LOG_LINES: usize = 5000;
const MOST_LOG_BYTES: usize = 48 << 20;

/// What goes into a bundle, as the loop knows it at one moment.
struct Told {
    health: HealthView,
    images: Vec<ImageView>,
    deployment: Option<DeploymentView>,
    modules: Vec<(ModuleDetail, InstanceSpec)>,
}

impl Handle {
    /// A zip file with everything in the folder `folder`; held in memory, some MiB at most.
    pub async fn support_bundle(&self, folder: String, with_values: bool) -> Answer<Vec<u8>> {
        let checked = self.check().await?;
        let told = self.ask(|control, _| control.told()).await?;
        let handle = self.clone();
        // Of ten thousand twins it takes a while: other clients do not wait for it.
        let written = tokio::task::spawn_blocking(move || {
            let twins = handle.twins.list().into_iter();
            let file = |snapshot: &TwinSnapshot| twin_file(handle.device_id(), &snapshot.identity);
            let twins = twins.map(|snapshot| (file(&snapshot), handle.root(&snapshot))).collect();
            handle.write(&folder, &checked, told, twins, with_values)
        });
        let failed = |why: String| {
            Refusal::new(
                RefusalKind::Failed,
                format!("the bundle cannot be put together: {why}"),
                "see the log of the runtime",
            )
        };
        written.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    fn write(
        &self,
        folder: &str,
        checked: &CheckView,
        told: Told,
        twins: Vec<(String, Value)>,
        with_values: bool,
    ) -> std::io::Result<Vec<u8>> {
        let mut secrets = Secrets::default();
        for (_, twin) in &twins {
            ["/properties/desired", "/tags"]
                .iter()
                .filter_map(|part| twin.pointer(part))
                .for_each(|part| secrets.learn(part));
        }
        let env = told.modules.iter().flat_map(|(_, spec)| spec.env.values());
        env.for_each(|value| match value {
            EnvValue::Text(text) => secrets.add(text),
            // The name of a secret is none.
            EnvValue::Secret(_) => {}
        });
        // None is in what goes into a bundle; should a module have written one into something after all, it goes out here.
        self.services.secrets.each_value(|value| secrets.add(value));
        let mut bundle = Bundle::new(Cursor::new(Vec::new()), folder, secrets);
        let time = clock::rfc3339(clock::wall_us());
        bundle.text("README.txt", &support::about(env!("CARGO_PKG_VERSION"), &time, true, with_values))?;
        bundle.document("check.json", checked)?;
        bundle.document("health.json", &told.health)?;
        bundle.document("images.json", &told.images)?;
        bundle.document("deployment.json", &told.deployment)?;
        for (detail, spec) in told.modules {
            let name = file_name(&detail.module.name);
            bundle
                .document(&format!("modules/{name}.json"), &json!({ "is": detail, "wanted": without_values(spec) }))?;
        }
        for (name, twin) in twins {
            bundle.twin(&format!("twins/{name}.json"), twin, with_values)?;
        }
        self.write_logs(&mut bundle)?;
        bundle.text("system.txt", &support::system())?;
        bundle.text("state-directory.txt", &support::listing(&self.folders.state))?;
        Ok(bundle.finish()?.into_inner())
    }

    fn write_logs(&self, bundle: &mut Bundle<Cursor<Vec<u8>>>) -> std::io::Result<()> {
        let modules = self
            .services
            .logs
            .names()
            .into_iter()
            .map(|name| (format!("{}.jsonl", file_name(&name)), Which::Module(name)));
        let own = [("$runtime.jsonl".to_owned(), Which::Runtime), ("$audit.jsonl".to_owned(), Which::Audit)];
        let logs = own.into_iter().chain(modules);
        let mut left = MOST_LOG_BYTES;
        for (name, which) in logs {
            let query = Query { tail: Some(LOG_LINES), ..Query::new(which) };
            let lines = self.services.logs.read(&query)?;
            // The newest lines, as far as there is room.
            let sizes = lines.iter().rev().scan(0, |sum, line| {
                *sum += line.len() + 1;
                (*sum <= left).then_some(*sum)
            });
            let (kept, bytes) = sizes.fold((0, 0), |(kept, _), sum| (kept + 1, sum));
            left -= bytes;
            let newest = lines[lines.len() - kept..].iter().map(|line| &line[..]);
            bundle.log(&format!("logs/{name}"), newest)?;
        }
        Ok(())
    }
}

/// Twins of other devices lie in a folder of theirs: names there may be those of modules of this device.
fn twin_file(own: &str, identity: &Identity) -> String {
    let name = identity.module_id().unwrap_or("$device");
    match identity.device_id() {
        device if device == own => file_name(name),
        device => format!("{}/{}", folder_name(device), folder_name(name)),
    }
}

/// The names of its environment variables stay.
fn without_values(mut spec: InstanceSpec) -> InstanceSpec {
    for value in spec.env.values_mut().filter(|value| value.secret_name().is_none()) {
        *value = support::REMOVED.into();
    }
    spec
}

impl Control {
    fn told(&mut self) -> Told {
        let details = self.module_details();
        let specs = details.iter().filter_map(|detail| self.spec_of(&detail.module.name).cloned()).collect::<Vec<_>>();
        Told {
            health: self.health_view(),
            images: self.image_views(),
            deployment: self.deployment_view(),
            modules: details.into_iter().zip(specs).collect(),
        }
    }
}
