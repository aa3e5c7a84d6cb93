//! The broker's figures for Prometheus: the status in another form, so that they cannot differ.

mod serve;

pub use serve::{listen, serve};

use super::status::{HostReport, Report};
use crate::common::exposition::Exposition;
use crate::common::exposition::Kind::{Counter, Gauge};

/// What hosts may be.
const STATES: [&str; 6] = ["untried", "connecting", "up", "paused", "backed-off", "down"];

/// The report as Prometheus reads it.
pub fn render(report: &Report) -> String {
    let mut text = Exposition::default();
    text.family("distcc_build_info", Gauge, "Version of the broker; always 1.")
        .sample(&[("version", &report.version)], 1.0);
    text.single("distcc_uptime_seconds", Gauge, "Time since the broker started.", report.uptime_s as f64);
    jobs(&mut text, report);
    travel(&mut text, report);
    hosts(&mut text, &report.hosts);
    text.finish()
}

fn jobs(text: &mut Exposition, report: &Report) {
    let totals = &report.totals;
    text.family(
        "distcc_jobs_total",
        Counter,
        "Jobs that are over or run here, by where their outputs came from.",
    )
    .sample(&[("where", "remote")], totals.remote as f64)
    .sample(&[("where", "cached")], totals.cached as f64)
    .sample(&[("where", "local")], totals.local as f64)
    .sample(&[("where", "forbidden")], totals.forbidden as f64)
    .sample(&[("where", "abandoned")], totals.abandoned as f64);
    let mut local =
        text.family("distcc_local_jobs_total", Counter, "Jobs that ran on the client, by reason.");
    for (reason, count) in &totals.local_reasons {
        local.sample(&[("reason", reason)], *count as f64);
    }
    text.single(
        "distcc_retried_attempts_total",
        Counter,
        "Attempts made again after a failure.",
        totals.retried as f64,
    );
    text.single(
        "distcc_hedged_attempts_total",
        Counter,
        "Second attempts beside slow ones.",
        totals.hedged as f64,
    );
    let mut phases = text.family("distcc_jobs", Gauge, "Jobs that are not over, by phase.");
    for phase in ["queued", "preparing", "ready", "remote", "delivering", "waiting-local", "local"] {
        let count = report.jobs.iter().filter(|job| job.phase == phase).count();
        phases.sample(&[("phase", phase)], count as f64);
    }
}

fn travel(text: &mut Exposition, report: &Report) {
    let totals = &report.totals;
    let mut sent = text.family(
        "distcc_attempts_sent_total",
        Counter,
        "Attempts by the form in which their inputs travelled.",
    );
    sent.sample(&[("form", "files"), ("reason", "")], totals.sent_files as f64);
    for (reason, count) in &totals.sent_texts {
        sent.sample(&[("form", "text"), ("reason", reason)], *count as f64);
    }
    text.family("distcc_traffic_bytes_total", Counter, "Bytes on the links to volunteers.")
        .sample(&[("direction", "sent")], totals.bytes_sent as f64)
        .sample(&[("direction", "received")], totals.bytes_received as f64);
    text.family("distcc_traffic_uncompressed_bytes_total", Counter, "The same, had nothing been compressed.")
        .sample(&[("direction", "sent")], totals.bytes_sent_plain as f64)
        .sample(&[("direction", "received")], totals.bytes_received_plain as f64);
    text.family(
        "distcc_cpu_seconds_total",
        Counter,
        "CPU time of volunteers' compilers whose outputs were used, and of the client.",
    )
    .sample(&[("side", "volunteers")], totals.remote_cpu_ms as f64 / 1000.0)
    .sample(&[("side", "client")], totals.client_cpu_ms as f64 / 1000.0);
}

fn hosts(text: &mut Exposition, hosts: &[HostReport]) {
    let mut states = text.family("distcc_host_state", Gauge, "1 for the state that a volunteer is in.");
    for host in hosts {
        for state in STATES {
            states
                .sample(&[("host", &host.host), ("state", state)], f64::from(u8::from(host.state == state)));
        }
    }
    type Figure = fn(&HostReport) -> f64;
    let gauges: [(&str, &str, Figure); 4] = [
        ("distcc_host_slots", "Jobs of ours that a volunteer grants.", |host| f64::from(host.slots)),
        ("distcc_host_slots_used", "Jobs of ours that a volunteer has.", |host| f64::from(host.slots_used)),
        ("distcc_host_speed_ratio", "Learned speed; 1 is an average volunteer.", |host| host.speed),
        ("distcc_host_back_off_seconds", "How long a volunteer will still be left alone.", |host| {
            host.back_off_ms as f64 / 1000.0
        }),
    ];
    for (name, help, figure) in gauges {
        let mut family = text.family(name, Gauge, help);
        for host in hosts {
            family.sample(&[("host", &host.host)], figure(host));
        }
    }
    let mut trips = text.family("distcc_host_round_trip_seconds", Gauge, "The last ping's round trip.");
    for host in hosts {
        if let Some(trip) = host.round_trip_us {
            trips.sample(&[("host", &host.host)], trip as f64 / 1e6);
        }
    }
    let mut done = text.family("distcc_host_jobs_total", Counter, "Jobs that a volunteer has done.");
    for host in hosts {
        done.sample(&[("host", &host.host)], host.done as f64);
    }
}
