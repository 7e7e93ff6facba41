//! The report of hostile scenes: rows, broken rules and verdicts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::failure::Failure;
use crate::latency::Latency;
use crate::memory::hostile::plan::Scene;
use crate::memory::hostile::result::{SceneResult, Settings};
use crate::memory::watchdog::ServerState;
use crate::report::{OutputOptions, Table};
use crate::servers::Side;

const MIB: u64 = 1 << 20;

/// Results of a scene, for JSON.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    scene: &'static str,
    server: &'static str,
    connections: usize,
    cut: Option<u64>,
    base_bytes: u64,
    peak_bytes: u64,
    bound_bytes: u64,
    alive: bool,
    gets: u64,
    get_misses: u64,
    latency_us: Latency,
    generator_us: Latency,
    cpu_wait: f64,
    sets: u64,
    sets_refused: u64,
    faults: Vec<String>,
}

/// Rows and broken rules so far.
pub(super) struct Report {
    p99_limit_us: f64,
    table: Table,
    figures: Vec<Figures>,
    faults: Vec<String>,
    /// Rules broken by the reference server: reported, but not a failure.
    their_faults: Vec<String>,
}

impl Report {
    pub(super) fn new(p99_limit_ms: f64) -> Self {
        Report {
            p99_limit_us: p99_limit_ms * 1000.0,
            table: Table::new(&[
                "scene",
                "server",
                "connections",
                "cut",
                "RSS before, MiB",
                "peak",
                "growth",
                "bound",
                "alive",
                "get p50, ms",
                "p99",
                "max",
                "generator p99",
                "max",
                "CPU wait, %",
                "missed",
                "sets",
                "refused",
                "verdict",
            ]),
            figures: Vec::new(),
            faults: Vec::new(),
            their_faults: Vec::new(),
        }
    }

    /// Adds the results of a scene and returns its row.
    pub(super) fn add(
        &mut self,
        scene: &Scene,
        side: Side,
        found: Result<SceneResult, Failure>,
    ) -> &[String] {
        match found {
            Ok(found) => {
                let figures = figures(&found, self.p99_limit_us);
                self.note_faults(scene, side, &figures.faults);
                self.table.push(row(&figures, found.state));
                self.figures.push(figures);
            }
            Err(failure) => {
                let mut row = vec![scene.name.to_string(), side.name().to_string()];
                row.resize(self.table.head.len() - 1, "-".to_string());
                row.push("FAILED".to_string());
                self.table.push(row);
                self.note_faults(scene, side, &[failure.to_string()]);
            }
        }
        self.table.rows.last().expect("a row was pushed")
    }

    fn note_faults(&mut self, scene: &Scene, side: Side, faults: &[String]) {
        let (name, server) = (scene.name, side.name());
        let lines = faults
            .iter()
            .map(|fault| format!("{name}, {server}: {fault}"));
        match side {
            Side::Ours => self.faults.extend(lines),
            Side::Theirs => self.their_faults.extend(lines),
        }
    }

    pub(super) fn finish(
        self,
        settings: &Settings<'_>,
        client_limit: u64,
        output: &OutputOptions,
    ) -> Result<String, Failure> {
        let mut text = settings.servers.describe();
        text += &format!(
            "-m {}; the bound is 1.1 x -m + 24 MiB + {client_limit} MiB for clients; {} s each\n",
            settings.memory_mib,
            settings.time.as_secs_f64()
        );
        if !settings.servers.theirs.exists() {
            text += "theirs is not there and was left out\n";
        }
        text += &self.table.to_text();
        for fault in &self.their_faults {
            text += &format!("{fault}\n");
        }
        output.write(&text, &self.table, &self.figures)?;
        match self.faults.is_empty() {
            true => Ok(text),
            false => Err(Failure::Broken {
                text,
                faults: self.faults,
            }),
        }
    }
}

fn figures(found: &SceneResult, p99_limit_us: f64) -> Figures {
    let clients = &found.clients;
    let results = [Some(&clients.sets), clients.extra_load.as_ref()];
    let setters = results.into_iter().flatten();
    let refused = |refusals: &BTreeMap<String, u64>| refusals.values().sum::<u64>();
    Figures {
        scene: found.scene,
        server: found.server,
        connections: found.connections,
        cut: found.cut,
        base_bytes: found.base_bytes,
        peak_bytes: found.peak_bytes,
        bound_bytes: found.bound_bytes,
        alive: found.state == ServerState::Alive,
        gets: clients.gets.answered,
        get_misses: clients.gets.missed,
        latency_us: Latency::of(&clients.gets.latency),
        generator_us: found.generator_us,
        cpu_wait: found.cpu_wait,
        sets: setters.clone().map(|result| result.answered).sum(),
        sets_refused: setters.map(|result| refused(&result.refusals)).sum(),
        faults: faults(found, p99_limit_us),
    }
}

