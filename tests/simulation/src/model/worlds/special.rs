//! Worlds that are about one rule alone: the shortest scenes in which each unsafe rule does harm,
//! and what the covering array has no factor for.

use interlock_engine::{MerchantPolicy, Method};
use interlock_plugin_api::{
    Close, Concurrency, Contract, Effect, IdempotencyClass, Inquiry, NotFound, OfferExpiry,
};

use super::super::state::Fault::{Crash, Jump, Late, Loss, Misread, Race, Twice, Unbuilt, Whim};
use super::{World, cancel, capture, confirm, refresh, refund, switch};
use crate::declarations::{
    CHALLENGE, HOUR, MINUTE, asked, barcode, card, challenged, closes, creating, final_refusals,
    moves, nothing, qr, strict,
};

use Concurrency::{Excluded, Undeclared};
use IdempotencyClass::{None as Forgetful, Strong, SuccessOnly};

/// All of them.
pub fn special() -> Vec<World> {
    [doubts(), resends(), returns(), offers(), closings(), operations(), nodes(), rules()].concat()
}

/// A provider that can be asked, and believed when it finds nothing.
pub(super) fn honest(class: IdempotencyClass, copies: Concurrency) -> Contract {
    Contract {
        moves: moves(class, copies, true, 24 * HOUR),
        inquiry: asked(NotFound::AfterFence),
        operation_inquiry: asked(NotFound::AfterFence),
        ..nothing()
    }
}

/// The same, where nothing is believed.
fn unbelieved(class: IdempotencyClass, copies: Concurrency) -> Contract {
    Contract { inquiry: asked(NotFound::Undeclared), ..honest(class, copies) }
}

pub(super) fn with_close(contract: Contract, close: Close) -> Contract {
    Contract { close: closes(close), ..contract }
}

pub(super) fn by_card() -> Method {
    card(&["one", "two", "three"])
}

/// A request without an answer.
fn doubts() -> Vec<World> {
    let plain = honest(Forgetful, Undeclared);
    vec![
        World::new("a timeout, and an inquiry", &plain, barcode())
            .faults(&[(Late, 3), (Loss, 2)])
            .silent()
            .about(&["fail_over_on_timeout", "trust_not_found", "not_found_received_late"]),
        World::new("a wall clock that jumps", &plain, barcode())
            .faults(&[(Late, 1), (Jump, 2), (Crash, 1)])
            .silent()
            .about(&["wall_clock_proves"]),
        World::new("wall clocks of two nodes", &honest(Strong, Excluded), by_card())
            .faults(&[(Late, 2), (Jump, 2), (Race, 1)])
            .twice()
            .silent(),
        World::new("newer plugins", &plain, barcode())
            .faults(&[(Crash, 1), (Misread, 2), (Late, 1)])
            .upgrading()
            .about(&["trust_any_version"]),
        World::new("newer plugins that may send again", &honest(Strong, Excluded), by_card())
            .faults(&[(Crash, 2), (Misread, 1), (Loss, 1)])
            .wishing([refund("r", Some(1_000))])
            .upgrading(),
        World::over("three accounts", &[&plain, &plain, &plain], barcode())
            .faults(&[(Whim, 3), (Loss, 2), (Late, 1)])
            .silent(),
        World::new("two requests for one payment", &honest(Strong, Excluded), by_card())
            .faults(&[(Loss, 2), (Late, 2), (Crash, 1), (Twice, 1), (Race, 1)])
            .wishing([cancel(), refresh()])
            .stepping(Effect::Move),
        World::new("two requests of which both are remembered", &both_remembered(), by_card())
            .faults(&[(Loss, 2), (Late, 2), (Crash, 1), (Twice, 1)])
            .wishing([cancel()])
            .stepping(Effect::Move),
        World::new(
            "two requests of which the first is an offer",
            &honest(Strong, Excluded),
            barcode(),
        )
        .faults(&[(Loss, 2), (Late, 2), (Crash, 1), (Twice, 1)])
        .wishing([cancel()])
        .stepping(Effect::Offer),
        World::new("a repeated proof that nothing was sent", &honest(Strong, Excluded), by_card())
            .faults(&[(Loss, 2), (Twice, 2), (Late, 2)])
            .silent(),
    ]
}

