//! What Prometheus reads: base units, bounded labels, no ids. Every name is documented here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use interlock_engine::gates::{AccountState, Alarm};
use interlock_engine::{AttemptState, Payment, status};
use interlock_journal::Stats;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// HTTP-like durations, s: the usual buckets of OpenTelemetry, extended for payments.
const SECONDS: [f64; 17] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0,
    60.0,
];
/// Syncs of the journal, s.
const SYNC_SECONDS: [f64; 11] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];
/// The states that a breaker can be in.
const BREAKER_STATES: [&str; 6] =
    ["closed", "open", "half_open", "forced_open", "forced_closed", "disabled"];

/// All counters of one process.
pub struct Metrics {
    registry: Registry,
    generation: IntGauge,
    reloads: IntCounterVec,
    /// By the number of the plugin's generation.
    panics_seen: Mutex<BTreeMap<u64, u64>>,
    payments: IntCounterVec,
    payment_seconds: HistogramVec,
    attempts: IntCounterVec,
    attempt_seconds: HistogramVec,
    failovers: IntCounterVec,
    skips: IntCounterVec,
    losses: IntCounterVec,
    trips: IntCounterVec,
    limited: IntCounterVec,
    notifications: IntCounterVec,
    webhooks: IntCounterVec,
    breaker: IntGaugeVec,
    in_flight: IntGaugeVec,
    alarms: IntGaugeVec,
    in_flight_oldest: GaugeVec,
    conversion: GaugeVec,
    conversion_baseline: GaugeVec,
    unread: GaugeVec,
    notification_lag: GaugeVec,
    in_doubt: IntGaugeVec,
    in_doubt_oldest: Gauge,
    in_doubt_amount: GaugeVec,
    commit_seconds: Histogram,
    journal_bytes: IntGauge,
    unreadable: IntCounter,
    account_up: IntGaugeVec,
    plugin_info: IntGaugeVec,
    plugin_panics: IntCounterVec,
    tls_reloads: IntCounterVec,
    tls_not_after: GaugeVec,
    tls_failed: IntCounterVec,
}

