// Stripe's own SDK for Node signs events, and the proxy judges them.
//
// What our fake signs and our plugin verifies, one hand wrote. The SDK knows how Stripe signs: the
// proxy must believe exactly those events that the SDK itself would believe, but for one whose time
// is still to come, which the SDK lets pass.
//
//   node stripe-events.mjs '{"notifications":URL,"webhook_key":TEXT,"intent":{...},
//                            "payment":URL,"key":TEXT}'
//
// `intent` is the payment that an event of its success shows, `payment` the same at the proxy.
// STRIPE_SDK is the folder of the package `stripe`. The last line is one JSON object.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

import { conclude, given, passed } from './script.mjs';

const require = createRequire(import.meta.url);
const Stripe = require(process.env.STRIPE_SDK);
const { webhooks } = new Stripe('sk_test_unused');

const now = Math.floor(Date.now() / 1000);
const payload = JSON.stringify({
  id: `evt_${now}`,
  object: 'event',
  type: 'payment_intent.succeeded',
  created: now,
  livemode: false,
  data: { object: given.intent },
});
const asStripe = { payload, secret: given.webhook_key, timestamp: now };
const signed = (more) => webhooks.generateTestHeaderString({ ...asStripe, ...more });
const good = signed({});
const strangers = signed({ secret: `${given.webhook_key}x` });
const [, rolled] = strangers.split(',');

for (const [what, header, body = payload] of [
  ['another secret', strangers],
  ['another body', good, payload.replace('succeeded', 'processing')],
  ['an old time', signed({ timestamp: now - 330 })],
  ['another scheme', signed({ scheme: 'v0' })],
  ['no signature', `t=${now}`],
]) {
  assert.throws(() => webhooks.constructEvent(body, header, given.webhook_key), what);
  assert.equal(await told(header, body), 401, what);
  passed(`${what} is refused by both`);
}
const early = signed({ timestamp: now + 330 });
webhooks.constructEvent(payload, early, given.webhook_key);
assert.equal(await told(early, payload), 401);
passed('a time to come is refused by us');
assert.equal(await stands(), 'processing');
// While a secret is rolled there are two signatures.
for (const header of [good.replace('v1=', `${rolled},v1=`), `${good},${rolled}`, good]) {
  webhooks.constructEvent(payload, header, given.webhook_key);
  assert.equal(await told(header, payload), 200, header);
}
passed('what the SDK signs is believed, also beside the signature of another secret');
conclude();

async function told(signature, body) {
  const headers = { 'content-type': 'application/json', 'stripe-signature': signature };
  return (await fetch(given.notifications, { method: 'POST', headers, body })).status;
}

async function stands() {
  const headers = { authorization: `Bearer ${given.key}` };
  return (await (await fetch(given.payment, { headers })).json()).status;
}
