//! What there is at one moment, for people and for monitors.

use super::Dispatcher;
use crate::broker::state::phases::Shown;
use crate::broker::status::{Figures, HostReport, JobReport, Report, TroubleReport};
use crate::broker::trace::Timeline;

/// Troubles that a report tells.
const TROUBLES_MAX: usize = 16;

impl Dispatcher {
    /// Makes the state files show what runs.
    pub(super) fn show_states(&mut self) {
        let snapshot = self.scheduler.snapshot(self.clock.now());
        let shown = snapshot.jobs.iter().filter_map(|view| {
            let job = self.jobs.get(&view.job)?;
            let report = JobReport::new(view, Some(&job.about), &self.volunteers);
            let file = report.source.rsplit('/').next().unwrap_or_default().to_owned();
            Some(Shown {
                pid: report.pid,
                phase: report.shown_phase(),
                file,
                slot: report.slot,
                host: report.host_name().to_owned(),
            })
        });
        self.states.show(shown, std::time::Instant::now());
    }

    /// The latest build.
    pub(super) fn timeline(&self) -> Timeline {
        let all = Timeline {
            records: self.history.records().map(|record| (**record).clone()).collect(),
            marks: self.history.marks_since(0).0,
            hosts: self.volunteers.names(),
            pid: std::process::id(),
        };
        all.latest()
    }

    pub(super) fn report(&self) -> Report {
        let now = self.clock.now();
        let snapshot = self.scheduler.snapshot(now);
        let hosts = snapshot.hosts.iter().map(|host| HostReport::new(host, &self.volunteers));
        let jobs = snapshot.jobs.iter().map(|job| {
            let about = self.jobs.get(&job.job).map(|job| &job.about);
            JobReport::new(job, about, &self.volunteers)
        });
        let troubles =
            self.history.troubles().filter_map(|mark| TroubleReport::new(mark, now, &self.volunteers));
        let figures = Figures {
            totals: snapshot.totals.clone(),
            travelled: self.hermetic.counts.get(),
            scanner: self.hermetic.scanner.report(),
            traffic: self.volunteers.all_traffic(),
            remote_cpu: self.history.cpu(),
            client_cpu: self.effort.client_cpu(),
        };
        let troubles = troubles.take(TROUBLES_MAX).collect();
        let report = Report::new(hosts.collect(), jobs.collect(), troubles, &figures, now);
        Report { draining: snapshot.draining, ..report }
    }
}
