//! Manifests, short to write.

use serde_json::{Map, Value, json};

/// A manifest in the making.
#[derive(Clone, Default)]
pub struct Manifest {
    modules: Map<String, Value>,
    routes: Map<String, Value>,
    desired: Map<String, Value>,
    store: Value,
    health_secs: u64,
}

impl Manifest {
    /// Without anything.
    pub fn new() -> Manifest {
        Manifest::default()
    }

    /// With a module of this image.
    pub fn module(mut self, name: &str, image: &str) -> Manifest {
        self.modules.insert(name.to_owned(), json!({"type": "library", "settings": {"image": image}}));
        self
    }

    /// With another value of a module's entry in `$edgeAgent`, such as `startupOrder` or `restartPolicy`.
    pub fn with(mut self, name: &str, key: &str, value: impl Into<Value>) -> Manifest {
        self.modules[name][key] = value.into();
        self
    }

    /// With one of a module's `createOptions`.
    pub fn option(mut self, name: &str, key: &str, value: Value) -> Manifest {
        self.modules[name]["settings"]["createOptions"][key] = value;
        self
    }

    /// With a section of desired properties.
    pub fn desired(mut self, name: &str, properties: Value) -> Manifest {
        self.desired.insert(name.to_owned(), properties);
        self
    }

    /// With a route.
    pub fn route(self, name: &str, text: &str) -> Manifest {
        self.any_route(name, text.into())
    }

    /// With a route as it stands in a manifest, text or object.
    pub fn any_route(mut self, name: &str, route: Value) -> Manifest {
        self.routes.insert(name.to_owned(), route);
        self
    }

    /// With a route from the output `out` of a module to the input `in` of another one.
    pub fn connect(self, from: &str, to: &str) -> Manifest {
        let text =
            format!("FROM /messages/modules/{from}/outputs/out INTO BrokeredEndpoint(\"/modules/{to}/inputs/in\")");
        self.route(&format!("{from}-to-{to}"), &text)
    }

    /// With a `storeAndForwardConfiguration`.
    pub fn store(mut self, configuration: Value) -> Manifest {
        self.store = configuration;
        self
    }

    /// With a health gate of so many seconds; without one unless told, so that tests need not wait for it.
    pub fn health(mut self, secs: u64) -> Manifest {
        self.health_secs = secs;
        self
    }

    /// The document.
    pub fn json(&self) -> Value {
        let mut content = json!({
            "$edgeAgent": {"properties.desired": {
                "schemaVersion": "1.1", "healthSecs": self.health_secs, "modules": self.modules}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": self.routes}},
        });
        if !self.store.is_null() {
            content["$edgeHub"]["properties.desired"]["storeAndForwardConfiguration"] = self.store.clone();
        }
        for (name, properties) in &self.desired {
            content[name] = json!({"properties.desired": properties});
        }
        json!({"modulesContent": content})
    }

    /// The document as text.
    pub fn text(&self) -> String {
        self.json().to_string()
    }
}
