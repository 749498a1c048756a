//! What the README prints, and whether what is seen is like it.

/// A command and what it prints.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    pub prints: Vec<String>,
}

/// The commands of every `console` block of a section.
pub fn steps(page: &str, heading: &str) -> Vec<Step> {
    let lines = page.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## "));
    let (mut steps, mut is_inside) = (Vec::<Step>::new(), false);
    for line in lines {
        match (line, line.strip_prefix("$ ")) {
            ("```console", _) => is_inside = true,
            ("```", _) => is_inside = false,
            (_, Some(command)) if is_inside => steps.push(Step { command: command.to_owned(), prints: Vec::new() }),
            (line, None) if is_inside => {
                let step = steps.last_mut().expect("a block begins with a command");
                if step.prints.is_empty() && step.command.ends_with(['|', '\\']) {
                    step.command += &format!("\n{line}");
                } else {
                    step.prints.push(line.to_owned());
                }
            }
            _ => {}
        }
    }
    steps
}

/// Whether `seen` is what was printed, apart from what differs from run to run.
pub fn is_like(printed: &[String], seen: &[String]) -> bool {
    match (printed, seen) {
        ([], []) => true,
        ([first, rest @ ..], _) if first == "…" => (0..=seen.len()).any(|skipped| is_like(rest, &seen[skipped..])),
        ([first, rest @ ..], [line, others @ ..]) => is_line_like(&plain(first), &plain(line)) && is_like(rest, others),
        _ => false,
    }
}

/// `…` within a line stands for anything.
fn is_line_like(printed: &str, seen: &str) -> bool {
    let Some((head, tail)) = printed.split_once('…') else { return printed == seen };
    let Some(rest) = seen.strip_prefix(head) else { return false };
    let mut starts = (0..=rest.len()).filter(|at| rest.is_char_boundary(*at));
    starts.any(|at| is_line_like(tail, &rest[at..]))
}

/// The line with signs in place of what differs from run to run, and single spaces.
fn plain(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut plain: Vec<String> = Vec::new();
    for (nth, word) in words.iter().enumerate() {
        const UNITS: [&str; 12] = ["ms", "µs", "s", "min", "h", "d", "bytes", "KiB", "MiB", "GiB", "TiB", "KB"];
        let unit = |word: &&str| UNITS.contains(&word.trim_end_matches(|c: char| !c.is_alphanumeric()));
        let is_number = |word: &str| word.trim_matches(|c: char| "(,;".contains(c)).parse::<f64>().is_ok();
        if is_number(word) && words.get(nth + 1).is_some_and(unit) {
            continue;
        }
        if unit(word) && nth > 0 && is_number(words[nth - 1]) {
            // Of `13 min 1 s` as of `2 s` one sign is left.
            if plain.last().is_none_or(|last| !last.starts_with('#')) {
                plain.push("#".to_owned());
            }
            if let Some(end) = word.chars().next_back().filter(|c| !c.is_alphanumeric()) {
                plain.last_mut().expect("just pushed").push(end);
            }
            continue;
        }
        plain.push(signs(word));
    }
    plain.join(" ")
}

/// Times, hashes, process ids and measured values of a word become signs.
fn signs(word: &str) -> String {
    let inner = word.trim_matches(|c: char| "(),;\"".contains(c));
    let is_time = inner.len() >= 20 && inner.as_bytes().get(4) == Some(&b'-') && inner.ends_with('Z');
    let hash = inner.trim_start_matches("sha256:").trim_end_matches('…');
    let is_hash = hash.len() >= 12 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    if is_time {
        return word.replace(inner, "<time>");
    }
    if is_hash {
        return word.replace(inner, "<hash>");
    }
    measured(word)
}

/// `"value":1.5` and the like.
fn measured(word: &str) -> String {
    let mut text = word.to_owned();
    for key in ["\"value\":", "\"sourceTime\":", "\"time\":"] {
        if let Some(at) = text.find(key) {
            let from = at + key.len();
            let end = text[from..].find([',', '}']).map_or(text.len(), |end| from + end);
            text.replace_range(from..end, "#");
        }
    }
    text
}
