//! What was found, for people, for programs and for build servers.

use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checks::Check;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Where it shows: a fixture's line, or what was asked.
    pub at: String,
    /// What the plugin did.
    pub what: String,
}

impl Finding {
    /// A finding.
    pub fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }
}

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing is wrong.
    Passed {
        /// What was measured, perhaps.
        note: Option<String>,
    },
    /// Something is.
    Failed {
        /// At least one.
        findings: Vec<Finding>,
    },
    /// There was nothing to judge.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// A check and how it went.
#[derive(Clone, Debug)]
pub struct Ruled {
    /// Which.
    pub check: &'static Check,
    /// How.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What was found about one plugin.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its id.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// `major.minor`.
    pub abi: String,
    /// How many operations it declares.
    pub operations: usize,
    /// Every check, in order.
    pub ruled: Vec<Ruled>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn conforms(&self) -> bool {
        self.ruled.iter().all(|r| !matches!(r.outcome, Outcome::Failed { .. }))
    }

    fn count(&self, wanted: fn(&Outcome) -> bool) -> usize {
        self.ruled.iter().filter(|r| wanted(&r.outcome)).count()
    }

    /// For people, as lines.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "{} {} · ABI {} · {} operations declared",
            self.plugin, self.version, self.abi, self.operations
        )];
        let mut groups: Vec<&str> = self.ruled.iter().map(|r| r.check.group.name).collect();
        groups.dedup();
        for name in groups {
            let of_group: Vec<&Ruled> =
                self.ruled.iter().filter(|r| r.check.group.name == name).collect();
            let judged =
                of_group.iter().filter(|r| !matches!(r.outcome, Outcome::Skipped { .. })).count();
            let passed =
                of_group.iter().filter(|r| matches!(r.outcome, Outcome::Passed { .. })).count();
            let about = of_group[0].check.group.about;
            lines.push(format!("  {name:<15}{about:<64}{passed}/{judged}"));
            of_group.iter().for_each(|ruled| lines.extend(told(ruled)));
        }
        let all = self.ruled.len();
        let passed = self.count(|o| matches!(o, Outcome::Passed { .. }));
        let failed = self.count(|o| matches!(o, Outcome::Failed { .. }));
        let skipped = all - passed - failed;
        let skipped = if skipped > 0 { format!(", {skipped} not judged") } else { String::new() };
        lines.push(format!("{all} checks, {passed} passed, {failed} failed{skipped}"));
        lines.join("\n")
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let checks: Vec<Value> = self
            .ruled
            .iter()
            .map(|r| {
                let mut check = json!({
                    "group": r.check.group.name, "check": r.check.name, "title": r.check.title,
                    "took_ms": u64::try_from(r.took.as_millis()).unwrap_or(u64::MAX),
                });
                let outcome = serde_json::to_value(&r.outcome).unwrap_or_default();
                let fields = outcome.as_object().cloned().unwrap_or_default();
                let into = check.as_object_mut().expect("made as one");
                into.extend(fields);
                if matches!(r.outcome, Outcome::Failed { .. }) {
                    into.insert("why".into(), r.check.why.into());
                    into.insert("fix".into(), r.check.fix.into());
                }
                check
            })
            .collect();
        json!({
            "plugin": self.plugin, "version": self.version, "abi": self.abi,
            "conforms": self.conforms(), "checks": checks,
        })
    }

    /// For build servers.
    ///
    /// # Errors
    /// The text can't be written as XML.
    pub fn junit(&self) -> Result<String, quick_junit::SerializeError> {
        let mut report = quick_junit::Report::new("interlock plugin test");
        let mut suite = TestSuite::new(format!("{} {}", self.plugin, self.version));
        for ruled in &self.ruled {
            let status = match &ruled.outcome {
                Outcome::Passed { .. } => TestCaseStatus::success(),
                Outcome::Skipped { reason } => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(reason.clone());
                    status
                }
                Outcome::Failed { findings } => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(ruled.check.title);
                    let mut lines: Vec<String> =
                        findings.iter().map(|f| format!("{}: {}", f.at, f.what)).collect();
                    lines.push(format!("why it matters: {}", ruled.check.why));
                    lines.push(format!("fix: {}", ruled.check.fix));
                    status.set_description(lines.join("\n"));
                    status
                }
            };
            let name = format!("{} {}", ruled.check.group.name, ruled.check.name);
            let mut case = TestCase::new(name, status);
            case.set_time(ruled.took);
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
        report.to_string()
    }
}

/// Findings of one check that are shown; the rest are counted.
const SHOWN: usize = 3;

fn told(ruled: &Ruled) -> Vec<String> {
    match &ruled.outcome {
        Outcome::Passed { note: None } => Vec::new(),
        Outcome::Passed { note: Some(note) } => {
            vec![format!("    · {}: {note}", ruled.check.title)]
        }
        Outcome::Skipped { reason } => {
            vec![format!("    - not judged: {}", ruled.check.title), format!("        {reason}")]
        }
        Outcome::Failed { findings } => {
            let mut lines = vec![format!("    ✗ {}", ruled.check.title)];
            for finding in findings.iter().take(SHOWN) {
                lines.push(format!("        {}", finding.at));
                lines.extend(finding.what.lines().map(|line| format!("          {line}")));
            }
            if findings.len() > SHOWN {
                lines.push(format!("        and {} more", findings.len() - SHOWN));
            }
            lines.push(format!("      why it matters: {}", ruled.check.why));
            lines.push(format!("      fix: {}", ruled.check.fix));
            lines
        }
    }
}
