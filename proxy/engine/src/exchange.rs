//! What is stored of a request that may have an effect: durable before it is sent, and never
//! forgotten, because a doubt about it can only be resolved by what was written down.

use interlock_plugin_api::Effect;
use serde::{Deserialize, Serialize};

use crate::stamp::Stamp;

/// What was sent for an attempt or an operation, and what is still unknown about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// Every request that may have an effect, in order.
    pub exchanges: Vec<Exchange>,
    /// The version that made the fence durable.
    pub fence: Option<u64>,
    /// How often it was asked about since it became doubtful.
    pub tries: u32,
    /// Since when it has been asked about, Unix ms.
    pub since_ms: Option<i64>,
    /// When to look again, Unix ms.
    pub next_ms: Option<i64>,
}

/// One request that may have an effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// Unique in its payment.
    pub id: String,
    /// What it is for.
    pub kind: ExchangeKind,
    /// The manifest's name of the send.
    pub purpose: String,
    /// Offer or move; reads are not journalled.
    pub effect: Effect,
    /// The provider's idempotency key.
    pub op_id: String,
    /// Names the credentials and endpoint of the account: a re-send needs the same.
    pub identity: String,
    /// The plugin that built it.
    pub plugin: String,
    /// Its version.
    pub plugin_version: String,
    /// The version of its continuations.
    pub state_version: u32,
    /// What the plugin keeps until the answer; UTF-8, never a credential.
    pub continuation: String,
    /// SHA-256 of the body, hexadecimal: a re-send must repeat it.
    pub digest: String,
    /// The envelope's `made_ms`.
    pub made_ms: i64,
    /// The envelope's entropy.
    pub entropy: String,
    /// The version that made it durable.
    pub made_ver: u64,
    /// How often it may have left.
    pub sends: u32,
    /// The first send was to leave before this, Unix ms.
    pub first_send_by_ms: i64,
    /// The last send left before this moment or not at all.
    pub last_send_by: Stamp,
    /// What became of the last send.
    pub reply: Reply,
    /// The version that made the answer durable; of a close, one that says what it did.
    pub answered_ver: Option<u64>,
    /// The shopper carries it to the provider, whenever and as often as he likes: nothing of it is
    /// sent by us.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_shopper: bool,
    /// Of a close: sent while fenced and after the late window.
    pub after_window: bool,
    /// Of a close: the order had been seen, durably, before it was sent.
    pub order_seen: bool,
}

/// What an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeKind {
    /// Take the money, or make an offer.
    Authorize,
    /// Go on after the shopper came back.
    Continue,
    /// Capture.
    Capture,
    /// Void.
    Void,
    /// Refund.
    Refund,
    /// Close.
    Close,
}

impl ExchangeKind {
    /// The word in timeline, metrics and ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Continue => "continue",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
            Self::Close => "close",
        }
    }
}

/// What became of the last send of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It may be on the wire.
    Open,
    /// The provider answered.
    Answered {
        /// A status of 500 or above.
        server_error: bool,
        /// The answer permits that the same request is sent again (G12); it says nothing about
        /// what became of it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        may_follow: bool,
    },
    /// No byte left.
    NotSent,
    /// No answer will come.
    Lost,
}

impl Track {
    /// How often a request of these kinds may have left.
    pub fn sends(&self, kind: ExchangeKind) -> u32 {
        self.of(kind).map(|x| x.sends).sum()
    }

    /// The exchanges of a kind.
    pub fn of(&self, kind: ExchangeKind) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().filter(move |x| x.kind == kind)
    }

    /// The moves and offers that could take money, that is, all but the closes.
    pub fn takers(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().filter(|x| x.kind != ExchangeKind::Close)
    }

    /// How often a request that may take money by itself may have left.
    pub fn moved(&self) -> u32 {
        self.takers().filter(|x| x.effect == Effect::Move).map(|x| x.sends).sum()
    }

    /// The latest moment at which something that takes money may have left.
    pub fn last_send_by(&self) -> Option<Stamp> {
        self.takers().filter(|x| x.sends > 0).map(|x| x.last_send_by).max_by_key(|s| s.wall_ms)
    }

    /// The exchange of this id.
    pub fn exchange(&self, id: &str) -> Option<&Exchange> {
        self.exchanges.iter().find(|x| x.id == id)
    }

    /// The closes that left and whose effect was never told: an unclear answer is none.
    pub fn open_closes(&self) -> impl Iterator<Item = &Exchange> {
        self.of(ExchangeKind::Close).filter(|x| x.sends > 0 && x.answered_ver.is_none())
    }

    /// Whether a close ever left.
    pub fn was_closed(&self) -> bool {
        self.of(ExchangeKind::Close).any(|x| x.sends > 0)
    }
}
