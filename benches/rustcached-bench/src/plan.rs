//! The definition of a load: requests, keys, rate and duration.
//!
//! Contains the [`Plan`] and the ten standard loads for which the project states its targets. Only
//! data and checks: `ring` encodes a plan, `worker` sends it.

use std::time::Duration;

use super::content::{KeyNames, SizeRange};
use super::failure::Failure;
use super::wire::Kind;

/// The command of a load (`set`s may be mixed in).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Command {
    /// Text `get`.
    Get,
    /// Text `gets`, which returns CAS values too.
    Gets,
    /// Text `set`.
    Set,
    /// Meta get with the flag `v`.
    Mg,
    /// Meta set.
    Ms,
    /// Text `incr` by 1, on counters.
    Incr,
    /// Text `delete`.
    Delete,
    /// Text `touch`.
    Touch,
    /// Binary get.
    BinaryGet,
}

impl Command {
    /// Returns the kind of the command's replies.
    pub fn kind(self) -> Kind {
        match self {
            Command::Get | Command::Gets => Kind::Values,
            Command::Set => Kind::Stored,
            Command::Mg => Kind::MetaValue,
            Command::Ms => Kind::MetaStatus,
            Command::Incr | Command::Delete | Command::Touch => Kind::Found,
            Command::BinaryGet => Kind::Binary,
        }
    }
}

/// The popularity distribution of keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// All keys are equally popular.
    Uniform,
    /// Zipf distribution with this exponent.
    Zipf(f64),
}

/// The condition that ends a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends after this time.
    After(Duration),
    /// Ends after this many operations, rounded up to whole batches.
    Operations(u64),
}

/// All parameters of a load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name in reports.
    pub name: String,
    /// The command.
    pub command: Command,
    /// Share of sets among the requests, 0 to 1.
    pub sets: f64,
    /// Number of connections, over all threads.
    pub connections: usize,
    /// Number of generator threads.
    pub threads: usize,
    /// Requests per batch. A connection sends the next batch after the replies to the last.
    pub depth: usize,
    /// Keys per get.
    pub multiget: usize,
    /// Number of keys.
    pub keys: u32,
    /// Prefix of every key.
    pub key_prefix: String,
    /// Key length in bytes.
    pub key_length: usize,
    /// Value size in bytes.
    pub value_size: SizeRange,
    /// Exptime of sets and touches, as in the protocol: seconds, 0 for none.
    pub ttl: u32,
    /// Popularity distribution of the keys.
    pub popularity: Popularity,
    /// Operations per second over all threads, `None` for a closed loop.
    pub rate: Option<f64>,
    /// The condition that ends the load.
    pub stop: Stop,
    /// Duration of the warm-up before the measured phase.
    pub warmup: Duration,
    /// Seed of the sequence of keys.
    pub seed: u64,
    /// Compare the value of every hit.
    pub verify: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            name: "custom".to_string(),
            command: Command::Get,
            sets: 0.0,
            connections: 50,
            threads: 1,
            depth: 1,
            multiget: 1,
            keys: 100_000,
            key_prefix: "key".to_string(),
            key_length: 20,
            value_size: SizeRange::fixed(100),
            ttl: 0,
            popularity: Popularity::Uniform,
            rate: None,
            stop: Stop::After(Duration::from_secs(10)),
            warmup: Duration::from_millis(500),
            seed: 1,
            verify: false,
        }
    }
}

impl Plan {
    /// Returns the plan of a standard load. Fails for an unknown name.
    pub fn standard(name: &str) -> Result<Plan, Failure> {
        let load = StandardLoad::named(name)?;
        let mut plan = Plan {
            name: name.to_string(),
            command: load.command,
            depth: load.depth,
            multiget: load.multiget,
            ..Plan::default()
        };
        match name {
            "get100k" => {
                plan.value_size = SizeRange::fixed(100 * 1024);
                plan.keys = 1000;
                plan.connections = 10;
            }
            "zipf" => {
                plan.popularity = Popularity::Zipf(0.99);
                plan.sets = 0.1;
            }
            _ => {}
        }
        Ok(plan)
    }

    /// Fails with [`Failure::Usage`] if the plan is invalid or contradictory.
    pub fn check(&self) -> Result<(), Failure> {
        let positive = [
            ("connections", self.connections),
            ("threads", self.threads),
            ("depth", self.depth),
            ("multiget", self.multiget),
            ("keys", self.keys as usize),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return usage_error(format!("{name}: at least 1"));
        }
        let shortest = KeyNames::new(&self.key_prefix).shortest(self.keys);
        if self.key_length < shortest || self.key_length > 250 {
            return usage_error(format!("key length: {shortest} to 250 with these keys"));
        }
        if self.multiget > 1 && !matches!(self.command, Command::Get | Command::Gets) {
            return usage_error("several keys per request: only with get and gets".to_string());
        }
        if self.multiget > 1000 {
            return usage_error("multiget: at most 1000 keys".to_string());
        }
        if self.connections < self.threads {
            return usage_error("each thread needs a connection".to_string());
        }
        if !(0.0..=1.0).contains(&self.sets) {
            return usage_error("sets: a share from 0 to 1".to_string());
        }
        if self.sets > 0.0 && matches!(self.command, Command::BinaryGet | Command::Incr) {
            return usage_error("sets cannot be mixed into binary gets or incr".to_string());
        }
        if matches!(self.popularity, Popularity::Zipf(theta) if theta <= 0.0) {
            return usage_error("zipf: above 0".to_string());
        }
        if self.rate.is_some_and(|rate| rate <= 0.0) {
            return usage_error("rate: above 0".to_string());
        }
        Ok(())
    }