impl Metrics {
    /// A fresh registry.
    ///
    /// # Errors
    /// Never in practice: a name is registered twice.
    pub fn new() -> Result<Self, prometheus::Error> {
        let r = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            r.register(Box::new(made.clone())).map(|()| made)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
            r.register(Box::new(made.clone())).map(|()| made)
        };
        let shares = |name: &str, help: &str, labels: &[&str]| {
            let made = GaugeVec::new(Opts::new(name, help), labels)?;
            r.register(Box::new(made.clone())).map(|()| made)
        };
        let histograms = |name: &str, help: &str, labels: &[&str]| {
            let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let made = HistogramVec::new(opts, labels)?;
            r.register(Box::new(made.clone())).map(|()| made)
        };
        let build = gauges("interlock_build_info", "1, with the version", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let generation = IntGauge::new(
            "interlock_config_generation",
            "counts the configurations that this process has loaded",
        )?;
        r.register(Box::new(generation.clone()))?;
        generation.set(1);
        let reloads = counters(
            "interlock_config_reload_total",
            "reloads by what came of them: loaded, kept (it failed), canary, promoted, \
             rolled_back; alert on kept and rolled_back",
            &["result"],
        )?;
        let in_doubt_oldest = Gauge::new(
            "interlock_in_doubt_oldest_seconds",
            "age of the oldest payment whose outcome is unknown; alert over 5 min",
        )?;
        r.register(Box::new(in_doubt_oldest.clone()))?;
        let in_doubt_amount = GaugeVec::new(
            Opts::new(
                "interlock_in_doubt_amount",
                "minor units of payments whose outcome is unknown",
            ),
            &["currency"],
        )?;
        r.register(Box::new(in_doubt_amount.clone()))?;
        let tls_not_after = GaugeVec::new(
            Opts::new(
                "interlock_tls_not_after_seconds",
                "when a certificate in use expires, s since 1970; alert two weeks before",
            ),
            &["door", "certificate"],
        )?;
        r.register(Box::new(tls_not_after.clone()))?;
        let commit_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "interlock_journal_sync_seconds",
                "how long a write took to become durable, with its wait in the queue",
            )
            .buckets(SYNC_SECONDS.to_vec()),
        )?;
        r.register(Box::new(commit_seconds.clone()))?;
        let journal_bytes =
            IntGauge::new("interlock_journal_bytes", "size of the journal's files")?;
        r.register(Box::new(journal_bytes.clone()))?;
        let unreadable = IntCounter::new(
            "interlock_unreadable_rows_total",
            "payments and events that a list could only name: their rows are damaged; alert on any",
        )?;
        r.register(Box::new(unreadable.clone()))?;
        Ok(Self {
            generation,
            reloads,
            panics_seen: Mutex::default(),
            payments: counters(
                "interlock_payments_total",
                "payments that became final, by route and status",
                &["route", "status"],
            )?,
            payment_seconds: histograms(
                "interlock_payment_duration_seconds",
                "from the merchant's request to the final status",
                &["route", "status"],
            )?,
            attempts: counters(
                "interlock_attempts_total",
                "attempts, by what they came to: success, failed, ambiguous, ...",
                &["account", "outcome"],
            )?,
            attempt_seconds: histograms(
                "interlock_attempt_duration_seconds",
                "one exchange with the provider",
                &["account", "operation"],
            )?,
            failovers: counters(
                "interlock_failovers_total",
                "second tries, and what proved that the first moved no money",
                &["route", "from", "to", "reason"],
            )?,
            skips: counters(
                "interlock_skips_total",
                "accounts that were not tried, by named reason",
                &["account", "reason"],
            )?,
            losses: counters(
                "interlock_unanswered_total",
                "exchanges without an answer, by the socket's reason",
                &["account", "reason"],
            )?,
            trips: counters(
                "interlock_breaker_trips_total",
                "breakers that opened, by named reason; alert on any",
                &["account", "reason"],
            )?,
            limited: counters(
                "interlock_limited_total",
                "requests over a limit",
                &["scope", "name"],
            )?,
            notifications: counters(
                "interlock_notifications_total",
                "notifications of providers, by what became of them",
                &["account", "result"],
            )?,
            webhooks: counters(
                "interlock_webhook_deliveries_total",
                "tries to tell merchants: delivered, failed, given_up, disabled; alert on given_up",
                &["result"],
            )?,
            breaker: gauges(
                "interlock_breaker_state",
                "1 for the state that an account's breaker is in",
                &["account", "method", "group", "state"],
            )?,
            in_flight: gauges(
                "interlock_in_flight",
                "requests under way at an account",
                &["account"],
            )?,
            alarms: gauges(
                "interlock_account_alarm",
                "1 while an operator should look at the account, by named alarm; alert on 1",
                &["account", "alarm"],
            )?,
            in_flight_oldest: shares(
                "interlock_in_flight_oldest_seconds",
                "how long the oldest payment under way at an account has been",
                &["account"],
            )?,
            conversion: shares(
                "interlock_conversion_ratio",
                "paid against created, over the last window that shoppers had time for",
                &["account", "method"],
            )?,
            conversion_baseline: shares(
                "interlock_conversion_baseline",
                "the share that is usual for this account and method",
                &["account", "method"],
            )?,
            unread: shares(
                "interlock_unread_answers_ratio",
                "answers that the plugin could not read, of the last 200; alert over 0.1",
                &["account"],
            )?,
            notification_lag: shares(
                "interlock_notification_lag_seconds",
                "how long the oldest notification has been awaited; alert over 5 min",
                &["account"],
            )?,
            in_doubt: gauges(
                "interlock_in_doubt",
                "payments whose outcome at an account is unknown",
                &["account"],
            )?,
            account_up: gauges(
                "interlock_account_up",
                "1 when the account's plugin is loaded and open; alert on 0",
                &["account"],
            )?,
            plugin_info: gauges(
                "interlock_plugin_info",
                "1, with the plugin of each account",
                &["account", "plugin", "version", "abi"],
            )?,
            plugin_panics: counters(
                "interlock_plugin_panics_total",
                "panics of a plugin since the start; alert on any",
                &["plugin"],
            )?,
            tls_reloads: counters(
                "interlock_tls_reload_total",
                "certificates read again: loaded, or kept because the new can't be used",
                &["result"],
            )?,
            tls_failed: counters(
                "interlock_tls_handshake_failures_total",
                "handshakes that clients did not finish",
                &["door"],
            )?,
            tls_not_after,
            in_doubt_oldest,
            in_doubt_amount,
            commit_seconds,
            journal_bytes,
            unreadable,
            registry: r,
        })
    }

    /// What changed between two versions of a payment.
    pub fn moved(&self, before: Option<&Payment>, p: &Payment) {
        let was = |n: usize| before.and_then(|b| b.attempts.get(n)).map(|a| &a.state);
        for (n, a) in p.attempts.iter().enumerate() {
            let rest = !matches!(a.state, AttemptState::Started | AttemptState::Closing { .. });
            if rest && was(n).map(AttemptState::as_str) != Some(a.state.as_str()) {
                self.attempts.with_label_values(&[a.account.as_str(), a.state.as_str()]).inc();
            }
            if was(n).is_none() && n > 0 && a.second_charge_of.is_none() {
                let from = &p.attempts[n - 1];
                let reason = match &from.state {
                    AttemptState::Failed { reason, .. } => reason.as_str(),
                    state => state.as_str(),
                };
                self.failovers
                    .with_label_values(&[p.route.as_str(), &from.account, &a.account, reason])
                    .inc();
            }
        }
        if p.settled.is_some() && before.is_none_or(|b| b.settled.is_none()) {
            let word = status::status(p).0.as_str();
            self.payments.with_label_values(&[p.route.as_str(), word]).inc();
        }
    }

    /// A payment became final this long after its request.
    pub fn settled(&self, p: &Payment, after_ms: i64) {
        let word = status::status(p).0.as_str();
        let seconds = after_ms.max(0) as f64 / 1_000.0;
        self.payment_seconds.with_label_values(&[p.route.as_str(), word]).observe(seconds);
    }

    /// An account was not tried.
    pub fn skipped(&self, account: &str, reason: &str) {
        self.skips.with_label_values(&[account, reason]).inc();
    }

    /// An exchange ended without an answer.
    pub fn lost(&self, account: &str, reason: &str) {
        self.losses.with_label_values(&[account, reason]).inc();
    }

    /// An exchange ended.
    pub fn exchanged(&self, account: &str, operation: &str, elapsed_ms: u64) {
        let seconds = elapsed_ms as f64 / 1_000.0;
        self.attempt_seconds.with_label_values(&[account, operation]).observe(seconds);
    }

    /// A breaker opened.
    pub fn tripped(&self, account: &str, reason: &str) {
        self.trips.with_label_values(&[account, reason]).inc();
    }

    /// A merchant was over its limit.
    pub fn limited(&self, scope: &str, name: &str) {
        self.limited.with_label_values(&[scope, name]).inc();
    }

    /// A list met a payment or an event that can't be read.
    pub fn unreadable(&self) {
        self.unreadable.inc();
    }

    /// A notification was handled.
    pub fn notified(&self, account: &str, result: &str) {
        self.notifications.with_label_values(&[account, result]).inc();
    }

    /// A merchant was told of an event, or could not be.
    pub fn told(&self, result: &str) {
        self.webhooks.with_label_values(&[result]).inc();
    }

    /// A write became durable.
    pub fn committed(&self, elapsed: Duration) {
        self.commit_seconds.observe(elapsed.as_secs_f64());
    }

    /// Whether an account serves, and with which plugin.
    pub fn account(&self, account: &str, plugin: Option<(&str, &str, (u16, u16))>) {
        self.account_up.with_label_values(&[account]).set(i64::from(plugin.is_some()));
        if let Some((id, version, (major, minor))) = plugin {
            let abi = format!("{major}.{minor}");
            self.plugin_info.with_label_values(&[account, id, version, abi.as_str()]).set(1);
        }
    }

    /// How often a plugin panicked, in one of its generations.
    pub fn panics(&self, plugin: &str, generation: u64, panics: u64) {
        let counter = self.plugin_panics.with_label_values(&[plugin]);
        if panics == 0 {
            return;
        }
        let mut seen = self.panics_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(generation, panics).unwrap_or(0);
        counter.inc_by(panics.saturating_sub(before));
    }

    /// What a reload came to.
    pub fn reloaded(&self, result: &str) {
        self.reloads.with_label_values(&[result]).inc();
    }

    /// Another configuration is in force: what was said of the accounts before is not said any
    /// more. Who looks next hears of those that are there now.
    pub fn generation(&self, generation: u64) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        for gauge in [
            &self.account_up,
            &self.plugin_info,
            &self.breaker,
            &self.in_flight,
            &self.alarms,
            &self.in_doubt,
        ] {
            gauge.reset();
        }
        for gauge in [
            &self.in_flight_oldest,
            &self.conversion,
            &self.conversion_baseline,
            &self.unread,
            &self.notification_lag,
        ] {
            gauge.reset();
        }
    }

    /// Certificates were read again.
    pub fn tls_reloaded(&self, result: &str) {
        self.tls_reloads.with_label_values(&[result]).inc();
    }

    /// A door's certificates, and its handshakes that failed since the start.
    pub fn tls(&self, door: &str, expiries: &[(String, i64)], failed: u64) {
        for (certificate, at_s) in expiries {
            self.tls_not_after.with_label_values(&[door, certificate]).set(*at_s as f64);
        }
        let counter = self.tls_failed.with_label_values(&[door]);
        counter.inc_by(failed.saturating_sub(counter.get()));
    }

    /// An account's gate, read just before a scrape.
    pub fn gate(&self, account: &str, state: &AccountState) {
        self.in_flight
            .with_label_values(&[account])
            .set(state.in_flight.iter().map(|(_, now, _)| i64::from(*now)).sum());
        for alarm in Alarm::ALL {
            let on = i64::from(state.alarms.contains(&alarm));
            self.alarms.with_label_values(&[account, alarm.as_str()]).set(on);
        }
        let lag_s = state.notification_lag_ms as f64 / 1_000.0;
        self.notification_lag.with_label_values(&[account]).set(lag_s);
        self.unread.with_label_values(&[account]).set(state.unread_share);
        let oldest_s = state.oldest_in_flight_ms as f64 / 1_000.0;
        self.in_flight_oldest.with_label_values(&[account]).set(oldest_s);
        for (method, conversion) in &state.conversion {
            let Some(baseline) = conversion.baseline else { continue };
            let labels = [account, method.as_str()];
            self.conversion_baseline.with_label_values(&labels).set(baseline);
            if conversion.created > 0 {
                let share = f64::from(conversion.paid) / f64::from(conversion.created);
                self.conversion.with_label_values(&labels).set(share);
            }
        }
        for (method, group, breaker) in &state.breakers {
            for word in BREAKER_STATES {
                let on = breaker.state.as_str() == word;
                self.breaker
                    .with_label_values(&[account, method, group.as_str(), word])
                    .set(i64::from(on));
            }
        }
    }

    /// The journal's counts, read just before a scrape.
    pub fn journal(&self, stats: &Stats, doubts: &BTreeMap<String, i64>, now_ms: i64) {
        let age = stats.oldest_in_doubt_ms.map_or(0, |at| now_ms.saturating_sub(at).max(0));
        self.in_doubt_oldest.set(age as f64 / 1_000.0);
        self.in_doubt_amount.reset();
        for (currency, amount) in &stats.in_doubt_amounts {
            self.in_doubt_amount.with_label_values(&[currency.as_str()]).set(*amount as f64);
        }
        for (account, count) in doubts {
            self.in_doubt.with_label_values(&[account.as_str()]).set(*count);
        }
        self.journal_bytes.set(i64::try_from(stats.bytes).unwrap_or(i64::MAX));
    }

    /// The text format of Prometheus.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        // Writing to memory fails only for a family without metrics, which are left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}