/// Returns a line per broken rule.
fn faults(found: &SceneResult, p99_limit_us: f64) -> Vec<String> {
    let mut faults = Vec::new();
    let peak = mib(found.peak_bytes);
    match found.state {
        ServerState::Alive => {}
        ServerState::Killed => faults.push(format!("killed by the watchdog at {peak} MiB")),
        ServerState::Ended => faults.push(format!("the server ended, at {peak} MiB or more")),
    }
    if found.peak_bytes > found.bound_bytes {
        let limit = mib(found.bound_bytes);
        faults.push(format!("resident memory {peak} MiB, bound {limit} MiB"));
    }
    let clients = &found.clients;
    let p99 = Latency::of(&clients.gets.latency).p99;
    if p99 > p99_limit_us {
        let times = [p99, p99_limit_us, found.generator_us.p99].map(in_ms);
        let [p99, limit, own] = times;
        let waited = found.cpu_wait * 100.0;
        faults.push(format!(
            "p99 of a well-behaved get {p99} ms, limit {limit} ms (the generator's own p99: {own} \
             ms; the server waited for a CPU {waited:.0} % of the time)"
        ));
    }
    let named = [("get", Some(&clients.gets)), ("set", Some(&clients.sets))];
    for (name, result) in named
        .into_iter()
        .chain([("additional", clients.extra_load.as_ref())])
    {
        let Some(result) = result else { continue };
        for (text, times) in &result.refusals {
            faults.push(format!("well-behaved {name} refused {times} times: {text}"));
        }
        if let (Some(why), ServerState::Alive) = (&result.lost, found.state) {
            faults.push(format!(
                "well-behaved {name} client lost its connection: {why}"
            ));
        }
    }
    faults
}

fn row(figures: &Figures, state: ServerState) -> Vec<String> {
    let growth = figures.peak_bytes.saturating_sub(figures.base_bytes);
    let mut row = vec![figures.scene.to_string(), figures.server.to_string()];
    row.push(figures.connections.to_string());
    row.push(figures.cut.map_or("-".to_string(), |cut| cut.to_string()));
    let sizes = [
        figures.base_bytes,
        figures.peak_bytes,
        growth,
        figures.bound_bytes,
    ];
    row.extend(sizes.map(mib));
    row.push(match state {
        ServerState::Alive => "yes".to_string(),
        ServerState::Killed => "KILLED".to_string(),
        ServerState::Ended => "NO".to_string(),
    });
    let latency = &figures.latency_us;
    let own = &figures.generator_us;
    let times = [latency.p50, latency.p99, latency.max, own.p99, own.max];
    row.extend(times.map(in_ms));
    row.push(format!("{:.0}", figures.cpu_wait * 100.0));
    let counts = [figures.get_misses, figures.sets, figures.sets_refused];
    row.extend(counts.map(|count| count.to_string()));
    row.push(match figures.faults.is_empty() {
        true => "passed".to_string(),
        false => "FAILED".to_string(),
    });
    row
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB as f64)
}

fn in_ms(us: f64) -> String {
    format!("{:.2}", us / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::{MIB, SceneResult, ServerState, faults};
    use crate::latency::{Latency, latency_histogram};
    use crate::memory::hostile::paced_client::ClientResult;
    use crate::memory::hostile::result::ClientResults;
    use std::collections::BTreeMap;

    fn result(late_ms: u64) -> ClientResult {
        let mut latency = latency_histogram();
        latency.record_n(late_ms * 1_000_000, 100).unwrap();
        ClientResult {
            latency,
            answered: 100,
            missed: 0,
            refusals: BTreeMap::new(),
            lost: None,
        }
    }

    fn found() -> SceneResult {
        SceneResult {
            scene: "get",
            server: "ours",
            connections: 10,
            cut: Some(0),
            base_bytes: 200 * MIB,
            peak_bytes: 300 * MIB,
            bound_bytes: 300 * MIB,
            state: ServerState::Alive,
            generator_us: Latency::default(),
            cpu_wait: 0.0,
            clients: ClientResults {
                gets: result(1),
                sets: result(1),
                extra_load: None,
            },
        }
    }

    #[test]
    fn each_broken_rule_is_a_line() {
        assert_eq!(faults(&found(), 5000.0), [""; 0]);
        let mut bad = found();
        bad.peak_bytes += MIB;
        bad.state = ServerState::Killed;
        bad.clients.gets = result(6);
        bad.clients.extra_load = Some(result(60));
        let text = "SERVER_ERROR out of memory".to_string();
        bad.clients.sets.refusals.insert(text, 3);
        let lines = faults(&bad, 5000.0);
        let beginnings = [
            "killed by the watchdog at 301.0 MiB",
            "resident memory 301.0 MiB, bound 300.0 MiB",
            "p99 of a well-behaved get 6.",
            "well-behaved set refused 3 times: SERVER_ERROR out of memory",
        ];
        assert_eq!(lines.len(), beginnings.len(), "{lines:?}");
        for (line, beginning) in lines.iter().zip(beginnings) {
            assert!(line.starts_with(beginning), "{line}");
        }
    }

    #[test]
    fn a_lost_client_counts_while_the_server_lives() {
        let mut bad = found();
        bad.clients.gets.lost = Some("closed by the server".to_string());
        assert_eq!(faults(&bad, 5000.0).len(), 1);
        bad.state = ServerState::Ended;
        let lines = faults(&bad, 5000.0);
        assert_eq!(lines, ["the server ended, at 300.0 MiB or more"]);
    }
}
