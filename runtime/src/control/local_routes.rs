//! Routes that a person adds, without a manifest: part of the local layer, which deployments keep. A route of the deployment in
//! force goes before a local one of its name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Control;
use crate::clock;
use crate::database::File;
use crate::database::tables::route::{self as route_table, RouteRow};
use crate::deployment::{Problem, read_route};
use crate::image::Descriptor;
use crate::name::Identity;
use crate::refusal::{Refusal, RefusalKind};
use crate::routing::{CompiledRoute, OnFull, Route, RouteSpec, RouteTable, Sink, Source, route_name_problem};
use crate::spelling::{nearest, suggestion};
use crate::view::RouteView;

/// A route that a person added.
pub(super) struct LocalRoute {
    spec: RouteSpec,
    by: String,
    at_us: i64,
}

/// By name.
pub(super) type LocalRoutes = BTreeMap<String, LocalRoute>;

/// The routes that are stored; one that this version cannot read is left out, and said so.
pub(super) fn load(rows: Vec<RouteRow>) -> LocalRoutes {
    let read = |row: RouteRow| match serde_json::from_str::<RouteSpec>(&row.spec) {
        Ok(spec) => Some((row.name, LocalRoute { spec, by: row.added_by, at_us: row.added_us })),
        Err(error) => {
            tracing::error!(route = row.name, "its stored form cannot be read, it is not in force: {error}");
            None
        }
    };
    rows.into_iter().filter_map(read).collect()
}

impl Control {
    /// Routes in force, those of the deployment first, and local ones that a route of the deployment hides.
    pub(crate) fn route_views(&self) -> Vec<RouteView> {
        let (deployed, local) = self.listeners.routes();
        let is_deployed = |name: &str| deployed.find(name).is_some();
        let mut views: Vec<RouteView> = deployed.routes().iter().map(|route| self.route_view(route, None)).collect();
        for route in local.routes() {
            let mut view = self.route_view(route, self.local_routes.get(&*route.name));
            if is_deployed(&route.name) {
                view.in_force = false;
                view.notes = vec!["not in force: the deployment has a route of this name".to_owned()];
            }
            views.push(view);
        }
        views
    }

    /// Adds a route, or with `replace` puts it in the place of the added one of its name; `by` says who. It is stored and in force
    /// when this returns.
    pub(crate) fn put_route(
        &mut self,
        name: &str,
        entry: &Value,
        replace: bool,
        by: &str,
    ) -> Result<RouteView, Refusal> {
        let (spec, notes) = read(name, entry)?;
        if self.listeners.routes().0.find(name).is_some() {
            let message = format!("route {name} belongs to the deployment in force");
            return Err(Refusal::new(RefusalKind::Conflict, message, "choose another name, or change the manifest"));
        }
        if self.local_routes.contains_key(name) && !replace {
            let message = format!("there is a route {name} already");
            return Err(Refusal::new(RefusalKind::Conflict, message, "--replace puts this one in its place"));
        }
        let at_us = clock::wall_us();
        let row = RouteRow {
            name: name.to_owned(),
            spec: serde_json::to_string(&spec).map_err(|error| failed(&error))?,
            added_by: by.to_owned(),
            added_us: at_us,
        };
        self.database.call(File::Main, move |tx| route_table::upsert(tx, &row)).map_err(|error| failed(&error))?;
        tracing::info!(route = name, "added by {by}: {}", spec.text);
        self.local_routes.insert(name.to_owned(), LocalRoute { spec, by: by.to_owned(), at_us });
        self.put_local_routes_in_force();
        let view = self.route_views().into_iter().rfind(|view| view.name == name);
        let mut view = view.ok_or_else(|| self.unknown_route(name))?;
        let others: Vec<String> = notes.into_iter().filter(|note| !view.notes.contains(note)).collect();
        view.notes.extend(others);
        Ok(view)
    }

