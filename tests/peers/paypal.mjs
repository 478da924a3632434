// PayPal's own SDK for Node against one account of the sandbox.
//
// It proves that the fake speaks the protocol as PayPal's merchants read it: the SDK fetches its
// token by itself, and again when it is refused, writes our requests and reads the answers. It
// knows no webhooks, so these are verified by Node's own cryptography, as PayPal says it is done,
// and by asking back. With `key` it goes through the proxy's native pass-through instead: the SDK
// forgets the path of its base URL, so its seam for changing requests puts it in front.
//
//   node paypal.mjs '{"api":ORIGIN,"prefix":PATH,"control":URL,"account":NAME,"client_id":TEXT,
//                     "client_secret":TEXT,"webhook_id":ID,"webhook_ca":PEM,"hook":PORT,
//                     "key":TEXT}'
//
// PAYPAL_SDK is the folder of the package `@paypal/checkout-server-sdk`. The last line is one JSON
// object.

import assert from 'node:assert/strict';
import { createVerify, X509Certificate } from 'node:crypto';
import { createRequire } from 'node:module';

import { act, clearFault, control, ledger, listen, order, portal, setFault } from './sandbox.mjs';
import { conclude, given, passed } from './script.mjs';

// The SDK is old and uses what Node warns of.
process.noDeprecation = true;
const require = createRequire(import.meta.url);
const { core, orders, payments } = require(process.env.PAYPAL_SDK);

class Here extends core.PayPalEnvironment {
  constructor(id, secret) {
    super(id, secret, given.api, given.api);
  }
}

const clientWith = (id, secret) => {
  const client = new core.PayPalHttpClient(new Here(id, secret));
  client.addInjector((request) => {
    request.path = (given.prefix ?? '') + request.path;
    if (given.key) request.headers['X-Interlock-Key'] = given.key;
  });
  return client;
};
const client = clientWith(given.client_id, given.client_secret);

const listener = await listen(read, given.hook);
try {
  await anApprovedOrderIsTaken();
  await aRequestIdIsExecutedOnce();
  await aDeclinedInstrumentLeavesTheOrderUsable();
  await aCaptureMayBeLookedAt();
  await refundsGiveBackWhatWasTaken();
  await aHoldIsTakenInPartsAndLetGo();
  await aHoldCannotBeRenewedAtOnce();
  await whatIsNotWellFormedIsNamed();
  await tokensAreFetchedAgain();
  await strangersAreTurnedAway();
  await webhooksAreVerified();
  await forgeriesAreSeen();
  // The last, because the proxy leaves an account alone for a while that says so.
  await aLimitIsTold();
} finally {
  listener.stop();
}
conclude();

async function anApprovedOrderIsTaken() {
  const name = order('sale');
  const made = await create(name, 'CAPTURE', '12.34');
  assert.deepEqual([made.statusCode, made.result.status], [201, 'CREATED']);
  const { id, links } = made.result;
  assert.match(links.find(({ rel }) => rel === 'approve').href, /^http.*token=/);
  await refused(captureOrder(id, `${name}c`), 422, 'ORDER_NOT_APPROVED');
  const acted = await act({ order: links.find(({ rel }) => rel === 'approve').href, act: 'pay' });
  assert.equal(acted.provider_ref, id);
  assert.equal((await shown(id)).status, 'APPROVED');
  await refused(authorize(id, `${name}a`), 422, 'ACTION_DOES_NOT_MATCH_INTENT');
  assert.deepEqual(await ledger(name), []);
  passed('an order is made, shown and approved, and nothing moved');

  const taken = await captureOrder(id, `${name}c`);
  assert.deepEqual([taken.statusCode, taken.result.status], [201, 'COMPLETED']);
  const capture = captureOf(taken);
  assert.deepEqual(capture.amount, { currency_code: 'EUR', value: '12.34' });
  assert.deepEqual([capture.final_capture, capture.status], [true, 'COMPLETED']);
  const asked = await client.execute(new payments.CapturesGetRequest(capture.id));
  assert.equal(asked.statusCode, 200);
  assert.deepEqual(asked.result, capture);
  const { purchase_units: units } = await shown(id);
  assert.deepEqual([units[0].custom_id, units[0].payments.captures[0].id], [name, capture.id]);
  await refused(captureOrder(id, `${name}d`), 422, 'ORDER_ALREADY_CAPTURED');
  assert.deepEqual(await ledger(name), [['charge', 1234]]);
  passed('its capture moves the money, once');
}

