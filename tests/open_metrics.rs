//! A small strict reader of the OpenMetrics text format: what it takes, every scraper takes.
//!
//! Source: OpenMetrics 1.0. Of the text format only what is not needed here is left out: timestamps, exemplars, state sets.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of a sample, sorted.
pub type Labels = BTreeMap<String, String>;

/// All samples under one name, with what is said of them.
#[derive(Debug, Clone, Default)]
pub struct Family {
    pub name: String,
    pub help: String,
    pub kind: String,
    pub unit: String,
    /// Name, labels and value.
    pub samples: Vec<(String, Labels, f64)>,
}

impl Family {
    /// The value of the sample that has these labels, among others.
    pub fn value(&self, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |found: &Labels| labels.iter().all(|(key, value)| found.get(*key).is_some_and(|v| v == value));
        self.samples.iter().find(|(_, found, _)| has(found)).map(|(_, _, value)| *value)
    }
}

/// Reads a whole exposition, or says where it is wrong.
pub fn read(text: &str) -> Result<Vec<Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
    let mut families: Vec<Family> = Vec::new();
    for (number, line) in body.lines().enumerate() {
        let wrong = |why: &str| format!("line {}: {why}: {line}", number + 1);
        if let Some(said) = line.strip_prefix("# ") {
            let (word, rest) = said.split_once(' ').ok_or_else(|| wrong("no comment is known but HELP, TYPE, UNIT"))?;
            let (name, text) = rest.split_once(' ').ok_or_else(|| wrong("says nothing"))?;
            if !is_name(name) {
                return Err(wrong("is no name"));
            }
            if families.last().is_none_or(|family| family.name != name) {
                if families.iter().any(|family| family.name == name) {
                    return Err(wrong("a family is interrupted"));
                }
                families.push(Family { name: name.to_owned(), ..Family::default() });
            }
            let family = families.last_mut().unwrap();
            let place = match word {
                "HELP" => &mut family.help,
                "TYPE" => &mut family.kind,
                "UNIT" => &mut family.unit,
                _ => return Err(wrong("no comment is known but HELP, TYPE, UNIT")),
            };
            if !place.is_empty() || !family.samples.is_empty() {
                return Err(wrong("is said twice, or after the samples"));
            }
            *place = text.to_owned();
        } else {
            let sample = sample(line).map_err(|why| wrong(&why))?;
            let family = families.last_mut().ok_or_else(|| wrong("belongs to no family"))?;
            family.samples.push(sample);
        }
    }
    families.iter().try_for_each(check).map(|()| families)
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let end = line.find(['{', ' ']).ok_or("has no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err("is no name".into());
    }
    let mut labels = Labels::new();
    if let Some(after) = rest.strip_prefix('{') {
        rest = after;
        loop {
            let (key, after) = rest.split_once("=\"").ok_or("a label has no value")?;
            if !is_name(key) || key.contains(':') {
                return Err(format!("'{key}' is no name of a label"));
            }
            let (value, after) = quoted(after)?;
            if labels.insert(key.to_owned(), value).is_some() {
                return Err(format!("label {key} is there twice"));
            }
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None => {
                    rest = after.strip_prefix('}').ok_or("labels do not end")?;
                    break;
                }
            }
        }
    }
    let number = rest.strip_prefix(' ').ok_or("there is no space before the value")?;
    let is_number = number.bytes().all(|c| c.is_ascii_digit() || b"+-.eE".contains(&c));
    let value = number.parse().ok().filter(|_| is_number).ok_or_else(|| format!("'{number}' is no number"))?;
    Ok((name.to_owned(), labels, value))
}

/// A value up to its closing quote, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => return Err("a value escapes what needs none".into()),
            },
            letter => value.push(letter),
        }
    }
    Err("a value does not end".into())
}

fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

fn check(family: &Family) -> Result<(), String> {
    let name = &family.name;
    let wrong = |why: String| Err(format!("{name}: {why}"));
    let ends: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        other => return wrong(format!("'{other}' is no type")),
    };
    if !family.unit.is_empty() && !name.ends_with(&format!("_{}", family.unit)) {
        return wrong(format!("does not end with its unit {}", family.unit));
    }
    let mut series = BTreeSet::new();
    for (sample, labels, value) in &family.samples {
        if !ends.iter().any(|end| *sample == format!("{name}{end}")) {
            return wrong(format!("{sample} is no sample of a {}", family.kind));
        }
        if !series.insert((sample, labels)) {
            return wrong(format!("{sample} {labels:?} is there twice"));
        }
        if family.kind != "gauge" && *value < 0.0 {
            return wrong(format!("{sample} is negative"));
        }
        if family.kind == "info" && *value != 1.0 {
            return wrong("is not 1".into());
        }
    }
    if family.kind == "histogram" { check_histogram(family) } else { Ok(()) }
}

/// Buckets without other labels: cumulative, sorted, and the last one holds all.
fn check_histogram(family: &Family) -> Result<(), String> {
    let of = |end: &'static str| family.samples.iter().filter(move |(name, ..)| name.ends_with(end));
    let mut last = (f64::NEG_INFINITY, 0.0);
    for (_, labels, count) in of("_bucket") {
        let le = labels.get("le").map(String::as_str).unwrap_or_default();
        let end =
            if le == "+Inf" { f64::INFINITY } else { le.parse().map_err(|_| format!("{}: le={le}", family.name))? };
        if end <= last.0 || *count < last.1 {
            return Err(format!("{}: buckets do not grow at le={le}", family.name));
        }
        last = (end, *count);
    }
    let all = of("_count").next().map(|(_, _, count)| *count);
    if last.0 != f64::INFINITY || all != Some(last.1) || of("_sum").count() != 1 {
        return Err(format!("{}: the bucket +Inf, the count and the sum belong together", family.name));
    }
    Ok(())
}

#[test]
fn the_reader_refuses_what_is_not_open_metrics() {
    let good = "# HELP a_seconds x\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{b=\"c\\\"d\"} 1.5\n# EOF\n";
    let families = read(good).unwrap();
    assert_eq!(families[0].value(&[("b", "c\"d")]), Some(1.5));
    for (from, to) in [
        ("# EOF\n", ""),
        ("_total", ""),
        (" 1.5", " 1.5 "),
        (" 1.5", " -1.5"),
        (" 1.5", " NaN"),
        ("\\\"", "\""),
        ("# UNIT a_seconds seconds", "# UNIT a_seconds bytes"),
        ("{b=", "{b-c="),
        ("counter", "counters"),
        ("a_seconds_total{", "b_seconds_total{"),
        ("# HELP a_seconds x\n", "# HELP a_seconds x\n\n"),
        ("# HELP a_seconds x\n", "# HELP a_seconds x\n# HELP a_seconds x\n"),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(read(&good.replacen(from, to, 1)).is_err(), "{from} as {to} is taken");
    }
}