    /// Ends a route that a person added. It is out of force for good when this returns.
    pub(crate) fn remove_route(&mut self, name: &str, by: &str) -> Result<RouteView, Refusal> {
        let Some(view) = self.route_views().into_iter().rfind(|view| view.name == name) else {
            return Err(self.unknown_route(name));
        };
        if !self.local_routes.contains_key(name) {
            let message = format!("route {name} belongs to the deployment in force");
            let hint =
                "leave it out of the manifest and deploy that: `dinrail deployment --export` prints the one in force";
            return Err(Refusal::new(RefusalKind::Conflict, message, hint));
        }
        let of = name.to_owned();
        self.database.call(File::Main, move |tx| route_table::delete(tx, &of)).map_err(|error| failed(&error))?;
        tracing::info!(route = name, "removed by {by}");
        self.local_routes.remove(name);
        self.put_local_routes_in_force();
        Ok(view)
    }

    /// Hands the local routes to the senders.
    pub(super) fn put_local_routes_in_force(&self) {
        let specs: Vec<RouteSpec> = self.local_routes.values().map(|route| route.spec.clone()).collect();
        let (table, errors) = RouteTable::compile_what_can_be(&specs);
        for (name, error) in errors {
            tracing::error!(route = name, "is not in force: {error}");
        }
        self.listeners.set_local(table);
        self.changed();
    }

    fn route_view(&self, route: &CompiledRoute, local: Option<&LocalRoute>) -> RouteView {
        let target = &route.target;
        RouteView {
            name: route.name.to_string(),
            route: route.text.to_string(),
            priority: target.priority,
            time_to_live_secs: target.ttl.map(|ttl| ttl.as_secs()),
            durability: target.durability.to_string(),
            on_full: target.on_full.as_str().to_owned(),
            block_ms: (target.on_full == OnFull::Block)
                .then(|| u32::try_from(target.block.as_millis()).unwrap_or(u32::MAX)),
            max_message_bytes: target.max_message_bytes,
            origin: if local.is_some() { "cli" } else { "deployment" }.to_owned(),
            added_by: local.map(|local| local.by.clone()),
            added_utc: local.map(|local| clock::rfc3339(local.at_us)),
            in_force: true,
            notes: Route::parse(&route.text)
                .map_or_else(|_| Vec::new(), |route| route.notes)
                .into_iter()
                .chain(self.ends_missing(route))
                .collect(),
        }
    }

    /// Why nothing can come from a source, as long as it is so; `is_identity`: whoever is registered may send from elsewhere.
    pub(crate) fn unknown_source(&self, source: &Source, is_identity: impl Fn(&str) -> bool) -> Option<Refusal> {
        let module = source.module()?;
        let entry = self.instances.iter().find(|(name, _)| name.eq_ignore_ascii_case(module));
        let Some((name, entry)) = entry else {
            return (!is_identity(module)).then(|| self.unknown_module(module));
        };
        let image = entry.life.digest.as_ref().and_then(|digest| digest.parse().ok());
        let outputs = &self.catalog.get(&image?)?.descriptor.outputs;
        let output =
            source.output().filter(|output| !outputs.iter().any(|known| known.eq_ignore_ascii_case(output)))?;
        if self.has_opened(name, output) {
            return None;
        }
        let hint = match &outputs[..] {
            [] => format!("{name} has none"),
            outputs => suggestion(output, &outputs.iter().map(String::as_str).collect::<Vec<_>>()),
        };
        Some(Refusal::new(RefusalKind::NotFound, format!("{name} has no output '{output}'"), hint))
    }

    /// Why a module has nothing of this name, where its image is here.
    pub(crate) fn unknown_end(&self, module: &str, end: &str) -> Option<Refusal> {
        let image = self.instances.get(module)?.life.digest.as_ref().and_then(|digest| digest.parse().ok());
        let descriptor = &self.catalog.get(&image?)?.descriptor;
        let known: Vec<&str> = descriptor.inputs.iter().chain(&descriptor.outputs).map(String::as_str).collect();
        if known.contains(&end) {
            return None;
        }
        let hint = match &known[..] {
            [] => format!("{module} has none"),
            known => suggestion(end, known),
        };
        Some(Refusal::new(RefusalKind::NotFound, format!("{module} has no input or output '{end}'"), hint))
    }