async function aRequestIdIsExecutedOnce() {
  const name = order('once');
  const made = await create(name, 'CAPTURE', '5.00');
  const copy = await create(name, 'CAPTURE', '5.00');
  assert.deepEqual([copy.statusCode, copy.result.id], [200, made.result.id]);
  await act({ op_id: made.result.id, act: 'pay' });
  const first = await captureOrder(made.result.id, `${name}c`);
  const again = await captureOrder(made.result.id, `${name}c`);
  assert.deepEqual([first.statusCode, again.statusCode], [201, 200]);
  assert.deepEqual(again.result, first.result);
  const refund = () => giveBack(captureOf(first).id, `${name}r`, '2.00');
  const back = await refund();
  const twice = await refund();
  assert.deepEqual([back.statusCode, twice.statusCode], [201, 200]);
  assert.deepEqual(twice.result, back.result);
  assert.deepEqual(await ledger(name), [
    ['charge', 500],
    ['refund', 200],
  ]);
  passed('a request id that comes again makes nothing new');

  const other = order('lost');
  const { id } = (await create(other, 'CAPTURE', '7.00')).result;
  await act({ op_id: id, act: 'pay' });
  const dial = await setFault({ operation: 'continue', fault: 'error_after' });
  await refused(captureOrder(id, `${other}c`), 500, undefined);
  await clearFault(dial);
  assert.equal((await captureOrder(id, `${other}c`)).result.status, 'COMPLETED');
  assert.deepEqual(await ledger(other), [['charge', 700]]);
  passed('nor does it after an answer that was lost');
}

async function aDeclinedInstrumentLeavesTheOrderUsable() {
  const name = order('poor');
  const { id } = (await create(name, 'CAPTURE', '9.00')).result;
  await act({ op_id: id, act: 'fail' });
  const why = await refused(captureOrder(id, `${name}c`), 422, 'INSTRUMENT_DECLINED');
  assert.equal(why.name, 'UNPROCESSABLE_ENTITY');
  const cure = why.links.find(({ rel }) => rel === 'redirect');
  assert.deepEqual(await ledger(name), []);
  await act({ order: cure.href, act: 'pay' });
  assert.equal((await captureOrder(id, `${name}c`)).result.status, 'COMPLETED');
  assert.deepEqual(await ledger(name), [['charge', 900]]);
  passed('a declined instrument, and another one');
}

async function aCaptureMayBeLookedAt() {
  const cheque = order('cheque');
  const waiting = await sale(cheque, '3.14');
  assert.deepEqual([waiting.status, waiting.status_details.reason], ['PENDING', 'ECHECK']);
  await refused(giveBack(waiting.id, `${cheque}r`), 422, 'PENDING_CAPTURE');
  assert.deepEqual(await ledger(cheque), []);
  await act({ op_id: cheque, act: 'pay' });
  const { result } = await client.execute(new payments.CapturesGetRequest(waiting.id));
  assert.equal(result.status, 'COMPLETED');
  assert.deepEqual(await ledger(cheque), [['charge', 314]]);
  const denied = order('denied');
  const refusal = await sale(denied, '3.13');
  assert.equal(refusal.status, 'DECLINED');
  assert.ok(refusal.processor_response.response_code);
  assert.deepEqual(await ledger(denied), []);
  passed('a capture that is decided later, and one that is declined');
}

async function refundsGiveBackWhatWasTaken() {
  const name = order('back');
  const capture = await sale(name, '10.00');
  const part = await giveBack(capture.id, `${name}r1`, '4.00');
  assert.deepEqual([part.statusCode, part.result.status], [201, 'COMPLETED']);
  assert.deepEqual(part.result.amount, { currency_code: 'EUR', value: '4.00' });
  const known = await client.execute(new payments.RefundsGetRequest(part.result.id));
  assert.deepEqual(known.result, part.result);
  assert.equal((await captured(capture.id)).status, 'PARTIALLY_REFUNDED');
  await refused(giveBack(capture.id, `${name}r2`, '6.01'), 422, 'REFUND_AMOUNT_EXCEEDED');
  const rest = await giveBack(capture.id, `${name}r3`);
  assert.equal(rest.result.amount.value, '6.00');
  assert.equal((await captured(capture.id)).status, 'REFUNDED');
  await refused(giveBack(capture.id, `${name}r4`), 422, 'CAPTURE_FULLY_REFUNDED');
  assert.deepEqual(await ledger(name), [
    ['charge', 1000],
    ['refund', 400],
    ['refund', 600],
  ]);
  passed('refunds, of a part and of the rest');
}

