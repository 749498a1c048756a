//! The machine as a set of readings. Asks the system only for what is selected.

use std::time::{Duration, Instant};

use dinrail_plugin::{Reading, ReadingValue};
use sysinfo::{Components, Disk, DiskRefreshKind, Disks, MINIMUM_CPU_UPDATE_INTERVAL, Networks, System};

use crate::Group;

pub struct Machine {
    system: System,
    disks: Disks,
    networks: Networks,
    components: Components,
    /// Time and number of the samples of the CPU: usage is what lies between two of them.
    cpu_sampled: Option<Instant>,
    cpu_samples: u64,
    network_sampled: Option<Instant>,
}

type Readings = Vec<Reading<'static>>;

impl Machine {
    /// Measures nothing yet.
    pub fn new() -> Result<Machine, sysinfo::Error> {
        Ok(Machine {
            system: System::new()?,
            disks: Disks::new()?,
            networks: Networks::new()?,
            components: Components::new()?,
            cpu_sampled: None,
            cpu_samples: 0,
            network_sampled: None,
        })
    }

    /// Readings of what is selected, in that order.
    pub fn measure(&mut self, select: &[Group]) -> Readings {
        let mut readings = Vec::with_capacity(32);
        for group in select {
            match group {
                Group::Cpu => self.cpu(&mut readings),
                Group::Memory => self.memory(&mut readings),
                Group::Disk => self.disk(&mut readings),
                Group::Network => self.network(&mut readings),
                Group::Temperature => self.temperature(&mut readings),
            }
        }
        readings
    }

    fn cpu(&mut self, readings: &mut Readings) {
        // Samples that are nearer would only show the measuring itself.
        if self.cpu_sampled.is_none_or(|at| at.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL) {
            self.system.refresh_cpu_usage();
            self.cpu_sampled = Some(Instant::now());
            self.cpu_samples += 1;
        }
        if self.cpu_samples > 1 {
            put(readings, "cpu.usage", rounded(self.system.global_cpu_usage().into()), "%");
        }
        if let Ok(load) = System::load_average() {
            put(readings, "cpu.load1", load.one, "");
            put(readings, "cpu.load5", load.five, "");
            put(readings, "cpu.load15", load.fifteen, "");
        }
    }

    fn memory(&mut self, readings: &mut Readings) {
        self.system.refresh_memory();
        let system = &self.system;
        let used = system.total_memory().saturating_sub(system.available_memory());
        put(readings, "memory.usage", percent(used, system.total_memory()), "%");
        put(readings, "memory.total", system.total_memory() as f64, "B");
        put(readings, "memory.used", used as f64, "B");
        put(readings, "memory.available", system.available_memory() as f64, "B");
        put(readings, "swap.total", system.total_swap() as f64, "B");
        put(readings, "swap.used", system.used_swap() as f64, "B");
    }

    fn disk(&mut self, readings: &mut Readings) {
        self.disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
        let mut disks: Vec<&Disk> = self.disks.iter().filter(|disk| is_real(disk)).collect();
        // Of the mounts of one file system the one nearest to the root stands for all.
        disks.sort_by_key(|disk| disk.mount_point().as_os_str().len());
        for (at, disk) in disks.iter().enumerate() {
            if disks[..at].iter().any(|nearer| nearer.id().is_some() && nearer.id() == disk.id()) {
                continue;
            }
            let (total, mount) = (disk.total_space(), disk.mount_point().display());
            let used = total.saturating_sub(disk.available_space());
            put(readings, format!("disk.usage:{mount}"), percent(used, total), "%");
            put(readings, format!("disk.total:{mount}"), total as f64, "B");
            put(readings, format!("disk.used:{mount}"), used as f64, "B");
        }
    }

    fn network(&mut self, readings: &mut Readings) {
        self.networks.refresh(true);
        let now = Instant::now();
        let Some(before) = self.network_sampled.replace(now) else { return };
        let secs = (now - before).max(Duration::from_millis(1)).as_secs_f64();
        let mut networks: Vec<_> = self.networks.iter().collect();
        networks.sort_by_key(|(name, _)| *name);
        for (name, network) in networks {
            let name = name.display();
            put(readings, format!("network.received:{name}"), rounded(network.received() as f64 / secs), "B/s");
            put(readings, format!("network.sent:{name}"), rounded(network.transmitted() as f64 / secs), "B/s");
        }
    }

    fn temperature(&mut self, readings: &mut Readings) {
        self.components.refresh(true);
        let first = readings.len();
        for sensor in &self.components {
            let Some(celsius) = sensor.temperature().filter(|celsius| celsius.is_finite()) else { continue };
            let label = format!("temperature:{}", sensor.label());
            let numbered = |n: u32| if n == 1 { label.clone() } else { format!("{label} {n}") };
            // Two sockets have the same labels; readings have names of their own.
            let is_taken = |name: &String| readings[first..].iter().any(|reading| reading.name == *name);
            let name = (1..).map(numbered).find(|name| !is_taken(name)).unwrap_or(label.clone());
            put(readings, name, rounded(celsius.into()), "°C");
        }
    }
}

/// sysinfo has left out what is no disk by its type, and what may hang; this leaves out the layers of containers.
fn is_real(disk: &Disk) -> bool {
    disk.total_space() > 0 && (disk.file_system() != "overlay" || disk.mount_point().parent().is_none())
}

fn put(readings: &mut Readings, name: impl Into<std::borrow::Cow<'static, str>>, value: f64, unit: &'static str) {
    readings.push(Reading { name: name.into(), ..Reading::now("", ReadingValue::Number(value), unit) });
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { rounded(100.0 * part as f64 / whole as f64) }
}

/// To two places: what is measured is not exacter.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
