//! JSON merge patches: apply, difference, composition. Pure. Source: RFC 7396.
//!
//! Objects merge, anything else replaces as a whole, null removes; a reference to a [secret] counts as a text. Members keep their order; it never matters for
//! equality.

use serde_json::{Map, Value};

use super::secret;

/// Merges `patch` into `target`.
pub fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(patch), None) = (patch, secret::name_of(patch)) else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() || secret::name_of(target).is_some() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, change) in patch {
        if change.is_null() {
            target.shift_remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// The smallest patch that makes `to` of `from`. `to` holds no null inside objects, as no merged document does.
pub fn diff(from: &Map<String, Value>, to: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, new) in to {
        match (from.get(key), new) {
            (Some(old), new) if old == new => {}
            (Some(was @ Value::Object(old)), Value::Object(members))
                if secret::name_of(was).or(secret::name_of(new)).is_none() =>
            {
                patch.insert(key.clone(), Value::Object(diff(old, members)));
            }
            _ => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    patch
}

/// One patch that does what `first` and then `second` do, on any document; nulls are kept.
///
/// `None` where no merge patch can say it: `first` removes or replaces a member that `second` makes an object of, so
/// that the old members of that object are gone. Then only a [`diff`] of the documents helps.
pub fn compose(first: &Map<String, Value>, second: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut both = first.clone();
    for (key, later) in second {
        let composed = match (first.get(key), later) {
            (_, later) if secret::name_of(later).is_some() => later.clone(),
            (Some(was @ Value::Object(earlier)), Value::Object(later)) if secret::name_of(was).is_none() => {
                Value::Object(compose(earlier, later)?)
            }
            (Some(_), Value::Object(_)) => return None,
            _ => later.clone(),
        };
        both.insert(key.clone(), composed);
    }
    Some(both)
}

/// One patch that says what `patches` do one after the other; where none can, what `diff` says that they changed.
pub fn together(patches: &[Value], diff: impl FnOnce() -> Map<String, Value>) -> Map<String, Value> {
    let mut objects = patches.iter().filter_map(Value::as_object);
    let Some(first) = objects.next() else { return Map::new() };
    objects.try_fold(first.clone(), |all, next| compose(&all, next)).unwrap_or_else(diff)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_to_a_secret_is_replaced_and_replaces_as_a_whole() {
        let reference = json!({"pw": {"$secret": "a"}});
        for (from, to) in [
            (json!({"pw": {"user": "u"}}), reference.clone()),
            (reference.clone(), json!({"pw": {"user": "u"}})),
            (reference.clone(), json!({"pw": {"$secret": "b"}})),
            (reference.clone(), json!({"pw": "text"})),
            (json!({"pw": 1}), reference.clone()),
        ] {
            let mut merged = from.clone();
            merge(&mut merged, &to);
            assert_eq!(merged, to, "from {from}");
            let difference = diff(from.as_object().unwrap(), to.as_object().unwrap());
            assert_eq!(Value::Object(difference.clone()), to, "what the module is given has no object to merge with");
            assert_eq!(compose(from.as_object().unwrap(), &difference).is_none(), to["pw"]["user"].is_string());
        }
        assert_eq!(diff(reference.as_object().unwrap(), reference.as_object().unwrap()), Map::new());
    }

    #[test]
    fn examples_of_rfc_7396_appendix_a() {
        for (original, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut target = original.clone();
            merge(&mut target, &patch);
            assert_eq!(target, result, "{original} with {patch}");
        }
    }

    #[test]
    fn composition_is_refused_where_no_patch_can_say_it() {
        let compose = |a: Value, b: Value| compose(a.as_object().unwrap(), b.as_object().unwrap());
        assert_eq!(compose(json!({"a": null}), json!({"a": {"b": 1}})), None);
        assert_eq!(compose(json!({"a": {"x": 7}}), json!({"a": {"x": {"b": 1}}})), None);
        assert_eq!(compose(json!({"a": {"b": 1}}), json!({"a": null})), json!({"a": null}).as_object().cloned());
    }

    /// Documents over few keys, so that paths meet.
    pub(in crate::twin) fn document(nulls: bool) -> impl Strategy<Value = Map<String, Value>> {
        let scalar = prop_oneof![
            3 => (0..3i64).prop_map(Value::from),
            1 => Just(json!(["x", 1])),
            u32::from(nulls) * 2 => Just(Value::Null),
        ];
        let key = prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned);
        let object = |value: BoxedStrategy<Value>| {
            proptest::collection::vec((key.clone(), value), 0..4)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>())
        };
        let value = scalar.boxed();
        let inner = prop_oneof![2 => value.clone(), 1 => object(value.clone()).prop_map(Value::Object)].boxed();
        let middle = prop_oneof![1 => value, 1 => object(inner).prop_map(Value::Object)].boxed();
        object(middle)
    }

    fn merged(document: &Map<String, Value>, patch: &Map<String, Value>) -> Value {
        let mut target = Value::Object(document.clone());
        merge(&mut target, &Value::Object(patch.clone()));
        target
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_document_to_the_other(a in document(false), b in document(false)) {
            prop_assert_eq!(merged(&a, &diff(&a, &b)), Value::Object(b));
        }

        #[test]
        fn equal_documents_differ_by_nothing(a in document(false)) {
            prop_assert!(diff(&a, &a).is_empty());
        }

        #[test]
        fn a_composition_does_what_both_do(x in document(false), p in document(true), q in document(true)) {
            if let Some(both) = compose(&p, &q) {
                let one_by_one = merged(merged(&x, &p).as_object().unwrap(), &q);
                prop_assert_eq!(merged(&x, &both), one_by_one);
            }
        }
    }
}