async function aHoldIsTakenInPartsAndLetGo() {
  const name = order('hold');
  const hold = await held(name, '20.00');
  assert.deepEqual([hold.status, hold.amount.value], ['CREATED', '20.00']);
  assert.deepEqual(await authorization(hold.id), hold);
  await refused(take(hold.id, `${name}c0`, '20.01'), 422, 'MAX_CAPTURE_AMOUNT_EXCEEDED');
  const part = await take(hold.id, `${name}c1`, '5.00');
  assert.deepEqual([part.statusCode, part.result.status], [201, 'COMPLETED']);
  const again = await take(hold.id, `${name}c1`, '5.00');
  assert.deepEqual([again.statusCode, again.result.id], [200, part.result.id]);
  assert.equal((await authorization(hold.id)).status, 'PARTIALLY_CAPTURED');
  const gone = await client.execute(new payments.AuthorizationsVoidRequest(hold.id));
  assert.deepEqual([gone.statusCode, gone.result], [204, undefined]);
  assert.equal((await authorization(hold.id)).status, 'VOIDED');
  const twice = client.execute(new payments.AuthorizationsVoidRequest(hold.id));
  await refused(twice, 422, 'PREVIOUSLY_VOIDED');
  await refused(take(hold.id, `${name}c2`, '1.00'), 422, 'AUTHORIZATION_VOIDED');
  assert.deepEqual(await ledger(name), [
    ['authorize', 2000],
    ['capture', 500],
    ['void', 1500],
  ]);
  passed('a hold, a part of it, and the rest let go');

  const other = order('final');
  const last = await held(other, '8.00');
  const taken = await take(last.id, `${other}c`, '3.00', { final_capture: true });
  assert.equal(taken.result.final_capture, true);
  const back = await giveBack(taken.result.id, `${other}r`, '1.00');
  assert.equal(back.result.status, 'COMPLETED');
  assert.deepEqual(await ledger(other), [
    ['authorize', 800],
    ['capture', 300],
    ['void', 500],
    ['refund', 100],
  ]);
  passed('a last capture lets the rest go, and is refunded');
}

async function aHoldCannotBeRenewedAtOnce() {
  const name = order('renew');
  const hold = await held(name, '6.00');
  const request = new payments.AuthorizationsReauthorizeRequest(hold.id)
    .payPalRequestId(`${name}n`)
    .requestBody({ amount: euros('6.00') });
  await refused(client.execute(request), 422, 'REAUTHORIZATION_NOT_SUPPORTED');
  assert.equal((await authorization(hold.id)).id, hold.id);
  assert.deepEqual(await ledger(name), [['authorize', 600]]);
  passed('a hold is not renewed while it is honoured');
}

async function whatIsNotWellFormedIsNamed() {
  const name = order('odd');
  const fine = await refused(create(name, 'CAPTURE', '1.001'), 422, 'DECIMAL_PRECISION');
  assert.equal(fine.details[0].field, '/purchase_units/@0/amount/value');
  await refused(create(name, 'SALE', '1.00'), 400, 'INVALID_PARAMETER_VALUE');
  const unknown = client.execute(new orders.OrdersGetRequest('0NOBODY0000000000'));
  const why = await refused(unknown, 404, 'INVALID_RESOURCE_ID');
  assert.equal(why.name, 'RESOURCE_NOT_FOUND');
  assert.ok(why.debug_id && why.message);
  assert.deepEqual(await ledger(name), []);
  passed('what is not well formed is named, and what is not there');
}

async function tokensAreFetchedAgain() {
  const name = order('token');
  const before = await requestsFor('token');
  await portal({ act: 'revoke' });
  const made = await create(name, 'CAPTURE', '1.00');
  assert.equal(made.statusCode, 201);
  assert.equal((await create(name, 'CAPTURE', '1.00')).result.id, made.result.id);
  assert.equal(await requestsFor('token'), before + 1);
  passed('a token that was revoked is fetched again, once');
}

async function strangersAreTurnedAway() {
  // The SDK keeps tokens by the name of the client.
  const stranger = clientWith('stranger', given.client_secret);
  const name = order('stranger');
  const request = new orders.OrdersCreateRequest().requestBody(bill(name, 'CAPTURE', '1.00'));
  const why = await stranger.execute(request).then(
    () => assert.fail('not refused'),
    (error) => error,
  );
  assert.equal(why.statusCode, 401);
  assert.equal(JSON.parse(why.message).error, 'invalid_client');
  const { id } = (await create(name, 'CAPTURE', '1.00')).result;
  const path = `/v2/checkout/orders/${id}`;
  const asked = await reach(path, { Authorization: 'Bearer A21AAforged' });
  assert.deepEqual([asked.status, (await asked.json()).error], [401, 'invalid_token']);
  assert.deepEqual(await ledger(name), []);
  passed('a stranger gets no token, and a forged token opens nothing');
}

