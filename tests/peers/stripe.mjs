// Stripe's own SDK for Node against one account of the sandbox.
//
// It proves that the fake speaks the protocol as Stripe's merchants read it: the SDK writes our
// requests as forms, reads the answers, sorts errors into its own classes, and verifies what the
// fake notifies. With `key` it goes through the proxy's native pass-through instead: the SDK knows
// a host and no path, so its seam for another HTTP client puts the path in front.
//
//   node stripe.mjs '{"api":ORIGIN,"prefix":PATH,"control":URL,"account":NAME,"secret_key":TEXT,
//                     "webhook_key":TEXT,"hook":PORT,"key":TEXT}'
//
// STRIPE_SDK is the folder of the package `stripe`. The last line is one JSON object.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

import { act, clearFault, ledger, listen, order, portal, setFault } from './sandbox.mjs';
import { conclude, given, passed } from './script.mjs';

const require = createRequire(import.meta.url);
const Stripe = require(process.env.STRIPE_SDK);
const { errors } = Stripe;

// Seconds that the SDK allows between an event's time and its receipt.
const TOLERANCE_S = 300;

// The shopper may be asked for 3-D Secure, and nothing goes on without us.
const withReturn = {
  confirmation_method: 'manual',
  return_url: 'https://shop.example/back?a=b&c=d',
  error_on_requires_action: undefined,
};

const sdkWith = (secretKey) => {
  const { protocol, hostname, port } = new URL(given.api);
  const more = given.key ? { httpClient: Stripe.createFetchHttpClient(carry) } : {};
  return new Stripe(secretKey, {
    protocol: protocol.replace(':', ''),
    host: hostname,
    port,
    // What comes again is sent again by this script alone.
    maxNetworkRetries: 0,
    telemetry: false,
    ...more,
  });
};
const sdk = sdkWith(given.secret_key);
const { paymentIntents: intents, refunds } = sdk;

const listener = await listen(read, given.hook);
try {
  await aPaymentIsMadeOnceUnderItsKey();
  await aKeyRepeatsAFailure();
  await aRefusalIsToldByItsCodes();
  await aChallengeIsBroughtBack();
  await aHoldIsTakenInPart();
  await aHoldIsLetGo();
  await refundsGiveBackWhatWasTaken();
  await aPaymentIsDecidedLater();
  await walletsAreExchangedForATokenOfOneUse();
  await whatIsNotWellFormedIsNamed();
  await strangersAreTurnedAway();
  await eventsAreVerified();
  await forgeriesAreSeen();
  // The last, because the proxy leaves an account alone for a while that says so.
  await aLimitIsTold();
} finally {
  listener.stop();
}
conclude();

async function aPaymentIsMadeOnceUnderItsKey() {
  const name = order('once');
  const paid = await pay(name);
  assert.deepEqual([paid.status, paid.amount_received, paid.currency], ['succeeded', 4900, 'eur']);
  assert.equal(paid.metadata.order, name);
  assert.equal(paid.latest_charge.captured, true);
  const again = await pay(name);
  assert.deepEqual(again, paid);
  assert.equal(header(again.lastResponse, 'idempotent-replayed'), 'true');
  assert.deepEqual(await ledger(name), [['charge', 4900]]);
  passed('a payment, and the same one again');

  const other = pay(name, { amount: 4901 });
  await refused(other, errors.StripeIdempotencyError, 400);
  assert.deepEqual(await ledger(name), [['charge', 4900]]);
  passed('another body under the key is refused');

  const asked = await intents.retrieve(paid.id, { expand: ['latest_charge'] });
  assert.deepEqual(asked, paid);
  const found = await search(name);
  assert.deepEqual([found.object, found.data.map(({ id }) => id)], ['search_result', [paid.id]]);
  assert.deepEqual((await search(order('nobody'))).data, []);
  const nobody = intents.retrieve('pi_nobody');
  await refused(nobody, errors.StripeInvalidRequestError, 404, 'resource_missing');
  passed('it is asked for by its number, and searched by ours');
}

async function aKeyRepeatsAFailure() {
  const name = order('lost');
  const dial = await setFault({ operation: 'authorize', fault: 'error_after' });
  await refused(pay(name), errors.StripeAPIError, 500);
  await clearFault(dial);
  const again = await refused(pay(name), errors.StripeAPIError, 500);
  assert.equal(header(again, 'idempotent-replayed'), 'true');
  const { data } = await search(name);
  assert.deepEqual(data.map(({ status }) => status), ['succeeded']);
  assert.deepEqual(await ledger(name), [['charge', 4900]]);
  passed('a failure is repeated by its key, and a search finds what was done');
}

