//! Which keys only a start reads: a reload names them and leaves them as they are.

use super::Config;

/// The keys whose values are not those that the process began with.
pub fn needs_restart(started: &Config, now: &Config) -> Vec<&'static str> {
    let (a, b) = (&started.server, &now.server);
    let same_door = started.has_admin_door_of(now);
    let keys = [
        ("server.listen", a.listen != b.listen),
        ("server.admin", a.admin != b.admin),
        ("server.tls", a.tls != b.tls),
        ("server.data_dir", a.data_dir != b.data_dir),
        ("server.workers", a.workers != b.workers),
        ("server.drain", a.drain_ms != b.drain_ms),
        ("server.body_limit", a.body_limit != b.body_limit),
        ("server.disk_low_water", a.disk_low_water != b.disk_low_water),
        ("server.request_timeout", a.request_timeout_ms != b.request_timeout_ms),
        ("server.in_flight", a.in_flight != b.in_flight),
        ("server.shed_after", a.shed_after_ms != b.shed_after_ms),
        ("server.address_limit", a.address_limit != b.address_limit),
        ("server.connections", a.connections != b.connections),
        ("server.address_connections", a.address_connections != b.address_connections),
        ("admin.tls", started.admin.tls != now.admin.tls),
        ("admin.tokens", !same_door && started.admin.operators != now.admin.operators),
        ("telemetry", started.telemetry != now.telemetry),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

impl Config {
    /// Whether the operators' door is the same. What is safe at one door is not at another: a door
    /// on loopback may stand open without tokens, so tokens go with their door.
    pub fn has_admin_door_of(&self, other: &Config) -> bool {
        self.server.admin == other.server.admin && self.admin.tls == other.admin.tls
    }
}
