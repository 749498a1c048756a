//! Suggestions for words that a person mistyped.

/// The candidate that `word` most likely means; `None` where nothing is close.
///
/// Close is at most one edit in three characters, not counting upper and lower case, which decides among the equally close.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(edits, candidate)| *edits <= lower.chars().count().max(candidate.chars().count()).div_ceil(3))
        .min_by_key(|(edits, candidate)| (*edits, strsim::damerau_levenshtein(word, candidate)))
        .map(|(_, candidate)| candidate)
}

/// The hint for a word that is not one of `known`: the nearest of them, or else all.
pub fn suggestion(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        assert_eq!(nearest("restartpolicy", ["startupOrder", "restartPolicy"]), Some("restartPolicy"));
        assert_eq!(nearest("$upsteam", ["$upstream", "BrokeredEndpoint"]), Some("$upstream"));
        assert_eq!(nearest("HostConfig", ["isolation", "limits"]), None);
    }

    #[test]
    fn the_same_word_in_another_case_comes_first() {
        assert_eq!(nearest("C", ["a", "c"]), Some("c"));
        assert_eq!(nearest("PUMP", ["PUMA", "pump"]), Some("pump"));
        assert_eq!(nearest("Pump", ["PUMP", "pump"]), Some("pump"));
    }
}