async function aRefusalIsToldByItsCodes() {
  const name = order('no');
  const poor = { payment_method: 'pm_decline_insufficient_funds' };
  const why = await refused(pay(name, poor), errors.StripeCardError, 402, 'card_declined');
  assert.deepEqual([why.rawType, why.decline_code], ['card_error', 'insufficient_funds']);
  const { status, last_payment_error: last } = why.payment_intent;
  assert.deepEqual([status, last.decline_code], ['requires_payment_method', why.decline_code]);
  const kept = await refused(pay(name, poor), errors.StripeCardError, 402, 'card_declined');
  assert.equal(kept.payment_intent.id, why.payment_intent.id);
  assert.deepEqual(await ledger(name), []);
  passed('a refusal, kept under its key');
}

async function aChallengeIsBroughtBack() {
  const challenged = (name) => pay(name, { payment_method: 'pm_authenticate', ...withReturn });
  const name = order('challenge');
  const shown = await challenged(name);
  assert.deepEqual(
    [shown.status, shown.next_action.type, shown.confirmation_method],
    ['requires_action', 'redirect_to_url', 'manual'],
  );
  assert.equal((await fetch(shown.next_action.redirect_to_url.url)).status, 200);
  assert.equal((await confirm(shown.id, `${name}a`)).status, 'requires_action');
  await act({ op_id: name, act: 'pay' });
  assert.equal((await intents.retrieve(shown.id)).status, 'requires_confirmation');
  assert.deepEqual(await ledger(name), []);
  const paid = await confirm(shown.id, `${name}b`);
  assert.deepEqual([paid.status, paid.amount_received], ['succeeded', 4900]);
  assert.deepEqual(await confirm(shown.id, `${name}b`), paid);
  assert.deepEqual(await ledger(name), [['charge', 4900]]);
  passed('a challenge, and the confirmation after it');

  const failing = order('failed');
  const { id } = await challenged(failing);
  await act({ op_id: failing, act: 'fail' });
  const failed = await intents.retrieve(id);
  assert.equal(failed.status, 'requires_payment_method');
  assert.equal(failed.last_payment_error.code, 'payment_intent_authentication_failure');
  const unasked = pay(order('unasked'), { payment_method: 'pm_authenticate' });
  await refused(unasked, errors.StripeCardError, 402, 'authentication_required');
  assert.deepEqual(await ledger(failing), []);
  passed('a challenge that fails, and one that nobody may be asked for');
}

async function aHoldIsTakenInPart() {
  const name = order('hold');
  const hold = await pay(name, { capture_method: 'manual' });
  assert.deepEqual(
    [hold.status, hold.amount_capturable, hold.amount_received],
    ['requires_capture', 4900, 0],
  );
  assert.equal(hold.latest_charge.captured, false);
  const capture = (key, amount) =>
    intents.capture(hold.id, { amount_to_capture: amount }, { idempotencyKey: key });
  const unexpected = 'payment_intent_unexpected_state';
  const more = capture(`${name}c0`, 4901);
  await refused(more, errors.StripeInvalidRequestError, 400, unexpected);
  const taken = await capture(`${name}c1`, 900);
  assert.deepEqual(
    [taken.status, taken.amount_received, taken.amount_capturable],
    ['succeeded', 900, 0],
  );
  assert.deepEqual(await capture(`${name}c1`, 900), taken);
  const late = capture(`${name}c2`, 900);
  await refused(late, errors.StripeInvalidRequestError, 400, unexpected);
  assert.deepEqual(await ledger(name), [
    ['authorize', 4900],
    ['capture', 900],
    ['void', 4000],
  ]);
  passed('a hold is taken in part, once, and the rest is let go');
}

async function aHoldIsLetGo() {
  const name = order('void');
  const hold = await pay(name, { capture_method: 'manual' });
  const cancel = () =>
    intents.cancel(
      hold.id,
      { cancellation_reason: 'requested_by_customer' },
      { idempotencyKey: `${name}v` },
    );
  const gone = await cancel();
  assert.deepEqual([gone.status, gone.cancellation_reason], ['canceled', 'requested_by_customer']);
  assert.deepEqual(await cancel(), gone);
  assert.deepEqual(await ledger(name), [
    ['authorize', 4900],
    ['void', 4900],
  ]);
  passed('a hold is let go');
}

