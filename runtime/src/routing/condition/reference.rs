//! What a condition can ask a message for: properties by name, system properties, paths into the body.

use std::fmt;

use crate::spelling::nearest;

/// Names within one path, so that reading it cannot go deep.
pub(super) const MAX_STEPS: usize = 32;

/// Name of an application property. Those are told apart without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::routing) struct Name {
    text: Box<str>,
    is_ascii: bool,
}

impl Name {
    pub(in crate::routing) fn new(text: &str) -> Name {
        Name { text: text.into(), is_ascii: text.is_ascii() }
    }

    /// Whether a key, in bytes, is this name.
    #[inline]
    pub(in crate::routing) fn is(&self, key: &[u8]) -> bool {
        let name = self.text.as_bytes();
        if self.is_ascii {
            // Mostly it is written as it is sent.
            return key.len() == name.len() && (key == name || key.eq_ignore_ascii_case(name));
        }
        let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<String>();
        std::str::from_utf8(key).is_ok_and(|key| lower(key) == lower(&self.text))
    }
}

/// A system property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::routing) enum SystemName {
    MessageId,
    CorrelationId,
    ContentType,
    ContentEncoding,
    DeviceId,
    ModuleId,
    Output,
    EnqueuedTime,
    Sequence,
    Epoch,
    /// One that only some messages carry.
    Other(Name),
}

/// Those that every message can have, with their names.
const OURS: [(&str, SystemName); 11] = [
    ("messageId", SystemName::MessageId),
    ("correlationId", SystemName::CorrelationId),
    // The name by which IoT Edge's routes know it.
    ("cid", SystemName::CorrelationId),
    ("contentType", SystemName::ContentType),
    ("contentEncoding", SystemName::ContentEncoding),
    ("connectionDeviceId", SystemName::DeviceId),
    ("connectionModuleId", SystemName::ModuleId),
    ("outputName", SystemName::Output),
    ("enqueuedTime", SystemName::EnqueuedTime),
    ("sequenceNumber", SystemName::Sequence),
    ("epoch", SystemName::Epoch),
];

/// Those that IoT Edge knows beside them.
const THEIRS: [&str; 15] = [
    "to",
    "userId",
    "ack",
    "inputName",
    "connectionDeviceGenerationId",
    "connectionAuthMethod",
    "messageSchema",
    "messageType",
    "edgeMessageId",
    "edgeHubOriginInterface",
    "creationTime",
    "operation",
    "iothub-interface-id",
    "modelId",
    "dt-subject",
];

impl SystemName {
    pub(super) fn find(name: &str) -> SystemName {
        match OURS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, system)) => system.clone(),
            None => SystemName::Other(Name::new(name)),
        }
    }

    /// As it is written, where the runtime itself gives it and hardly anyone else does.
    pub(super) fn of_runtime(name: &str) -> Option<&'static str> {
        let known = ["connectionDeviceId", "connectionModuleId", "enqueuedTime", "outputName", "sequenceNumber"];
        known.into_iter().find(|known| known.eq_ignore_ascii_case(name))
    }

    /// The name that was most likely meant; `None` where `name` is a known one, or like none.
    pub(super) fn meant(name: &str) -> Option<&'static str> {
        let known = OURS.iter().map(|(known, _)| *known).chain(THEIRS);
        let near = nearest(name, known)?;
        (!near.eq_ignore_ascii_case(name)).then_some(near)
    }
}

/// A step on the way into a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Member(Box<str>),
    Item(u32),
}

/// The way to a value in a body, `a.b[0].c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BodyPath(pub(super) Vec<Step>);

/// What is wrong with a path; `at` is the byte in its text.
pub(super) struct PathProblem {
    pub(super) at: usize,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

const PATH: &str = "a path is names and places in lists, as in $body.machine.axes[0].speed";

impl BodyPath {
    /// Reads what stands behind `$body.`: names joined by dots, each with at most one place in a list.
    pub(super) fn parse(text: &str) -> Result<BodyPath, PathProblem> {
        let problem = |at, message: &str| Err(PathProblem { at, message: message.to_owned(), hint: PATH });
        let mut steps = Vec::new();
        let mut at = 0;
        for part in text.split('.') {
            let (name, rest) = match part.find(['[', ']']) {
                Some(bracket) => part.split_at(bracket),
                None => (part, ""),
            };
            if name.is_empty() {
                return problem(at, "a name is missing in the path");
            }
            steps.push(Step::Member(name.into()));
            if !rest.is_empty() {
                let Some(digits) = rest.strip_prefix('[') else {
                    return problem(at + name.len(), "']' stands here without '['");
                };
                let Some((digits, behind)) = digits.split_once(']') else {
                    return problem(at + name.len(), "the place in a list does not end in ']'");
                };
                let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
                match digits.parse() {
                    Ok(item) if is_number => steps.push(Step::Item(item)),
                    _ => return problem(at + name.len() + 1, "a place in a list is a number from 0"),
                }
                if !behind.is_empty() {
                    return problem(at + part.len() - behind.len(), "behind a place in a list comes a dot or nothing");
                }
            }
            at += part.len() + 1;
        }
        if steps.len() > MAX_STEPS {
            return problem(0, "the path has more than 32 steps");
        }
        Ok(BodyPath(steps))
    }

    /// With the names that every twin has as they are written there, whatever their case here.
    pub(super) fn with_lower_roots(mut self) -> BodyPath {
        let is_tags = matches!(&self.0[0], Step::Member(root) if root.eq_ignore_ascii_case("tags"));
        for step in self.0.iter_mut().take(if is_tags { 1 } else { 2 }) {
            if let Step::Member(name) = step {
                *name = name.to_ascii_lowercase().into();
            }
        }
        self
    }
}

impl fmt::Display for BodyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Member(name) if index == 0 => write!(f, "{name}")?,
                Step::Member(name) => write!(f, ".{name}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}