fn both_remembered() -> Contract {
    creating(honest(Strong, Excluded))
}

/// The same request once more.
fn resends() -> Vec<World> {
    let both = [(Late, 2), (Loss, 1), (Whim, 2)];
    vec![
        World::new("a decline of the second copy", &honest(SuccessOnly, Excluded), by_card())
            .faults(&both)
            .silent()
            .about(&["trust_decline_after_resend"]),
        World::new("copies that are not remembered", &unbelieved(Forgetful, Excluded), by_card())
            .faults(&both)
            .silent()
            .about(&["resend_without_idempotency"]),
        World::new("copies side by side", &unbelieved(Strong, Undeclared), by_card())
            .faults(&both)
            .silent()
            .about(&["resend_in_flight"]),
        World::new("a refusal of one copy", &honest(Strong, Excluded), by_card())
            .faults(&both)
            .silent()
            .about(&["send_scope_as_key"]),
        World::new("what is accepted and decided later", &accepting(), by_card())
            .faults(&both)
            .silent()
            .about(&["resend_accepted"]),
        World::new(
            "an answer that permits no other send",
            &strict(unbelieved(Strong, Excluded)),
            by_card(),
        )
        .faults(&[(Whim, 2), (Late, 1), (Loss, 1)])
        .silent()
        .about(&["resend_unpermitted"]),
        World::new(
            "an answer of one that forgets",
            &strict(honest(SuccessOnly, Excluded)),
            by_card(),
        )
        .faults(&[(Whim, 2), (Late, 1), (Loss, 1), (Crash, 1)])
        .silent(),
        World::new("a fence, and a close behind it", &fenced(), by_card())
            .faults(&[(Late, 2), (Whim, 1), (Loss, 1)])
            .silent(),
        World::new("a fence, and nothing behind it", &honest(SuccessOnly, Excluded), by_card())
            .faults(&[(Late, 3), (Whim, 1), (Loss, 2)])
            .silent()
            .about(&["resend_after_fence"]),
        World::new("a close across a re-send", &fenced(), by_card())
            .faults(&both)
            .wishing([cancel()])
            .silent()
            .about(&["close_across_resend"]),
    ]
}

/// What a shopper brings back from a challenge.
fn returns() -> Vec<World> {
    let every = || challenged(&["one", "two", "three"]);
    // Nobody can be asked, nothing can be closed: an answer, a notification, or the same again.
    let mute = Contract {
        inquiry: Inquiry::default(),
        operation_inquiry: Inquiry::default(),
        ..honest(Strong, Excluded)
    };
    let lasting = Contract {
        offer_expiry: Some(OfferExpiry { after_ms: 30 * MINUTE, margin_ms: MINUTE }),
        ..honest(SuccessOnly, Excluded)
    };
    let closing = with_close(honest(Forgetful, Undeclared), Close::default());
    let approving = Contract { approving: vec![CHALLENGE.into()], ..mute.clone() };
    let asking = Contract { approving: vec![CHALLENGE.into()], ..honest(SuccessOnly, Undeclared) };
    let asynchronous =
        Contract { moves: moves(Strong, Excluded, false, 24 * HOUR), ..lasting.clone() };
    vec![
        World::new("a return, and another one", &mute, every())
            .faults(&[(Loss, 2), (Late, 2), (Whim, 2)])
            .wishing([confirm("y"), confirm("z")])
            .about(&["continue_beside_doubt"]),
        World::new(
            "a return to a provider whose refusals are final",
            &final_refusals(mute.clone()),
            every(),
        )
        .faults(&[(Loss, 2), (Crash, 1), (Whim, 2), (Late, 1)])
        .wishing([confirm("y"), confirm("z")]),
        World::new("an approval, and a return beside it", &approving, every())
            .faults(&[(Loss, 2), (Late, 2), (Whim, 2), (Twice, 1)])
            .wishing([confirm("y"), cancel()]),
        World::new("an approval that is asked about", &asking, every())
            .faults(&[(Loss, 1), (Late, 2), (Whim, 1)])
            .wishing([refresh(), cancel()]),
        World::new("a return that ends by itself", &lasting, every())
            .faults(&[(Loss, 2), (Late, 2), (Whim, 1), (Twice, 1)])
            .wishing([confirm("y"), confirm("z")])
            .longer(2)
            .silent(),
        World::new("a return, and a close", &closing, every())
            .faults(&[(Loss, 2), (Late, 2), (Whim, 1)])
            .wishing([confirm("y"), cancel(), confirm("z")])
            .silent(),
        World::new("a return that is accepted and decided later", &asynchronous, every())
            .faults(&[(Loss, 1), (Late, 2), (Whim, 2)])
            .wishing([confirm("y"), confirm("z"), refresh()]),
        World::new("a return that two nodes are told of", &lasting, every())
            .twice()
            .faults(&[(Race, 2), (Crash, 1), (Late, 1)])
            .wishing([confirm("y"), confirm("z")])
            .silent(),
    ]
}