async function refundsGiveBackWhatWasTaken() {
  const name = order('back');
  const paid = await pay(name);
  const back = (key, amount) =>
    refunds.create(
      { payment_intent: paid.id, ...(amount && { amount }), metadata: { order: key } },
      { idempotencyKey: key },
    );
  const part = await back(`${name}r1`, 400);
  assert.deepEqual([part.object, part.status, part.amount], ['refund', 'succeeded', 400]);
  assert.deepEqual(await back(`${name}r1`, 400), part);
  assert.deepEqual(await refunds.retrieve(part.id), part);
  const more = back(`${name}r2`, 4501);
  await refused(more, errors.StripeInvalidRequestError, 400, 'charge_invalid_parameter');
  const rest = await back(`${name}r3`);
  assert.equal(rest.amount, 4500);
  const none = back(`${name}r4`);
  await refused(none, errors.StripeInvalidRequestError, 400, 'charge_already_refunded');
  // One to a page: the SDK asks for the next by itself.
  const all = [];
  for await (const one of refunds.list({ payment_intent: paid.id, limit: 1 })) all.push(one.id);
  assert.deepEqual(all, [rest.id, part.id]);
  assert.deepEqual(await ledger(name), [
    ['charge', 4900],
    ['refund', 400],
    ['refund', 4500],
  ]);
  passed('refunds, of a part and of the rest, read one by one and in pages');
}

async function aPaymentIsDecidedLater() {
  const name = order('later');
  const waits = await pay(name, { payment_method: 'pm_processing' });
  assert.equal(waits.status, 'processing');
  assert.deepEqual(await ledger(name), []);
  await act({ op_id: name, act: 'pay' });
  assert.equal((await intents.retrieve(waits.id)).status, 'succeeded');
  assert.deepEqual(await ledger(name), [['charge', 4900]]);
  passed('a payment that is decided later');
}

async function walletsAreExchangedForATokenOfOneUse() {
  const name = order('apple');
  // Neither parameter is of a type of the SDK's, which sends them all the same.
  const exchange = () =>
    sdk.tokens.create(
      {
        pk_token: JSON.stringify({ version: 'EC_v1', data: 'x', signature: 'x', header: {} }),
        pk_token_transaction_id: 'abc',
      },
      { idempotencyKey: `${name}t` },
    );
  const token = await exchange();
  assert.deepEqual([token.object, (await exchange()).id], ['token', token.id]);
  assert.match(token.id, /^tok_/);
  const by = { type: 'card', card: { token: token.id } };
  const paid = await pay(name, { payment_method: undefined, payment_method_data: by });
  assert.equal(paid.status, 'succeeded');
  const twice = pay(`${name}2`, { payment_method: undefined, payment_method_data: by });
  await refused(twice, errors.StripeInvalidRequestError, 400, 'token_already_used');
  assert.deepEqual(await ledger(name), [['charge', 4900]]);
  assert.deepEqual(await ledger(`${name}2`), []);
  passed("a wallet's token becomes a token, good for one payment");
}

async function whatIsNotWellFormedIsNamed() {
  const name = order('odd');
  for (const [wrong, code] of [
    [{ currency: undefined }, 'parameter_missing'],
    [{ amount: '49.00' }, 'parameter_invalid_integer'],
    [{ amount: 0 }, 'amount_too_small'],
    [{ payment_method: 'pm_missing' }, 'resource_missing'],
  ]) {
    await refused(pay(name, wrong), errors.StripeInvalidRequestError, 400, code);
  }
  // None of them was begun, so the key is free.
  assert.equal((await pay(name)).status, 'succeeded');
  assert.deepEqual(await ledger(name), [['charge', 4900]]);
  passed('what is not well formed is named, and takes no key');
}

async function strangersAreTurnedAway() {
  const name = order('stranger');
  const stranger = sdkWith('sk_test_stranger');
  const asked = stranger.paymentIntents.create(bill(name), { idempotencyKey: name });
  await refused(asked, errors.StripeAuthenticationError, 401);
  assert.deepEqual(await ledger(name), []);
  passed('a request with another key is refused');
}

async function eventsAreVerified() {
  const name = order('hook');
  const paid = await pay(name);
  const { event } = await told(`${paid.id} payment_intent.succeeded`);
  assert.deepEqual([event.data.object.id, event.data.object.amount_received], [paid.id, 4900]);
  const refund = await portal({ act: 'refund', op_id: name, amount: 200 });
  const back = await told(`${refund.id} refund.created`);
  assert.deepEqual([back.event.data.object.amount, back.event.data.object.payment_intent], [
    200,
    paid.id,
  ]);
  const sum = await told(`${paid.id} charge.refunded`);
  assert.equal(sum.event.data.object.amount_refunded, 200);
  assert.equal(new Set([event, back.event, sum.event].map(({ id }) => id)).size, 3);
  passed("events are verified, also of the dashboard's refund");
}

