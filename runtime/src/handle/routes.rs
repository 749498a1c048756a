//! Routes in force, and those that a person adds and removes.

use serde_json::Value;

use super::{Answer, Handle};
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
        self.ask(move |control, _| control.remove_route(&name, &by)).await?
    }
}