    /// Returns whether the command works on counters instead of ordinary values.
    pub fn uses_counters(&self) -> bool {
        self.command == Command::Incr
    }
}

fn usage_error<T>(why: String) -> Result<T, Failure> {
    Err(Failure::Usage(why))
}

/// Permitted ratios of the server under test to the reference server.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// CPU time per operation: required maximum.
    pub cpu_hold: f64,
    /// CPU time per operation: goal.
    pub cpu_aim: f64,
    /// Operations per second: required minimum.
    pub ops_hold: f64,
    /// Operations per second: goal.
    pub ops_aim: f64,
}

/// A standard load with its targets.
#[derive(Clone, Copy, Debug)]
pub struct StandardLoad {
    /// Name on the command line.
    pub name: &'static str,
    /// Description for reports.
    pub title: &'static str,
    /// The targets.
    pub target: Target,
    command: Command,
    depth: usize,
    multiget: usize,
}

impl StandardLoad {
    /// Returns the targets over TLS.
    pub fn target_over_tls(&self) -> Target {
        let [cpu_hold, cpu_aim] = match (self.depth * self.multiget, self.name) {
            (1, "get100k") => [0.80, 0.70],
            (1, _) => [0.90, 0.80],
            _ => [0.50, 0.35],
        };
        Target {
            cpu_hold,
            cpu_aim,
            ops_hold: 1.0 / cpu_hold,
            ops_aim: 1.0 / cpu_aim,
        }
    }

    /// Returns the load of this name from [`STANDARD_LOADS`]. Fails for an unknown name.
    pub fn named(name: &str) -> Result<&'static StandardLoad, Failure> {
        let load = STANDARD_LOADS.iter().find(|load| load.name == name);
        load.ok_or_else(|| {
            let names: Vec<&str> = STANDARD_LOADS.iter().map(|load| load.name).collect();
            Failure::Usage(format!("no load {name:?}; there are {}", names.join(", ")))
        })
    }
}

/// The ten standard loads.
pub const STANDARD_LOADS: [StandardLoad; 10] = [
    load(
        "get1",
        "get, one at a time",
        Command::Get,
        1,
        1,
        [0.90, 0.80, 1.08, 1.20],
    ),
    load(
        "set1",
        "set, one at a time",
        Command::Set,
        1,
        1,
        [0.88, 0.80, 1.10, 1.20],
    ),
    load(
        "get32",
        "get, 32 deep",
        Command::Get,
        32,
        1,
        [0.30, 0.22, 3.3, 4.3],
    ),
    load(
        "set32",
        "set, 32 deep",
        Command::Set,
        32,
        1,
        [0.28, 0.18, 3.0, 4.0],
    ),
    load(
        "mget50",
        "get of 50 keys",
        Command::Get,
        1,
        50,
        [0.28, 0.20, 3.5, 4.7],
    ),
    load(
        "mg32",
        "mg, 32 deep",
        Command::Mg,
        32,
        1,
        [0.32, 0.22, 3.0, 4.3],
    ),
    load(
        "bget32",
        "binary get, 32 deep",
        Command::BinaryGet,
        32,
        1,
        [0.32, 0.24, 3.0, 4.0],
    ),
    load(
        "incr32",
        "incr, 32 deep",
        Command::Incr,
        32,
        1,
        [0.55, 0.40, 1.7, 2.2],
    ),
    load(
        "get100k",
        "get of 100 KB",
        Command::Get,
        1,
        1,
        [0.90, 0.78, 1.10, 1.25],
    ),
    load(
        "zipf",
        "zipf 0.99, 10 % sets, 4 deep",
        Command::Get,
        4,
        1,
        [0.75, 0.65, 1.35, 1.50],
    ),
];

const fn load(
    name: &'static str,
    title: &'static str,
    command: Command,
    depth: usize,
    multiget: usize,
    [cpu_hold, cpu_aim, ops_hold, ops_aim]: [f64; 4],
) -> StandardLoad {
    StandardLoad {
        name,
        title,
        target: Target {
            cpu_hold,
            cpu_aim,
            ops_hold,
            ops_aim,
        },
        command,
        depth,
        multiget,
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, Plan, STANDARD_LOADS};

    #[test]
    fn every_standard_load_is_a_plan_that_can_be_run() {
        for load in STANDARD_LOADS {
            let plan = Plan::standard(load.name).unwrap();
            plan.check().unwrap();
            assert_eq!((plan.depth, plan.multiget), (load.depth, load.multiget));
            let target = load.target;
            assert!(target.cpu_aim < target.cpu_hold && target.ops_aim > target.ops_hold);
        }
        assert!(Plan::standard("get33").is_err());
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let wrong: [fn(&mut Plan); 7] = [
            |plan| plan.depth = 0,
            |plan| plan.key_length = 3,
            |plan| plan.threads = 51,
            |plan| plan.sets = 1.5,
            |plan| (plan.command, plan.multiget) = (Command::Set, 2),
            |plan| (plan.command, plan.sets) = (Command::BinaryGet, 0.1),
            |plan| plan.rate = Some(0.0),
        ];
        for spoil in wrong {
            let mut plan = Plan::default();
            plan.check().unwrap();
            spoil(&mut plan);
            assert!(plan.check().is_err(), "{plan:?}");
        }
    }
}
