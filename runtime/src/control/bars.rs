//! What is barred: images that one instance must not use, since it failed a deployment's health gate with them, or was rolled
//! back from them. They stay barred over restarts, until a person starts the instance or deploys it anew, so that no moving
//! reference leads to the same failure again and again.

use std::collections::BTreeMap;

use super::Control;
use crate::database::File;
use crate::database::tables::barred::{self, BarredRow};
use crate::image::{Digest, Reference, Verdict};
use crate::instance::spec::InstanceSpec;

/// Barred images by instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Bars(BTreeMap<String, Vec<BarredRow>>);

impl Bars {
    pub(super) fn new(rows: Vec<BarredRow>) -> Bars {
        let mut bars = Bars::default();
        rows.into_iter().for_each(|row| bars.put(row));
        bars
    }

    pub(super) fn put(&mut self, row: BarredRow) {
        let of_instance = self.0.entry(row.instance.clone()).or_default();
        of_instance.retain(|known| known.digest != row.digest);
        of_instance.push(row);
    }
}

impl Control {
    /// The images that an instance must not use.
    pub(super) fn barred_digests(&self, name: &str) -> Vec<Digest> {
        let rows = self.bars.0.get(name).map(Vec::as_slice).unwrap_or_default();
        rows.iter().filter_map(|row| row.digest.parse().ok()).collect()
    }

    /// Lines for `show`, one for each barred image.
    pub(super) fn barred_notes(&self, name: &str) -> Vec<String> {
        let rows = self.bars.0.get(name).map(Vec::as_slice).unwrap_or_default();
        let note = |row: &BarredRow| {
            let short = row.digest.get(..19).unwrap_or(&row.digest);
            format!("{short} is not used: {}; dinrail start {name} allows it again", row.reason)
        };
        rows.iter().map(note).collect()
    }

    /// Images that `spec` would rather use than `ran`: what has to be barred for it to go back.
    pub(super) fn better_than(&self, spec: &InstanceSpec, ran: &Digest) -> Vec<Digest> {
        let Ok(reference) = spec.image.parse::<Reference>() else { return Vec::new() };
        let matching = self.catalog.matching(&reference);
        let admitted: Vec<Digest> =
            matching.iter().filter(|image| image.verdict == Verdict::Admitted).map(|image| image.digest).collect();
        let place = admitted.iter().position(|digest| digest == ran);
        place.map(|place| admitted[..place].to_vec()).unwrap_or_default()
    }

    /// A person wants what is barred for an instance tried again; whether anything was.
    pub(super) fn lift_bars(&mut self, name: &str) -> bool {
        if self.bars.0.remove(name).is_none() {
            return false;
        }
        let lifted = name.to_owned();
        self.database.submit_now(
            File::Main,
            Box::new(move |tx| barred::lift(tx, &lifted)),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::error!("that images are no longer barred could not be stored: {error}");
                }
            }),
        );
        true
    }
}