fn accepting() -> Contract {
    let moves = moves(SuccessOnly, Excluded, false, 24 * HOUR);
    Contract { moves, ..honest(SuccessOnly, Excluded) }
}

/// Nothing can be asked, so only a close ends a doubt.
pub(super) fn fenced() -> Contract {
    let contract = Contract {
        inquiry: Inquiry::default(),
        operation_inquiry: Inquiry::default(),
        ..honest(SuccessOnly, Excluded)
    };
    with_close(contract, Close { repeatable: true, ..Close::default() })
}

/// Codes that a shopper pays.
fn offers() -> Vec<World> {
    let closing = with_close(honest(Strong, Excluded), Close::default());
    let expiring = Contract {
        offer_expiry: Some(OfferExpiry { after_ms: 30 * MINUTE, margin_ms: MINUTE }),
        ..honest(Strong, Excluded)
    };
    let instant = MerchantPolicy { instant_switch: true, accept_late_ms: None };
    vec![
        World::new("an old code and a new one", &closing, qr())
            .faults(&[(Late, 1), (Loss, 1)])
            .wishing([switch(qr())])
            .shoppers(1, 2)
            .about(&["offer_before_closed"]),
        World::new("a code that is declined", &expiring, qr())
            .faults(&[(Whim, 2), (Loss, 1)])
            .shoppers(1, 2)
            .longer(1),
        World::new("a code that is declined, and nobody to ask", &fenced(), qr())
            .faults(&[(Whim, 2), (Late, 1)])
            .shoppers(1, 2)
            .about(&["decline_ends_offer"]),
        World::new("a code that is made and not shown", &expiring, qr())
            .faults(&[(Loss, 2), (Crash, 2), (Late, 1), (Twice, 1)])
            .shoppers(0, 1),
        World::new("a switch at once", &closing, qr())
            .faults(&[(Late, 1), (Loss, 1)])
            .wishing([switch(barcode())])
            .shoppers(1, 1)
            .rules(instant),
        World::new("a switch that is cancelled", &closing, qr())
            .faults(&[(Late, 1), (Loss, 1), (Crash, 1)])
            .wishing([switch(qr()), cancel()])
            .shoppers(1, 1),
    ]
}

/// What is not paid is ended.
fn closings() -> Vec<World> {
    let refunding = Close { may_refund: true, repeatable: true, ..Close::default() };
    let giving = with_close(honest(Forgetful, Undeclared), refunding.clone());
    let dumb = Contract { inquiry: Inquiry::default(), ..giving.clone() };
    vec![
        World::new("a close that gives back", &giving, barcode())
            .faults(&[(Late, 3), (Loss, 2)])
            .about(&["refunded_close_as_unpaid", "success_during_close"]),
        World::new("a close that gives back, and nobody to ask", &dumb, barcode())
            .faults(&[(Late, 3), (Loss, 2)])
            .wishing([cancel()]),
        World::new("two closes", &giving, barcode())
            .faults(&[(Late, 3), (Loss, 2), (Crash, 1)])
            .wishing([cancel()])
            .silent(),
        World::new("a decline after a cancel", &honest(Strong, Excluded), barcode())
            .faults(&[(Whim, 1), (Loss, 1), (Race, 1)])
            .wishing([cancel()])
            .about(&["fail_over_after_cancel"]),
    ]
}