async function webhooksAreVerified() {
  const name = order('hook');
  const capture = await sale(name, '42.00');
  const approved = await listener.heard(`${name} CHECKOUT.ORDER.APPROVED`);
  const taken = await listener.heard(`${name} PAYMENT.CAPTURE.COMPLETED`);
  assert.equal(taken.event.resource.id, capture.id);
  assert.deepEqual(taken.event.resource.amount, euros('42.00'));
  await giveBack(capture.id, `${name}r`, '2.00');
  const back = await listener.heard(`${name} PAYMENT.CAPTURE.REFUNDED`);
  assert.equal(back.event.resource.amount.value, '2.00');
  for (const message of [approved, taken, back]) {
    assert.equal(await isGenuine(message), true, message.event.event_type);
    assert.equal(await asksBack(message), 'SUCCESS', message.event.event_type);
  }
  const ids = new Set([approved, taken, back].map(({ event }) => event.id));
  assert.equal(ids.size, 3);
  assert.deepEqual(await ledger(name), [
    ['charge', 4200],
    ['refund', 200],
  ]);
  passed('webhooks are verified by their certificate, and by asking back');
}

async function forgeriesAreSeen() {
  const name = order('forged');
  await sale(name, '1.00');
  const message = await listener.heard(`${name} PAYMENT.CAPTURE.COMPLETED`);
  assert.equal(await isGenuine(message), true);
  const { text, headers } = message;
  const richer = text.replace('"1.00"', '"9.00"');
  assert.notEqual(richer, text);
  const altered = [
    { ...message, text: richer, event: JSON.parse(richer) },
    ...['transmission-id', 'transmission-time', 'transmission-sig'].map((of) => {
      const value = headers[`paypal-${of}`];
      const first = value.startsWith('1') ? '2' : '1';
      return { ...message, headers: { ...headers, [`paypal-${of}`]: first + value.slice(1) } };
    }),
  ];
  for (const one of altered) {
    assert.equal(await isGenuine(one), false);
    assert.equal(await asksBack(one), 'FAILURE');
  }
  assert.equal(await isGenuine(message, 'ANOTHER'), false);
  assert.equal(await asksBack(message, 'ANOTHER'), 'FAILURE');
  passed('an altered webhook is not believed');

  const dial = await setFault({ operation: 'notify', fault: 'bad_signature' });
  const other = order('spoiled');
  await sale(other, '1.00');
  const spoiled = await listener.heard(`${other} PAYMENT.CAPTURE.COMPLETED`);
  await clearFault(dial);
  assert.equal(await isGenuine(spoiled), false);
  assert.equal(await asksBack(spoiled), 'FAILURE');
  passed('nor is one that the fake signs wrongly when it is told to');
}

async function aLimitIsTold() {
  const name = order('often');
  const dial = await setFault({ operation: 'authorize', fault: 'rate_limited' });
  const told = await refused(create(name, 'CAPTURE', '1.00'), 429, undefined);
  await clearFault(dial);
  assert.deepEqual([told.name, told.details], ['RATE_LIMIT_REACHED', []]);
  passed('a limit is told');
}

function bill(name, intent, value) {
  return {
    intent,
    purchase_units: [
      { custom_id: name, description: 'Tea & cake/两杯 100%+', amount: euros(value) },
    ],
    application_context: {
      return_url: 'https://shop.example/back',
      cancel_url: 'https://shop.example/left',
    },
  };
}

function euros(value) {
  return { currency_code: 'EUR', value };
}

// The request id is what the ledger knows an order by. The SDK has no word for it here.
function create(name, intent, value) {
  const request = new orders.OrdersCreateRequest().requestBody(bill(name, intent, value));
  request.headers['PayPal-Request-Id'] = name;
  return client.execute(request);
}

async function shown(id) {
  return (await client.execute(new orders.OrdersGetRequest(id))).result;
}

function captureOrder(id, requestId) {
  const request = new orders.OrdersCaptureRequest(id).payPalRequestId(requestId);
  return client.execute(request.prefer('return=representation').requestBody({}));
}

function authorize(id, requestId) {
  const request = new orders.OrdersAuthorizeRequest(id).payPalRequestId(requestId);
  return client.execute(request.prefer('return=representation').requestBody({}));
}

