//! What was measured, as tables in the README, plots beside it, and one file of figures.

use std::fs;

use serde_json::{Value, json};

use crate::Wish;
use crate::contenders::{Contender, Field, SHED_AFTER};
use crate::memory::{Memory, Soak};
use crate::overload::Overload;
use crate::plot;
use crate::rounds::{OPEN_RATE, Rounds, median, quartiles, ratio};

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// What one row of the tables says.
struct Row {
    contender: Contender,
    busy_us: f64,
    per_second: f64,
    /// To nginx and to bare pingora: median, quartiles.
    to_nginx: [f64; 3],
    to_pingora: [f64; 3],
    paced_us: f64,
    /// p50, p99, p99.9 beyond the direct way of the same round, us.
    added_us: [f64; 3],
    failed: u64,
}

/// Writes everything.
pub fn write(
    wish: &Wish,
    field: &Field,
    rounds: &Rounds,
    (memory, soak): &(Vec<Memory>, Soak),
    overload: &Overload,
) -> Result<(), String> {
    let rows = rows(field, rounds);
    let text = tables(rounds.len(), &rows, memory, soak, overload);
    let figures = figures(rounds.len(), &rows, memory, soak, overload);
    let fail = |why: std::io::Error| format!("the figures can't be written: {why}");
    let folder = wish.target.join("bench");
    fs::write(folder.join("figures.json"), format!("{figures:#}\n")).map_err(fail)?;
    if wish.json {
        println!("{figures}");
    } else {
        println!("{text}");
    }
    if wish.quick {
        eprintln!("a quick run writes no README and no plots");
        return Ok(());
    }
    let plots = wish.root.join("docs/bench");
    fs::create_dir_all(&plots).map_err(fail)?;
    let ratios: Vec<(&str, [f64; 3])> =
        rows.iter().map(|r| (r.contender.name(), r.to_nginx)).collect();
    plot::ratios(&plots.join("cpu.svg"), &ratios)?;
    let latencies: Vec<(&str, [f64; 3])> =
        rows.iter().map(|r| (r.contender.name(), r.added_us)).collect();
    plot::latencies(&plots.join("latency.svg"), &latencies)?;
    plot::memory(&plots.join("memory.svg"), &soak.samples)?;
    let path = wish.root.join("README.md");
    let readme = fs::read_to_string(&path).map_err(fail)?;
    let (before, rest) = readme.split_once(BEGIN).ok_or(format!("README.md lacks {BEGIN}"))?;
    let (_, after) = rest.split_once(END).ok_or(format!("README.md lacks {END}"))?;
    fs::write(&path, format!("{before}{BEGIN}\n{text}\n{END}{after}")).map_err(fail)
}

fn row(rounds: &Rounds, contender: Contender) -> Row {
    let name = contender.name();
    let against = |other: Contender| {
        let of = |round: &_| ratio(round, contender, other);
        let (low, high) = quartiles(rounds, of);
        [median(rounds, of), low, high]
    };
    let added = |n: usize| {
        median(rounds, |round| {
            let direct = round.get(Contender::Direct.name())?;
            Some(round.get(name)?.latency_us[n] - direct.latency_us[n])
        })
    };
    Row {
        contender,
        busy_us: median(rounds, |round| round.get(name).map(|lap| lap.busy_us)),
        per_second: median(rounds, |round| round.get(name).map(|lap| lap.per_second)),
        to_nginx: against(Contender::Nginx),
        to_pingora: against(Contender::BarePingora),
        paced_us: median(rounds, |round| round.get(name).map(|lap| lap.paced_us)),
        added_us: [added(0), added(1), added(2)],
        failed: rounds.iter().filter_map(|round| round.get(name)).map(|lap| lap.failed).sum(),
    }
}

/// The rounds alone.
pub fn of_rounds(field: &Field, rounds: &Rounds) -> String {
    rows_of_cpu(rounds.len(), &rows(field, rounds)).join("\n")
}

