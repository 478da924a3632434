//! What every key means, in one sentence: for editors, which show the JSON Schema, and for
//! `config show --explain`.
//!
//! The reader is the list of keys, their forms and their defaults; this is what it can't say. A key
//! without a sentence and a sentence without a key fail a test. Units stand in the form ("a time
//! from 1s to 30m") or, for bare numbers, in the sentence. Where the default is no fixed value, the
//! sentence says it, beginning with "Default:".

/// A section's dotted name, `NAME` in the place of names, and its keys.
type Section = (&'static [&'static str], &'static [(&'static str, &'static str)]);

/// Every section; those that are read alike share their sentences.
const MEANINGS: [Section; 25] = [
    (
        &[""],
        &[
            ("server", "The process and its doors."),
            ("admin", "Who may use the operators' door, and how."),
            ("merchants", "Who may ask for payments, by name; at least one."),
            ("accounts", "Providers with credentials and limits, by name; at least one."),
            ("routes", "Which accounts are tried for a payment; the first route that matches."),
            ("breaker", "Named breakers; accounts without a word use the one called `default`."),
            ("inquiry", "How unknown outcomes are resolved."),
            ("failover_budget", "How much load failover may add, so that it never doubles it."),
            ("telemetry", "What the process says about itself."),
        ],
    ),
    (
        &["server"],
        &[
            ("listen", "Where merchants call: an IP address and a port."),
            ("admin", "Where probes, metrics and the admin API listen: an IP address and a port."),
            ("data_dir", "The folder of the journal, the memory of every payment."),
            ("plugins_dir", "The folder of the plugins: libNAME.so for each."),
            ("plugins_lock", "The file that pins the plugins by their hashes."),
            (
                "trusted_publishers",
                "Public keys (ed25519, 64 hexadecimal digits). What they signed and is pinned so \
                 runs in the proxy's own process; other plugins get processes of their own. \
                 Default: none.",
            ),
            ("allow_unpinned", "Loads plugins that are not pinned; for development only."),
            ("workers", "Threads of the merchants' door."),
            ("drain", "How long a shutdown waits for payments in flight; longer than any timeout."),
            (
                "public_url",
                "The address under which providers reach us, for their notifications. Default: \
                 none, so none are asked for.",
            ),
            ("body_limit", "A larger request body is refused unread."),
            (
                "disk_low_water",
                "With less free in `data_dir`, new payments are refused; outcomes of those in \
                 progress are still written.",
            ),
            ("request_timeout", "A request that takes longer to arrive whole is dropped."),
            ("in_flight", "Requests that are worked on at once; more are refused with 503."),
            (
                "shed_after",
                "While the process wakes up later than this, or new payments take so much longer \
                 than at their best, lists are refused, then new payments of merchants over \
                 their share; `never` refuses nothing.",
            ),
            (
                "address_limit",
                "How often one client address may call before it is known. Default: no limit.",
            ),
            ("connections", "Connections that may be open at once; more are refused with 503."),
            (
                "address_connections",
                "Connections that may be open from one client address; behind a balancer all have \
                 its address. Default: no limit.",
            ),
            ("tls", "TLS at the merchants' door, version 1.2 or 1.3. Default: plain HTTP."),
        ],
    ),
    (
        &["server.tls", "admin.tls"],
        &[
            (
                "certificates",
                "Certificate chains with their keys, chosen by the names in them; the first \
                 serves clients that name no host.",
            ),
            (
                "client_ca",
                "Asks for client certificates of the authorities in this file. Default: asks for \
                 none.",
            ),
            ("handshake_timeout", "A handshake that takes longer is dropped."),
            ("handshakes", "Handshakes under way at once; more wait for their turn."),
        ],
    ),
    (
        &["server.tls.certificates", "admin.tls.certificates"],
        &[
            ("certificate", "The file of the chain, PEM, the server's certificate first."),
            ("key", "The file of its private key, PEM."),
        ],
    ),
    (
        &["admin"],
        &[
            (
                "hosts",
                "Names under which the door is called, besides localhost and addresses; others \
                 are refused. Default: none.",
            ),
            ("plaintext", "Tokens may cross the network in clear, because it encrypts by itself."),
            ("tls", "TLS at the operators' door. Default: plain HTTP."),
            (
                "tokens",
                "Who may use the door, by name. Default: whoever reaches it on loopback may do \
                 everything.",
            ),
        ],
    ),
    (
        &["admin.tokens.NAME"],
        &[
            ("hash", "The token's SHA-256, `sha256:` and 64 digits; this or `token` is required."),
            ("token", "The token itself, by reference; this or `hash` is required."),
            ("role", "`look` sees everything; `act` may also change things."),
        ],
    ),
    (
        &["merchants.NAME"],
        &[
            (
                "api_key",
                "A bearer token that may do everything, at least 8 characters; required where \
                 there are no `keys`.",
            ),
            (
                "keys",
                "Keys with scopes, any number, so that one can be replaced at leisure. Default: \
                 none.",
            ),
            ("limit", "How often the merchant may call. Default: no limit."),
            (
                "late_success",
                "What becomes of money that arrives after `failed`: it goes back, or is kept for \
                 a while.",
            ),
            (
                "instant_switch",
                "Shows a new offer before the old one is closed, and refunds the loser if both \
                 are paid.",
            ),
            (
                "webhook",
                "Where the merchant is told of its payments. Default: nowhere, and nothing is \
                 kept to be told.",
            ),
        ],
    ),
    (
        &["merchants.NAME.late_success"],
        &[(
            "accept_within",
            "Money is kept if it arrives within this time after the answer, else given back.",
        )],
    ),
    (
        &["merchants.NAME.keys.NAME"],
        &[
            ("hash", "The key's SHA-256; this, `key` or `client_cert` is required."),
            ("key", "The key itself, by reference; this, `hash` or `client_cert` is required."),
            (
                "client_cert",
                "The SHA-256 of a client certificate's public key; this, `hash` or `key` is \
                 required.",
            ),
            ("scopes", "What it may be used for. Default: everything."),
        ],
    ),
    (
        &["merchants.NAME.webhook"],
        &[
            ("url", "The address that messages are sent to; only public ones are ever told."),
            ("key", "What signs messages: `whsec_` and base64 of 24 to 64 random bytes."),
            (
                "old_key",
                "Signs too, while the merchant changes over to the new key. Default: none.",
            ),
            ("timeout", "How long one try may take, its answer included."),
            ("retry", "The waits between tries, in order; after the last the message is given up."),
            ("allow_loopback", "Tells this machine too, without TLS; for development and tests."),
        ],
    ),
    (
        &["accounts.NAME"],
        &[
            ("plugin", "The plugin: `acme` is libacme.so in `server.plugins_dir`."),
            (
                "endpoints",
                "Addresses in the place of the plugin's production ones, by name; a list names \
                 further sites of the same system. Default: the plugin's.",
            ),
            (
                "ca",
                "A file of certificates to trust in the place of the system's. Default: the \
                 system's.",
            ),
            (
                "client_cert",
                "Our certificate chain for mutual TLS, a file; needs `client_key`. Default: none.",
            ),
            ("client_key", "Its private key, a file. Default: none."),
            (
                "spki",
                "SHA-256 of public keys of which the provider's certificate must have one. \
                 Default: any.",
            ),
            ("config", "Plain settings, named by the plugin's manifest. Default: none."),
            ("secrets", "Secrets, named by the plugin's manifest. Default: none."),
            ("timeout", "How long one call may take, connecting included."),
            ("connect_timeout", "How long connecting may take, at most the whole call."),
            (
                "limit",
                "How often it may be called; above it the next candidate is tried. Operations and \
                 inquiries have a quarter each, beside. Default: no limit.",
            ),
            (
                "in_flight",
                "Payments under way at once; above it the next candidate is tried. Operations and \
                 inquiries have a quarter each, beside.",
            ),
            ("adaptive_limit", "A 429 halves the pace for a while, at most thrice."),
            (
                "hang_after",
                "So many unanswered payments as the breaker's `consecutive` that wait so long say \
                 that it hangs. Default: a quarter of `timeout`.",
            ),
            (
                "slow_start",
                "How long it takes after an outage from a tenth of the payments to all.",
            ),
            (
                "conversion",
                "How it is judged whether shoppers can pay what it offers; `off` does not judge. \
                 Default: the values of its keys.",
            ),
            ("breaker", "The name of a breaker, or a table with its keys."),
            ("failure_domain", "Accounts of one name fail together. Default: none."),
            ("maintenance", "When it is not used, once or weekly. Default: never."),
            (
                "late_window",
                "How long a request may be on its way at most; too short charges twice. Default: \
                 the plugin's.",
            ),
            ("contract", "What your contract promises beyond what the plugin declares."),
            ("auto_refund", "How much is refunded without asking an operator."),
            (
                "isolation",
                "Where the plugin runs. In a `process` of its own a crash or an endless loop costs \
                 one operation, and a step some microseconds more. Default: `in-process` for what \
                 a trusted publisher signed, `process` for all others.",
            ),
        ],
    ),
    (
        &["accounts.NAME.conversion"],
        &[
            ("window", "How far back the share of paid offers looks."),
            ("mature", "How long a shopper may take before an unpaid offer counts."),
            ("minimum", "No share is judged on fewer offers."),
            ("drop", "Below this share of what is usual the account is tried last, 0 to 1."),
        ],
    ),
    (
        &["accounts.NAME.maintenance"],
        &[
            ("from", "Once: when it begins, RFC 3339; required without `every`."),
            ("until", "Once: when it ends, RFC 3339; required without `every`."),
            ("every", "Weekly: a day, a list of days, or `day` for all; required without `from`."),
            ("at", "Weekly: the time of the day, such as 02:00; required with `every`."),
            ("for", "Weekly: how long it lasts; required with `every`."),
            ("zone", "Weekly: the IANA time zone of that clock. Default: UTC."),
            ("reason", "Why, for those who wonder."),
        ],
    ),
    (
        &["accounts.NAME.auto_refund"],
        &[
            ("per_hour_count", "Refunds in an hour."),
            ("per_hour_amount", "Minor units of each currency in an hour. Default: no limit."),
        ],
    ),
    (
        &["accounts.NAME.contract"],
        &[
            ("not_found", "`after_fence`: \"not found\" may be believed after the late window."),
            ("tombstone", "`true`: a create after a close is refused."),
            ("offer_expiry", "The provider itself ends an offer that is not paid."),
            (
                "close_after",
                "How old a payment must be before it can be closed, if less than declared.",
            ),
            ("never_asynchronous", "`true`: no move is accepted now and decided later."),
            ("proof_codes", "Answers that prove that no money moved, such as 429."),
        ],
    ),
    (
        &[
            "accounts.NAME.contract.not_found",
            "accounts.NAME.contract.tombstone",
            "accounts.NAME.contract.offer_expiry",
            "accounts.NAME.contract.close_after",
            "accounts.NAME.contract.never_asynchronous",
            "accounts.NAME.contract.proof_codes",
        ],
        &[
            ("value", "What is promised."),
            ("reason", "Who promised it, and where; required, operators read it at night."),
        ],
    ),
    (
        &["accounts.NAME.contract.offer_expiry.value"],
        &[
            ("after", "How long after it was made an offer ends."),
            ("margin", "How much longer we wait before we believe it."),
        ],
    ),
    (
        &["routes"],
        &[
            ("name", "Its name in answers, metrics and messages."),
            ("match", "Which payments it takes; every key that is written must match."),
            (
                "candidates",
                "The accounts: names in a strict order, or tables with weights for shares.",
            ),
            ("strategy", "How their order is made. Default: what the candidates say."),
            (
                "failover",
                "When the next may be tried: when it is proven that no money moved, when not a \
                 byte was sent, or never.",
            ),
            ("deadline", "No further account is tried after this time."),
            ("attempts_max", "No more accounts than this are tried."),
            ("on_all_open", "`fail` answers 503 while the breakers of all candidates are open."),
        ],
    ),
    (
        &["routes.candidates"],
        &[
            ("to", "The account's name."),
            ("weight", "Its share of the first tries, against the sum of all."),
        ],
    ),
    (
        &["routes.match"],
        &[
            ("method", "One or more method types, such as `card`. Default: any."),
            ("flow", "One or more flows, such as `qr`. Default: any."),
            ("currency", "One or more ISO 4217 codes. Default: any."),
            ("country", "One or more countries of the customer, ISO 3166-1. Default: any."),
            ("merchant", "One or more merchants by name. Default: any."),
            ("amount", "Bounds of the amount, both included. Default: any."),
            ("metadata", "Metadata that must be there with exactly these values. Default: any."),
        ],
    ),
    (
        &["routes.match.amount"],
        &[
            ("min", "The smallest amount, minor units. Default: none."),
            ("max", "The largest amount, minor units. Default: none."),
        ],
    ),
    (
        &["breaker.NAME", "accounts.NAME.breaker"],
        &[
            ("window", "How far back the rates look."),
            ("buckets", "In how many steps the window slides."),
            ("minimum_calls", "No rate is judged on fewer calls."),
            ("failure_rate", "Opens at this share of failed calls, 0 to 1; a decline is none."),
            ("consecutive", "Opens at so many failures in a row."),
            ("slow_call", "A call that takes this long is slow. Default: none is."),
            ("slow_rate", "Opens at this share of slow calls, 0 to 1."),
            ("open_for", "How long the first opening lasts; each further one doubles."),
            ("open_max", "No opening lasts longer."),
            ("jitter", "Chance shortens each opening by up to this share, 0 to 1."),
            ("probes", "Calls that may try a half-open breaker."),
            ("probes_needed", "So many of them must pass."),
            ("probe_wait", "A probe that takes longer has failed."),
        ],
    ),
    (
        &["inquiry"],
        &[
            (
                "recheck",
                "The waits between tries, in order; the last one repeats. Default: 1s doubling to \
                 64s for ten minutes, 5m for an hour, then 1h.",
            ),
            ("alert_after", "A payment in doubt for this long raises an alert."),
            (
                "give_up",
                "After this long in doubt an operator must decide; truth that arrives later is \
                 still taken.",
            ),
        ],
    ),
    (
        &["failover_budget"],
        &[
            ("ratio", "Further tries as a share of first tries, 0 to 1."),
            ("per_second", "Further tries in each second that are always allowed."),
            ("ttl", "How far back the share looks."),
        ],
    ),
    (
        &["telemetry"],
        &[
            ("log", "A filter for the log: a level, or levels by module."),
            ("format", "The form of log lines: for people, or one JSON object each."),
        ],
    ),
];

/// The sentence of a key, by its dotted name with `NAME` in the place of names; lists are left out.
pub(super) fn meaning(path: &str) -> Option<&'static str> {
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut sections = MEANINGS.iter().filter(|(names, _)| names.contains(&section));
    let keys = |(_, keys): &Section| keys.iter().find(|(name, _)| *name == key);
    sections.find_map(keys).map(|(_, sentence)| *sentence)
}

/// Every key that has a sentence.
#[cfg(test)]
pub(super) fn explained() -> impl Iterator<Item = String> {
    MEANINGS.iter().flat_map(|(sections, keys)| {
        sections.iter().flat_map(move |section| {
            let dot = if section.is_empty() { "" } else { "." };
            keys.iter().map(move |(key, _)| format!("{section}{dot}{key}"))
        })
    })
}
