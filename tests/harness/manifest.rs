//! Deployment manifests in few words.

use serde_json::{Map, Value, json};

use super::{Output, Runtime};

/// A manifest in the making.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    modules: Map<String, Value>,
    routes: Map<String, Value>,
    desired: Map<String, Value>,
}

impl Manifest {
    /// Without modules and routes.
    pub fn new() -> Manifest {
        Manifest::default()
    }

    /// With a module of an image.
    pub fn module(self, name: &str, image: &str) -> Manifest {
        self.module_with(name, image, json!({}))
    }

    /// With a module of an image and its `createOptions`.
    pub fn module_with(mut self, name: &str, image: &str, options: Value) -> Manifest {
        let settings = json!({ "image": image, "createOptions": options });
        self.modules.insert(name.to_owned(), json!({ "type": "library", "settings": settings }));
        self
    }

    /// With another key of a module, such as `restartPolicy`.
    pub fn key(mut self, module: &str, key: &str, value: impl Into<Value>) -> Manifest {
        self.modules[module][key] = value.into();
        self
    }

    /// With the desired properties of a module.
    pub fn desired(mut self, module: &str, desired: Value) -> Manifest {
        self.desired.insert(module.to_owned(), json!({ "properties.desired": desired }));
        self
    }

    /// With a route from the output `out` of a module to the input `in` of another.
    pub fn route(mut self, from: &str, to: &str) -> Manifest {
        let route =
            format!("FROM /messages/modules/{from}/outputs/out INTO BrokeredEndpoint(\"/modules/{to}/inputs/in\")");
        self.routes.insert(format!("{from}-to-{to}"), route.into());
        self
    }

    /// Its text.
    pub fn text(&self) -> String {
        let agent = json!({ "properties.desired": { "schemaVersion": "1.1", "modules": self.modules } });
        let hub = json!({ "properties.desired": { "schemaVersion": "1.1", "routes": self.routes } });
        let mut content = json!({ "$edgeAgent": agent, "$edgeHub": hub });
        content.as_object_mut().unwrap().extend(self.desired.clone());
        json!({ "modulesContent": content }).to_string()
    }
}

impl Runtime {
    /// Deploys a manifest; returns as soon as it is applied, not when its modules run.
    #[track_caller]
    pub fn deploy(&self, manifest: &Manifest) -> Output {
        let file = self.write("manifest.json", manifest.text());
        self.cli(&["deploy", file.to_str().unwrap()]).ok()
    }
}
