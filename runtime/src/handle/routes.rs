//! Routes in force, and those that a person adds and removes.

use serde_json::Value;

use super::{Answer, Handle};
use crate::routing::{Route, Sink};
use crate::view::RouteView;

impl Handle {
    /// Routes in force.
    pub async fn routes(&self) -> Answer<Vec<RouteView>> {
        self.ask(|control, _| control.route_views()).await
    }

    /// Adds a route: a text, or an object as in a manifest. It is stored and in force when this returns.
    pub async fn route_put(&self, name: &str, entry: Value, replace: bool, by: &str) -> Answer<RouteView> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.ask(move |control, _| control.put_route(&name, &entry, replace, &by)).await?
    }

    /// Ends a route that a person added.
    pub async fn route_remove(&self, name: &str, by: &str) -> Answer<RouteView> {
        let (name, by) = (name.to_owned(), by.to_owned());
        let mut view = self.ask(move |control, _| control.remove_route(&name, &by)).await??;
        // It brings no more; what it has brought stays and is delivered.
        view.notes = self.stays_at(&view.route);
        Ok(view)
    }

    /// What waits where a route leads to, in words.
    fn stays_at(&self, route: &str) -> Vec<String> {
        let Ok(route) = Route::parse(route) else { return Vec::new() };
        let (endpoint, name) = match &route.sink {
            Sink::Upstream => ("$upstream".to_owned(), "$upstream"),
            Sink::Input { module, input } => {
                (format!("{}{input}", self.services.ingest.endpoints_of(module)), module.as_str())
            }
        };
        let queues = self.services.ingest.queue_figures();
        let waiting = queues.iter().find(|queue| *queue.endpoint == *endpoint).map_or(0, |queue| queue.only_here);
        let in_memory = (waiting > 0).then(|| format!("{waiting} in memory"));
        let there: Vec<String> = in_memory.into_iter().chain(self.stored_words(&endpoint, name)).collect();
        let stays = |there: &[String]| format!("at {endpoint} there stay {}", there.join(", "));
        if there.is_empty() { Vec::new() } else { vec![stays(&there)] }
    }
}
