//! Queries over twins, a page at a time.
//!
//! Twins are looked at in the order of their identities, on a thread that is there for this page alone: neither the control
//! loop nor other clients wait for it. A page ends with the identity up to which it came, and the next one goes on after that:
//! whatever changes in between, no twin that is there all the time is given twice or left out.

use std::cell::OnceCell;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::name::Identity;
use crate::query::{Collection, Path, Query, QueryError, Selection};
use crate::twin::{Facts, Part, TwinSnapshot};

/// Queries at work at a time; others wait for their turn.
pub(super) const MAX_AT_WORK: usize = 2;
/// A page of whole twins ends early where it has become so large.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Twins between two looks whether somebody still waits for the page.
const BETWEEN_LOOKS: usize = 64;

/// Some of what a query found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryPage {
    /// A JSON array.
    pub body: Vec<u8>,
    /// The array holds whole twins.
    pub has_twins: bool,
    /// What to ask the next page with; `None` at the end.
    pub continuation: Option<String>,
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Refusal {
        Refusal {
            kind: RefusalKind::Invalid,
            message: format!("the query cannot be read: {error}"),
            hint: Some(error.hint),
            details: vec![error.shown],
        }
    }
}

impl Handle {
    /// The page of `text` after that which ended with `continuation`; it has `max_items` rows at most.
    pub async fn query(&self, text: &str, max_items: usize, continuation: Option<&str>) -> Answer<QueryPage> {
        let query = Query::parse(text)?;
        let after = continuation.map(|token| Place::read(token, text)).transpose()?;
        let _turn = self.queries.acquire().await.map_err(|_| Refusal::ending())?;
        let (done, wait) = oneshot::channel();
        let (twins, identities, print) = (self.twins.clone(), self.identities.clone(), print(text));
        let work = move || {
            let facts = |id: &Identity| Facts::of(&identities, id);
            let wanted = |twin: &Arc<TwinSnapshot>| {
                let is_module = twin.identity.module_id().is_some();
                is_module == (query.collection == Collection::Modules)
            };
            let mut twins = twins.list();
            twins.retain(wanted);
            let from = after.map_or(0, |after| twins.partition_point(|twin| twin.identity <= after));
            let page = page(&query, &twins[from..], max_items, &facts, &|| done.is_closed(), &print);
            let _ = done.send(page);
        };
        std::thread::Builder::new().name("query".to_owned()).spawn(work).map_err(|error| {
            Refusal::new(RefusalKind::Failed, format!("no thread for the query: {error}"), "try again")
        })?;
        wait.await.map_err(|_| Refusal::ending())
    }
}

/// A twin of which only so much is parsed as a query asks for.
struct Document<'s> {
    twin: &'s TwinSnapshot,
    facts: &'s dyn Fn(&Identity) -> Facts,
    ids: OnceCell<Value>,
    sections: [OnceCell<Value>; 3],
    root: OnceCell<Value>,
}

impl<'s> Document<'s> {
    fn new(twin: &'s TwinSnapshot, facts: &'s dyn Fn(&Identity) -> Facts) -> Document<'s> {
        let sections = [OnceCell::new(), OnceCell::new(), OnceCell::new()];
        Document { twin, facts, ids: OnceCell::new(), sections, root: OnceCell::new() }
    }

    fn root(&self) -> &Value {
        self.root.get_or_init(|| self.twin.root_with(&(self.facts)(&self.twin.identity)))
    }

    fn section(&self, part: Part) -> &Value {
        self.sections[part as usize].get_or_init(|| Value::Object(self.twin.section(part).parse()))
    }

    fn field(&self, path: &Path) -> Option<&Value> {
        let name = |at: usize| path.names().get(at).map_or("", String::as_str);
        match (name(0), name(1), name(2)) {
            ("deviceId" | "moduleId", ..) => path.within(
                self.ids.get_or_init(|| {
                    let identity = &self.twin.identity;
                    match identity.module_id() {
                        Some(module) => json!({"deviceId": identity.device_id(), "moduleId": module}),
                        None => json!({"deviceId": identity.device_id()}),
                    }
                }),
                0,
            ),
            ("tags", ..) => path.within(self.section(Part::Tags), 1),
            // Versions and times stand in the root document only.
            ("properties", "desired", key) if !key.is_empty() && !key.starts_with('$') => {
                path.within(self.section(Part::Desired), 2)
            }
            ("properties", "reported", key) if !key.is_empty() && !key.starts_with('$') => {
                path.within(self.section(Part::Reported), 2)
            }
            _ => path.within(self.root(), 0),
        }
    }

    fn row(&self, fields: &[(String, Path)]) -> Map<String, Value> {
        let defined = fields.iter().filter_map(|(name, path)| Some((name.clone(), self.field(path)?.clone())));
        defined.collect()
    }
}

