//! The plots, as SVG.

use std::path::Path;

use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 360);
const BLUE_INK: RGBColor = RGBColor(38, 92, 160);
const GREY_INK: RGBColor = RGBColor(120, 120, 120);

/// What can go wrong while drawing, in words.
fn failed(path: &Path) -> impl Fn(&dyn std::fmt::Display) -> String {
    let path = path.display().to_string();
    move |why| format!("{path}: {why}")
}

/// Bars of CPU ratios with their quartiles.
pub fn ratios(path: &Path, rows: &[(&str, [f64; 3])]) -> Result<(), String> {
    bars(path, "CPU of a request, nginx = 1", rows)
}

/// Bars of added latency: the median, and from it to the 99th percentile.
pub fn latencies(path: &Path, rows: &[(&str, [f64; 3])]) -> Result<(), String> {
    let rows: Vec<(&str, [f64; 3])> =
        rows.iter().map(|(name, [p50, p99, _])| (*name, [*p50, *p50, *p99])).collect();
    bars(path, "added latency, us: p50, with a line to p99", &rows)
}

fn bars(path: &Path, title: &str, rows: &[(&str, [f64; 3])]) -> Result<(), String> {
    let failed = failed(path);
    let finite = |v: f64| if v.is_finite() { v.max(0.0) } else { 0.0 };
    let most = rows.iter().flat_map(|(_, v)| v.map(finite)).fold(1.0_f64, f64::max);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let count = i32::try_from(rows.len()).unwrap_or(i32::MAX);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(170)
        .build_cartesian_2d(0.0..most * 1.1, (0..count).into_segmented())
        .map_err(|e| failed(&e))?;
    let name = |at: &SegmentValue<i32>| match at {
        SegmentValue::CenterOf(n) => {
            let row = usize::try_from(*n).ok().and_then(|n| rows.get(rows.len() - 1 - n));
            row.map_or(String::new(), |(name, _)| (*name).to_owned())
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(rows.len())
        .y_label_formatter(&name)
        .draw()
        .map_err(|e| failed(&e))?;
    for (n, (name, [median, low, high])) in rows.iter().rev().enumerate() {
        let n = i32::try_from(n).unwrap_or(i32::MAX);
        let ink = if name.starts_with("Interlock") { BLUE_INK } else { GREY_INK };
        let (from, to) = (SegmentValue::Exact(n), SegmentValue::Exact(n + 1));
        let mut bar = Rectangle::new([(0.0, from), (finite(*median), to)], ink.filled());
        bar.set_margin(5, 5, 0, 0);
        chart.draw_series([bar]).map_err(|e| failed(&e))?;
        let line =
            [(finite(*low), SegmentValue::CenterOf(n)), (finite(*high), SegmentValue::CenterOf(n))];
        chart.draw_series(LineSeries::new(line, BLACK.stroke_width(2))).map_err(|e| failed(&e))?;
    }
    root.present().map_err(|e| failed(&e))
}

/// A process's memory over time.
pub fn memory(path: &Path, samples: &[(f64, u64)]) -> Result<(), String> {
    let failed = failed(path);
    let mib: Vec<(f64, f64)> =
        samples.iter().map(|(at, kib)| (*at, *kib as f64 / 1_024.0)).collect();
    let end = mib.last().map_or(1.0, |(at, _)| *at);
    let most = mib.iter().map(|(_, v)| *v).fold(1.0_f64, f64::max);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let mut chart = ChartBuilder::on(&root)
        .caption("memory under load: RSS in MiB, over seconds", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..end, 0.0..most * 1.2)
        .map_err(|e| failed(&e))?;
    chart.configure_mesh().light_line_style(TRANSPARENT).draw().map_err(|e| failed(&e))?;
    chart.draw_series(LineSeries::new(mib, BLUE_INK.stroke_width(2))).map_err(|e| failed(&e))?;
    root.present().map_err(|e| failed(&e))
}