fn rows(field: &Field, rounds: &Rounds) -> Vec<Row> {
    let contenders = field.contenders().filter(|c| *c != Contender::Direct);
    contenders.map(|c| row(rounds, c)).collect()
}

fn rows_of_cpu(rounds: usize, rows: &[Row]) -> Vec<String> {
    let mut lines = vec![
        "| | CPU to nginx | to bare pingora | CPU us | requests/s on one core | \
         added p50 us | added p99 us |"
            .to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    let share = |[median, low, high]: [f64; 3]| format!("{median:.2} ({low:.2}..{high:.2})");
    for r in rows {
        lines.push(format!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |",
            r.contender.name(),
            share(r.to_nginx),
            share(r.to_pingora),
            r.busy_us,
            r.per_second,
            r.added_us[0],
            r.added_us[1],
        ));
    }
    lines.push(format!(
        "\nCPU of the whole process for each request at saturation: median over {rounds} \
         interleaved rounds of the ratio within a round, with quartiles. Latency beyond the direct \
         way, at {OPEN_RATE} requests/s by a schedule that waits for nobody."
    ));
    lines
}

fn tables(rounds: usize, rows: &[Row], memory: &[Memory], soak: &Soak, o: &Overload) -> String {
    let mut lines = rows_of_cpu(rounds, rows);
    lines.push(
        "\n| | RSS idle, MiB | with 1,000 idle connections | KiB for each of them |\n\
         |---|---|---|---|"
            .to_owned(),
    );
    let mib = |kib: u64| kib as f64 / 1_024.0;
    for m in memory {
        lines.push(format!(
            "| {} | {:.1} | {:.1} | {:.1} |",
            m.contender.name(),
            mib(m.idle_rss),
            mib(m.lines_rss),
            m.per_line
        ));
    }
    let seconds = soak.samples.last().map_or(0.0, |sample| sample.0);
    lines.push(format!(
        "\n{} durable payments in {seconds:.0} s: the second half of them added {:.1} KiB to the \
         process for each 1,000.",
        soak.payments,
        soak.growth()
    ));
    lines.push(of_overload(o));
    lines.join("\n")
}

/// What becomes of twice as much as can be done.
pub fn of_overload(o: &Overload) -> String {
    let again = match o.recovered_s {
        Some(seconds) => format!("it was itself again within {seconds} s"),
        None => "it was not itself again within 10 s".to_owned(),
    };
    format!(
        "\nAt twice its capacity of {} durable payments/s on one core, with `shed_after = \
         \"{SHED_AFTER}\"`: {} accepted with p99 {:.1} ms (unloaded {:.1} ms), {} refused with \
         503; {again}.",
        o.capacity,
        o.accepted,
        o.p99_us / 1_000.0,
        o.unloaded_p99_us / 1_000.0,
        o.refused,
    )
}

fn figures(rounds: usize, rows: &[Row], memory: &[Memory], soak: &Soak, o: &Overload) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|r| {
            json!({
                "contender": r.contender.name(), "cpu_us": r.busy_us,
                "requests_per_second": r.per_second, "cpu_to_nginx": r.to_nginx,
                "cpu_to_bare_pingora": r.to_pingora, "cpu_us_paced": r.paced_us,
                "added_us": r.added_us, "failed": r.failed,
            })
        })
        .collect();
    let memory: Vec<Value> = memory
        .iter()
        .map(|m| {
            json!({
                "contender": m.contender.name(), "idle_rss_kib": m.idle_rss,
                "idle_pss_kib": m.idle_pss, "idle_connections_rss_kib": m.lines_rss,
                "kib_per_idle_connection": m.per_line,
            })
        })
        .collect();
    json!({
        "rounds": rounds, "contenders": rows, "memory": memory,
        "overload": {
            "capacity_per_second": o.capacity, "unloaded_p99_us": o.unloaded_p99_us,
            "accepted": o.accepted, "refused": o.refused, "p99_us": o.p99_us,
            "recovered_s": o.recovered_s,
        },
        "soak": {
            "payments": soak.payments, "samples": soak.samples,
            "kib_per_1000_payments": soak.growth(),
        },
    })
}