async function forgeriesAreSeen() {
  const name = order('forged');
  const paid = await pay(name);
  const message = await told(`${paid.id} payment_intent.succeeded`);
  const { text, headers } = message;
  const signature = headers['stripe-signature'];
  const [, time] = signature.match(/^t=(\d+),v1=/);
  const judged = (more) => {
    const one = { text, signature, key: given.webhook_key, age: 0, ...more };
    const rest = [TOLERANCE_S, undefined, (Number(time) + one.age) * 1000];
    return () => sdk.webhooks.constructEvent(one.text, one.signature, one.key, ...rest);
  };
  assert.equal(judged({ age: TOLERANCE_S })().id, message.event.id);
  const richer = text.replace('4900', '9900');
  assert.notEqual(richer, text);
  for (const [what, more] of [
    ['another body', { text: richer }],
    ['another secret', { key: `${given.webhook_key}x` }],
    ['too old', { age: TOLERANCE_S + 1 }],
    ['another time', { signature: signature.replace(time, Number(time) + 1) }],
    ['another scheme', { signature: signature.replace('v1=', 'v0=') }],
  ]) {
    assert.throws(judged(more), errors.StripeSignatureVerificationError, what);
  }
  passed('an altered or an old event is not believed, nor under another secret');

  const dial = await setFault({ operation: 'notify', fault: 'bad_signature' });
  const other = await pay(order('spoiled'));
  const spoiled = await listener.heard(`${other.id} payment_intent.succeeded`);
  await clearFault(dial);
  assert.throws(() => verify(spoiled), errors.StripeSignatureVerificationError);
  passed('nor is one that the fake signs wrongly when it is told to');
}

async function aLimitIsTold() {
  const name = order('often');
  const dial = await setFault({ operation: 'authorize', fault: 'rate_limited' });
  await refused(pay(name), errors.StripeRateLimitError, 429, 'rate_limit');
  await clearFault(dial);
  assert.deepEqual(await ledger(name), []);
  passed('a limit is told');
}

function bill(name, more) {
  return {
    amount: 4900,
    currency: 'eur',
    confirm: true,
    capture_method: 'automatic',
    payment_method_types: ['card'],
    payment_method: 'pm_1',
    error_on_requires_action: true,
    description: 'Tea & cake/两杯 100%+',
    metadata: { order: name },
    expand: ['latest_charge'],
    ...more,
  };
}

// The key is what the ledger knows a payment by.
function pay(name, more) {
  return intents.create(bill(name, more), { idempotencyKey: name });
}

function confirm(id, key) {
  const more = { return_url: withReturn.return_url };
  return intents.confirm(id, more, { idempotencyKey: key });
}

function search(name) {
  return intents.search({ query: `metadata['order']:'${name}'`, limit: 10 });
}

// What the SDK makes of a refusal; answers it.
async function refused(asked, kind, status, code) {
  const why = await asked.then(
    (made) => assert.fail(`not refused: ${JSON.stringify(made)}`),
    (error) => error,
  );
  assert.ok(why instanceof kind, `${kind.name}: ${why.stack}`);
  assert.deepEqual([why.statusCode, why.code], [status, code], why.message);
  return why;
}

// Both of the SDK's HTTP clients are used here, and they show fields in forms of their own.
function header({ headers }, name) {
  return typeof headers.get === 'function' ? headers.get(name) : headers[name];
}

// An event whose signature the SDK has verified.
async function told(name) {
  const message = await listener.heard(name);
  assert.deepEqual(verify(message), message.event);
  return message;
}

function verify({ text, headers }) {
  const signature = headers['stripe-signature'];
  return sdk.webhooks.constructEvent(text, signature, given.webhook_key);
}

function carry(url, options) {
  const { origin, pathname, search: query } = new URL(url);
  const headers = new Headers(options.headers);
  headers.set('x-interlock-key', given.key);
  return fetch(origin + (given.prefix ?? '') + pathname + query, { ...options, headers });
}

// An event, by the number of what it shows and by what it tells. A sum is told of a charge, which
// is heard by its payment.
function read(text, headers) {
  const event = JSON.parse(text);
  const { object } = event.data;
  const number = object.object === 'charge' ? object.payment_intent : object.id;
  return { heard: [[`${number} ${event.type}`, { text, event, headers }]] };
}