function captureOf({ result }) {
  return result.purchase_units[0].payments.captures[0];
}

async function sale(name, value) {
  const { id } = (await create(name, 'CAPTURE', value)).result;
  await act({ op_id: id, act: 'pay' });
  return captureOf(await captureOrder(id, `${name}c`));
}

async function held(name, value) {
  const { id } = (await create(name, 'AUTHORIZE', value)).result;
  await act({ op_id: id, act: 'pay' });
  const { result } = await authorize(id, `${name}a`);
  return result.purchase_units[0].payments.authorizations[0];
}

async function authorization(id) {
  return (await client.execute(new payments.AuthorizationsGetRequest(id))).result;
}

async function captured(id) {
  return (await client.execute(new payments.CapturesGetRequest(id))).result;
}

function take(id, requestId, value, more) {
  const request = new payments.AuthorizationsCaptureRequest(id).payPalRequestId(requestId);
  request.prefer('return=representation');
  return client.execute(request.requestBody({ amount: euros(value), ...more }));
}

function giveBack(id, requestId, value) {
  const request = new payments.CapturesRefundRequest(id).payPalRequestId(requestId);
  request.prefer('return=representation');
  return client.execute(request.requestBody(value ? { amount: euros(value) } : {}));
}

// The SDK tells the status, and the text of the answer; answers what that says.
async function refused(asked, status, issue) {
  const why = await asked.then(
    ({ result }) => assert.fail(`not refused: ${JSON.stringify(result)}`),
    (error) => error,
  );
  assert.ok(why.statusCode, `no answer: ${why.stack}`);
  const told = JSON.parse(why.message);
  assert.deepEqual([why.statusCode, told.details[0]?.issue], [status, issue], why.message);
  return told;
}

// As PayPal describes it: the certificate comes from PayPal's own host, here from the account's
// address, and is believed because of the authority that signed it.
async function isGenuine({ text, headers }, webhook = given.webhook_id) {
  const url = new URL(headers['paypal-cert-url']);
  assert.equal(url.origin, 'https://api.sandbox.paypal.com');
  assert.equal(headers['paypal-auth-algo'], 'SHA256withRSA');
  const answer = await reach(url.pathname, {});
  assert.equal(answer.status, 200);
  const chain = (await answer.text()).match(/-----BEGIN[^]+?-----END CERTIFICATE-----/g);
  const leaf = new X509Certificate(chain[0]);
  const authority = new X509Certificate(given.webhook_ca);
  assert.ok(leaf.checkIssued(authority) && leaf.verify(authority.publicKey));
  assert.ok(authority.ca && !leaf.ca);
  assert.ok(leaf.checkHost('messageverificationcerts.sandbox.paypal.com'));
  const now = Date.now();
  assert.ok(Date.parse(leaf.validFrom) < now && now < Date.parse(leaf.validTo));
  const parts = [
    headers['paypal-transmission-id'],
    headers['paypal-transmission-time'],
    webhook,
    crc32(Buffer.from(text)),
  ];
  const verify = createVerify('RSA-SHA256').update(parts.join('|'));
  return verify.verify(leaf.publicKey, headers['paypal-transmission-sig'], 'base64');
}

// What the SDK has no request for.
function reach(path, headers) {
  const proof = given.key ? { 'X-Interlock-Key': given.key } : {};
  return fetch(given.api + (given.prefix ?? '') + path, { headers: { ...headers, ...proof } });
}

async function asksBack({ event, headers }, webhook = given.webhook_id) {
  const { result } = await client.execute({
    verb: 'POST',
    path: '/v1/notifications/verify-webhook-signature',
    headers: { 'Content-Type': 'application/json' },
    body: {
      auth_algo: headers['paypal-auth-algo'],
      cert_url: headers['paypal-cert-url'],
      transmission_id: headers['paypal-transmission-id'],
      transmission_sig: headers['paypal-transmission-sig'],
      transmission_time: headers['paypal-transmission-time'],
      webhook_id: webhook,
      webhook_event: event,
    },
  });
  return result.verification_status;
}

// Not every Node that these scripts run on has one.
function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

async function requestsFor(call) {
  const all = await control('GET', `/requests?account=${given.account}`);
  return all.filter((one) => one.call === call).length;
}

// A webhook, by the merchant's own mark and by what it tells.
function read(text, headers) {
  const event = JSON.parse(text);
  const { resource } = event;
  const mark = resource.custom_id ?? resource.purchase_units?.[0].custom_id;
  const name = `${mark} ${event.event_type}`;
  return { status: 204, heard: [[name, { text, event, headers }]] };
}