    /// What a route names and is not there, or not yet.
    fn ends_missing(&self, route: &CompiledRoute) -> Vec<String> {
        let mut missing = Vec::new();
        if let Some(module) = route.source.module() {
            let known = self.instances.keys().find(|name| name.eq_ignore_ascii_case(module));
            let name = known.map_or(module, String::as_str);
            // A module may open outputs that its image does not name.
            let output = route.source.output().filter(|output| !self.has_opened(name, output));
            missing.extend(self.end_missing("takes from", name, output, |d| ("output", &d.outputs)));
        }
        if let Sink::Input { module, input } = &route.target.sink {
            missing.extend(self.end_missing("leads to", module, Some(input), |d| ("input", &d.inputs)));
        }
        missing
    }

    fn has_opened(&self, module: &str, output: &str) -> bool {
        let identity = Identity::module(self.identities.device_id(), module);
        identity.is_ok_and(|identity| self.services.ingest.has_output(&identity, output))
    }

    fn end_missing(
        &self,
        does: &str,
        module: &str,
        end: Option<&str>,
        ends: impl Fn(&Descriptor) -> (&'static str, &Vec<String>),
    ) -> Option<String> {
        let Some(entry) = self.instances.get(module) else {
            let close = nearest(module, self.instances.keys().map(String::as_str));
            let close = close.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return Some(format!("{does} {module}: there is no such module yet{close}"));
        };
        let image = entry.life.digest.as_ref().and_then(|digest| digest.parse().ok());
        let Some(image) = image.and_then(|digest| self.catalog.get(&digest)) else {
            return Some(format!("{does} {module}, whose image is not here yet"));
        };
        let (kind, known) = ends(&image.descriptor);
        let end = end?;
        if known.iter().any(|known| known.eq_ignore_ascii_case(end)) {
            return None;
        }
        let has = match &known[..] {
            [] => format!("{module} has none"),
            known => format!("{module} has {}", known.join(", ")),
        };
        Some(format!("{does} {kind} {end} of {module}: there is no such {kind}; {has}"))
    }

    fn unknown_route(&self, name: &str) -> Refusal {
        let views = self.route_views();
        let names: Vec<&str> = views.iter().map(|view| view.name.as_str()).collect();
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None if names.is_empty() => "no route is in force".to_owned(),
            None => format!("there is {}", names.join(", ")),
        };
        Refusal::new(RefusalKind::NotFound, format!("there is no route '{name}'"), hint)
    }
}

/// Reads a route as a manifest has it, with every problem of it.
fn read(name: &str, entry: &Value) -> Result<(RouteSpec, Vec<String>), Refusal> {
    let mut problems: Vec<Problem> = Vec::new();
    if let Some(problem) = route_name_problem(name) {
        problems.push(Problem::at("name", problem, "choose another name for the route"));
    }
    let read = match read_route(name, entry) {
        Ok(read) => Some(read),
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => {
            let count =
                if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
            // In double quotes a shell takes $upstream for a variable.
            let is_of_text = problems.iter().any(|problem| ["", "route"].contains(&&*problem.path));
            let quotes = "put it into single quotes in a shell: 'FROM /messages/modules/a/* INTO $upstream'";
            Err(Refusal {
                kind: RefusalKind::Invalid,
                message: format!("route {name} is refused: {count}"),
                hint: is_of_text.then(|| quotes.to_owned()),
                details: problems.iter().map(ToString::to_string).collect(),
            })
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    let message = format!("the route cannot be stored; nothing was changed: {error}");
    Refusal::new(RefusalKind::Failed, message, "see `dinrail check`")
}