/// Captures, voids and refunds.
fn operations() -> Vec<World> {
    let plain = honest(SuccessOnly, Excluded);
    let strong = honest(Strong, Excluded);
    let parts = || [refund("r", Some(1_000)), refund("r", Some(1_000)), refund("q", None)];
    vec![
        World::new("a refund without an answer", &plain, barcode())
            .faults(&[(Loss, 2), (Late, 2)])
            .wishing(parts())
            .silent()
            .about(&["refund_under_new_number"]),
        World::new("a refund that bounces", &strong, barcode())
            .faults(&[(Whim, 2), (Late, 2)])
            .wishing([refund("r", Some(1_000))])
            .about(&["forget_early_failure"]),
        World::new("a refund of many copies that bounces", &plain, barcode())
            .faults(&[(Whim, 2), (Late, 2), (Loss, 1)])
            .wishing([refund("r", Some(1_000))])
            .silent(),
        World::new("a capture and a cancel", &strong, barcode())
            .manual()
            .faults(&[(Loss, 1), (Late, 1), (Whim, 1)])
            .wishing([capture("x", Some(2_000)), cancel()])
            .silent()
            .about(&["capture_beside_void"]),
        World::new("a capture and a cancel at two nodes", &plain, barcode())
            .manual()
            .twice()
            .faults(&[(Race, 2), (Crash, 1), (Loss, 1)])
            .wishing([capture("x", None), cancel()])
            .silent(),
        World::new("operations of a process that dies", &strong, barcode())
            .manual()
            .faults(&[(Crash, 2), (Late, 1)])
            .wishing([capture("x", Some(2_000)), capture("y", None), refund("r", None)])
            .silent(),
        World::new("a refund that two nodes are asked for", &strong, barcode())
            .twice()
            .faults(&[(Race, 2), (Loss, 1), (Unbuilt, 1)])
            .wishing([refund("r", Some(3_000)), refund("r", Some(3_000)), refund("q", Some(3_000))])
            .silent(),
    ]
}

/// Two nodes.
fn nodes() -> Vec<World> {
    let plain = honest(SuccessOnly, Excluded);
    let closing = with_close(unbelieved(Strong, Excluded), Close::default());
    vec![
        World::new("two nodes and a doubt", &plain, barcode())
            .twice()
            .faults(&[(Late, 2), (Race, 1), (Crash, 2), (Loss, 1)])
            .silent(),
        World::new("two nodes and a close", &closing, by_card())
            .twice()
            .faults(&[(Late, 2), (Race, 1), (Crash, 1)])
            .wishing([cancel()])
            .silent(),
    ]
}

/// Promises that are broken, and rules of the merchant's own.
fn rules() -> Vec<World> {
    let plain = honest(Strong, Excluded);
    let late = MerchantPolicy { accept_late_ms: Some(HOUR), instant_switch: false };
    vec![
        World::new("a provider that lies", &plain, barcode())
            .faults(&[(Whim, 2), (Loss, 1)])
            .lying()
            .about(&["drop_late_success"]),
        World::new("a provider that lies, and a merchant who keeps it", &plain, barcode())
            .faults(&[(Whim, 2), (Loss, 1)])
            .wishing([refund("r", Some(1_000))])
            .lying()
            .rules(late),
    ]
}

impl World {
    /// Worlds whose providers promise more than they keep, and what that must be seen to break.
    pub fn sabotaged() -> Vec<(Self, &'static str)> {
        let worse = |declared: &Contract, truth: Contract| {
            let world = Self::new("sabotage", declared, by_card());
            let world = world.faults(&[(Late, 2), (Loss, 1), (Whim, 2)]).silent();
            Self { truth: Some(truth), ..world }
        };
        let remembering = unbelieved(Strong, Excluded);
        let prompt = honest(SuccessOnly, Excluded);
        vec![
            (worse(&remembering, unbelieved(Forgetful, Excluded)), "I1: 2 live charges"),
            (worse(&prompt, accepting()), "I1: 2 live charges"),
        ]
    }

    /// The same world, where the promises are kept.
    pub fn kept(&self) -> Self {
        Self { truth: None, ..self.clone() }
    }
}
