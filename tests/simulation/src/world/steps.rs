//! Plugins that need two requests of one operation: the answer to the first makes the driver go on
//! with a second, whose record is made durable like any other before it leaves.

use interlock_engine::{Call, Draft, Exchange, ExchangeKind, Input};
use interlock_plugin_api::Effect;

use super::wire::Socket;
use super::{Beside, Event, Run, World};
use crate::declarations::{CREATE, draft, opening};
use crate::dice::Dice;

/// How many requests a plugin needs: the first of two has this effect.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steps {
    pays: Option<Effect>,
    operates: Option<Effect>,
}

impl Steps {
    /// A plugin that needs two, at least sometimes.
    pub fn draw(dice: &mut Dice) -> Self {
        let effects = [Effect::Move, Effect::Move, Effect::Offer];
        let pays = dice.one_in(2).then(|| dice.of(&effects));
        let operates = dice.one_in(6).then(|| dice.of(&effects));
        Self { pays, operates }
    }

    /// What the plugin builds first for a call, also when it is to be sent again.
    pub fn first(self, call: &Call) -> Draft {
        let built = draft(call);
        let first = match call.kind {
            ExchangeKind::Close => None,
            ExchangeKind::Continue => None,
            ExchangeKind::Authorize => self.pays,
            _ => self.operates,
        };
        match first {
            Some(effect) if built.effect == Effect::Move => opening(built, effect),
            _ => built,
        }
    }
}

/// The request that follows the answer to this one.
pub(super) fn second(x: &Exchange) -> Option<Box<Draft>> {
    if x.purpose != CREATE {
        return None;
    }
    let purpose = match x.kind {
        ExchangeKind::Authorize => "pay",
        kind => kind.as_str(),
    };
    Some(Box::new(Draft {
        purpose: purpose.into(),
        effect: Effect::Move,
        continuation: String::new(),
        digest: x.op_id.clone(),
        made_ms: x.made_ms,
        entropy: x.entropy.clone(),
        said: None,
    }))
}

impl World<'_> {
    /// The first of two requests was answered well: the second, once its record is durable. A
    /// plugin that can't build it has read nothing in the answer.
    pub(super) fn go_on(&mut self, run: Run, socket: Socket, draft: Draft) {
        let Socket { case, exchange, written_by, account, .. } = socket;
        let policy = self.policies.of(self.seed, self.nodes[run.node].version);
        let loaded = &policy.accounts[&*self.cases[0].accounts[account]];
        let state_version = loaded.state_version;
        let knows = loaded.continues.contains(&written_by);
        if !knows || (!self.calm() && self.dice.one_in(40)) {
            self.fault(|s| &mut s.plugins);
            let input = Input::Heard { exchange, status: 200, state_version, facts: Vec::new() };
            return self.put(run.node, case, input, Beside::default());
        }
        self.score.went_on += 1;
        let input = Input::GoesOn { exchange, draft };
        if !self.calm() && self.dice.one_in(20) {
            // Said twice: the second time it is no longer under way.
            let at = self.now + self.dice.below(3_000);
            self.at(at, Event::Reach(run, case, Box::new(input.clone()), 0));
        }
        self.put(run.node, case, input, Beside::default());
    }
}
