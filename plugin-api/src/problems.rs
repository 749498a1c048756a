//! Everything that keeps a JSON value from being read as a type, not only the first thing.
//!
//! serde stops at the first problem. So that place is taken out of the value and the rest is read again, until it can be read or
//! nothing is left; what is then missing because it was taken out is no problem of its own.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// More than these are not told.
const MOST: usize = 16;

/// Takes a value apart, problem by problem.
pub(crate) struct Problems {
    value: Value,
    found: Vec<String>,
    taken: Vec<Vec<Step>>,
}

/// A step of a path, with positions in lists as they were before anything was taken out.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    At(usize),
}

impl Problems {
    /// The problems of `value` as a `T`, each `path: text`; empty where there is none.
    pub fn of<T: DeserializeOwned>(value: Value) -> Vec<String> {
        let mut problems = Problems { value, found: Vec::new(), taken: Vec::new() };
        while problems.found.len() < MOST {
            let Err(error) = serde_path_to_error::deserialize::<_, T>(&problems.value) else { break };
            let read = problems.path(error.path().iter());
            let text = error.inner().to_string();
            let missing = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            let is_taken = missing.is_some_and(|name| problems.has_taken(&read, name));
            if !is_taken {
                let path = written(&read);
                problems.found.push(if path.is_empty() { text } else { format!("{path}: {text}") });
            }
            if !problems.take_out(read) {
                break;
            }
        }
        problems.found
    }

    /// The path in the value as it was given.
    fn path<'a>(&self, segments: impl Iterator<Item = &'a Segment>) -> Vec<Step> {
        let mut path = Vec::new();
        for segment in segments {
            match segment {
                Segment::Seq { index } => {
                    let mut at = *index;
                    // Those before it that are gone, in the order of their places.
                    let mut gone: Vec<usize> = self.taken.iter().filter_map(|taken| place_in(taken, &path)).collect();
                    gone.sort_unstable();
                    for place in gone {
                        at += usize::from(place <= at);
                    }
                    path.push(Step::At(at));
                }
                Segment::Map { key } => path.push(Step::Key(key.clone())),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        path
    }

    fn has_taken(&self, parent: &[Step], name: &str) -> bool {
        let is_it = |taken: &Vec<Step>| matches!(taken.split_last(), Some((Step::Key(key), before)) if key == name && before == parent);
        self.taken.iter().any(is_it)
    }

    /// Takes the place out; says whether there was something to take.
    fn take_out(&mut self, path: Vec<Step>) -> bool {
        let Some((last, parents)) = path.split_last() else { return false };
        let mut within = &mut self.value;
        for (depth, step) in parents.iter().enumerate() {
            let now = place_now(&self.taken, &path[..depth], step);
            let next = match (step, now) {
                (Step::Key(key), _) => within.get_mut(key),
                (Step::At(_), now) => within.get_mut(now),
            };
            let Some(next) = next else { return false };
            within = next;
        }
        let is_gone = match (last, within) {
            (Step::Key(key), Value::Object(members)) => members.remove(key).is_some(),
            (Step::At(_), Value::Array(items)) => {
                let now = place_now(&self.taken, parents, last);
                now < items.len() && {
                    items.remove(now);
                    true
                }
            }
            _ => false,
        };
        self.taken.push(path);
        is_gone
    }
}

/// Where `taken` lay in the list at `path`.
fn place_in(taken: &[Step], path: &[Step]) -> Option<usize> {
    match taken.split_last() {
        Some((Step::At(at), before)) if before == path => Some(*at),
        _ => None,
    }
}

/// Where a step of the list at `path` is now that others are gone.
fn place_now(taken: &[Vec<Step>], path: &[Step], step: &Step) -> usize {
    let Step::At(at) = step else { return 0 };
    at - taken.iter().filter_map(|taken| place_in(taken, path)).filter(|gone| gone < at).count()
}

fn written(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text += key,
            Step::Key(key) => text += &format!(".{key}"),
            Step::At(at) => text += &format!("[{at}]"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Window {
        size: u32,
        #[serde(default)]
        hop: u32,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Whole {
        queries: Vec<Window>,
        #[serde(default)]
        tags: std::collections::BTreeMap<String, u32>,
    }

    #[test]
    fn every_problem_is_found_once_and_in_its_own_place() {
        let value = json!({
            "queries": [{"size": "a"}, {"size": 1}, {"hop": 1}, {"size": 1, "hop": -1, "hops": 2}, 5, {"size": true}],
            "tags": {"x": 1, "y": "no"},
            "tag": 1
        });
        assert_eq!(
            Problems::of::<Whole>(value),
            [
                "queries[0].size: invalid type: string \"a\", expected u32",
                "queries[2]: missing field `size`",
                "queries[3].hop: invalid value: integer `-1`, expected u32",
                "queries[3].hops: unknown field `hops`, expected `size` or `hop`",
                "queries[4]: invalid type: integer `5`, expected struct Window",
                "queries[5].size: invalid type: boolean `true`, expected u32",
                "tags.y: invalid type: string \"no\", expected u32",
                "tag: unknown field `tag`, expected `queries` or `tags`",
            ]
        );
    }

    #[test]
    fn what_fits_has_none_and_what_is_no_object_has_one() {
        assert!(Problems::of::<Whole>(json!({"queries": []})).is_empty());
        assert_eq!(Problems::of::<Whole>(json!(1)).len(), 1);
        assert_eq!(Problems::of::<Whole>(json!({})), ["missing field `queries`"]);
    }
}
