//! JSON that is nearly a twin patch: limits met and passed, by one.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Map, Value, json};

use super::engine::Chance;

/// Some value, down to a depth.
pub fn value(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => any::<i16>().prop_map(Value::from),
        2 => "[a-z ü\"\\\\]{0,12}".prop_map(Value::from),
        2 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => prop_oneof![
            Just(json!(4_503_599_627_370_495_i64)),
            Just(json!(4_503_599_627_370_496_i64)),
            Just(json!(-4_503_599_627_370_496_i64)),
            Just(json!(-4_503_599_627_370_497_i64)),
            Just(json!(u64::MAX)),
        ],
        1 => (4090_usize..4100).prop_map(|length| Value::from("x".repeat(length))),
        1 => "[a-z]{1,4}".prop_map(|name| json!({ "$secret": name })),
    ];
    leaf.prop_recursive(depth, 48, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            4 => prop::collection::vec((key(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Few keys, so that paths meet; some that are none.
pub fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => "[abc]",
        4 => "[a-z]{1,8}",
        1 => prop_oneof![
            Just("$version".to_owned()), Just("$metadata".to_owned()), Just("$secret".to_owned()), Just(String::new()),
            Just("a.b".to_owned()), Just("a b".to_owned()), Just("#".to_owned()), Just("ü".to_owned()),
            Just("\u{85}".to_owned()), Just("acknowledged".to_owned()),
        ],
        1 => (1020_usize..1028).prop_map(|length| "k".repeat(length)),
    ]
}

/// An object, as the section of a twin is.
pub fn object(chance: &mut Chance) -> Value {
    match chance.below(12) {
        0 => deep(chance),
        1 => large(chance),
        2 => made(&value(3).boxed(), chance),
        _ => {
            let members = prop::collection::vec((key(), value(3)), 0..5).boxed();
            let members = members.new_tree(&mut chance.runner).unwrap().current();
            Value::Object(members.into_iter().collect())
        }
    }
}

fn made(strategy: &BoxedStrategy<Value>, chance: &mut Chance) -> Value {
    strategy.new_tree(&mut chance.runner).unwrap().current()
}

/// Objects and arrays within each other, about as deep as is allowed.
fn deep(chance: &mut Chance) -> Value {
    let depth = *chance.pick(&[9, 10, 11, 12, 40, 120, 126, 127, 128, 200]);
    (0..depth).fold(json!(1), |inner, _| if chance.one_in(8) { json!([inner]) } else { json!({ "a": inner }) })
}

/// About as large as is allowed.
fn large(chance: &mut Chance) -> Value {
    let bytes = *chance.pick(&[8_192, 32_768, 60_000]) + chance.below(5) - 2;
    let mut members = Map::new();
    let (mut left, mut n) = (bytes, 0);
    while left > 4 {
        let key = format!("{}{n}", chance.pick(&["a", "b"]));
        let text = (left - key.len()).min(4096 - chance.below(2));
        left = left.saturating_sub(key.len() + text);
        members.insert(key, "y".repeat(text).into());
        n += 1;
    }
    Value::Object(members)
}