fn page(
    query: &Query,
    twins: &[Arc<TwinSnapshot>],
    max_items: usize,
    facts: &dyn Fn(&Identity) -> Facts,
    is_given_up: &dyn Fn() -> bool,
    print: &str,
) -> QueryPage {
    let mut page =
        QueryPage { body: b"[".to_vec(), has_twins: query.selection == Selection::Whole, continuation: None };
    let (mut rows, mut last) = (0, None);
    for (at, twin) in twins.iter().enumerate() {
        if at % BETWEEN_LOOKS == 0 && is_given_up() {
            break;
        }
        let document = Document::new(twin, facts);
        if !query.matches(&|path| document.field(path)) {
            continue;
        }
        // Known only now that there is another one.
        let is_count = matches!(query.selection, Selection::Count(_));
        if !is_count && (rows == max_items || page.body.len() > MAX_PAGE_BYTES) {
            page.continuation = last.map(|last: &Identity| Place::write(last, print));
            break;
        }
        rows += 1;
        last = Some(&twin.identity);
        match &query.selection {
            Selection::Count(_) => {}
            Selection::Whole => put(&mut page.body, document.root()),
            Selection::Fields(fields) => put(&mut page.body, &Value::Object(document.row(fields))),
        }
    }
    if let Selection::Count(name) = &query.selection {
        put(&mut page.body, &json!({name: rows}));
    }
    page.body.push(b']');
    page
}

fn put(body: &mut Vec<u8>, row: &Value) {
    if body.len() > 1 {
        body.push(b',');
    }
    // A value that was parsed or made here can be written, and memory takes it.
    let _ = serde_json::to_writer(body, row);
}

/// Which query a continuation belongs to.
fn print(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where a page ended: opaque to clients, `[query, device, module or null]` to us.
struct Place;

impl Place {
    fn write(last: &Identity, print: &str) -> String {
        URL_SAFE_NO_PAD.encode(json!([print, last.device_id(), last.module_id()]).to_string())
    }

    fn read(token: &str, text: &str) -> Answer<Identity> {
        let refuse = |message: &str| {
            let hint = "send x-ms-continuation as the page before gave it, with the same query; or ask from the start";
            Refusal::new(RefusalKind::Invalid, message, hint)
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let place: Option<(String, String, Option<String>)> =
            bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let Some((of, device, module)) = place else { return Err(refuse("the continuation is none of this device's")) };
        if of != print(text) {
            return Err(refuse("the continuation belongs to another query"));
        }
        let identity = match module {
            Some(module) => Identity::module(&device, &module),
            None => Identity::device(&device),
        };
        identity.map_err(|_| refuse("the continuation is none of this device's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_is_read_back_for_its_query_and_for_no_other() {
        let module = Identity::module("press-1", "$edgeHub").unwrap();
        let token = Place::write(&module, &print("SELECT * FROM devices"));

        assert_eq!(Place::read(&token, "SELECT * FROM devices").unwrap(), module);
        for (token, text) in [(&*token, "SELECT * FROM devices.modules"), ("e30", "x"), ("", "x"), ("%", "x")] {
            assert_eq!(Place::read(token, text).unwrap_err().kind, RefusalKind::Invalid, "{token}");
        }
    }
}
