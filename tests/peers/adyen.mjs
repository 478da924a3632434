// Adyen's own SDK for Node against one account of the sandbox.
//
// It proves that the fake speaks the protocol as Adyen's customers read it: the SDK writes our
// requests from its models, reads the answers into its models, and verifies what the fake
// notifies. With `key` it goes through the proxy's native pass-through instead. The SDK itself
// speaks TLS alone, so its own seam for another HTTP client carries the same bytes to this machine.
//
//   node adyen.mjs '{"api":URL,"control":URL,"account":NAME,"merchant_account":CODE,
//                    "api_key":TEXT,"hmac_key":HEX,"hook":PORT,"key":TEXT}'
//
// ADYEN_SDK is the folder of the package `@adyen/api-library`. The last line is one JSON object.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

import { act, clearFault, ledger, listen, order, setFault } from './sandbox.mjs';
import { conclude, given, passed } from './script.mjs';

const require = createRequire(import.meta.url);
const sdk = require(process.env.ADYEN_SDK);
const { CheckoutAPI, Client, EnvironmentEnum, hmacValidator, Types } = sdk;
const { ResultCodeEnum } = Types.checkout.PaymentResponse;

const apiWith = (apiKey) => {
  const client = new Client({ apiKey, environment: EnvironmentEnum.TEST });
  client.httpClient = { request: carry };
  return new CheckoutAPI(client);
};
const api = apiWith(given.api_key);
const validator = new hmacValidator();

const listener = await listen(read, given.hook);
try {
  await aPaymentIsMadeOnceUnderItsKey();
  await aRefusalIsToldByItsNumber();
  await aChallengeIsBroughtBack();
  await changesAreToldByNotifications();
  await strangersAreTurnedAway();
  await forgeriesAreSeen();
} finally {
  listener.stop();
}
conclude();

async function aPaymentIsMadeOnceUnderItsKey() {
  const reference = order('once');
  const paid = await pay(reference, card(reference));
  assert.equal(paid.resultCode, ResultCodeEnum.Authorised);
  assert.deepEqual({ ...paid.amount }, { currency: 'EUR', value: 4900 });
  assert.equal(paid.merchantReference, reference);
  const again = await pay(reference, card(reference));
  assert.equal(again.pspReference, paid.pspReference);
  assert.deepEqual(await ledger(reference), [['charge', 4900]]);
  passed('a payment, and the same one again');
}

async function aRefusalIsToldByItsNumber() {
  const reference = order('no');
  const refused = await pay(reference, { ...stored('M5_decline_12') });
  assert.equal(refused.resultCode, ResultCodeEnum.Refused);
  assert.equal(refused.refusalReasonCode, '12');
  assert.deepEqual(await ledger(reference), []);
  passed('a refusal');
}

async function aChallengeIsBroughtBack() {
  const reference = order('challenge');
  const shown = await pay(reference, {
    ...stored('M5STORED'),
    authenticationData: { attemptAuthentication: 'always' },
  });
  assert.equal(shown.resultCode, ResultCodeEnum.RedirectShopper);
  assert.equal(shown.action.type, 'redirect');
  assert.match(shown.action.url, /^http/);
  const acted = await act({ op_id: reference, act: 'pay' });
  const back = await api.PaymentsApi.paymentsDetails(
    { details: { redirectResult: acted.redirect_result } },
    { idempotencyKey: `${reference}back` },
  );
  assert.equal(back.resultCode, 'Authorised');
  assert.deepEqual(await ledger(reference), [['charge', 4900]]);
  passed('a challenge, and what the shopper brought back');
}

async function changesAreToldByNotifications() {
  const reference = order('later');
  const held = await pay(reference, {
    ...card(reference),
    captureDelayHours: undefined,
    additionalData: { manualCapture: 'true' },
  });
  await told(reference, 'AUTHORISATION');
  const psp = held.pspReference;
  const change = async (call, suffix, event, amount) => {
    const number = `${reference}${suffix}`;
    const accepted = await api.ModificationsApi[call](
      psp,
      { merchantAccount: given.merchant_account, reference: number, amount },
      { idempotencyKey: number },
    );
    assert.equal(accepted.status, 'received');
    assert.equal(accepted.paymentPspReference, psp);
    const item = await told(number, event);
    assert.equal(item.success, 'true');
    assert.equal(item.pspReference, accepted.pspReference);
    assert.equal(item.originalReference, psp);
  };
  const euros = (value) => ({ currency: 'EUR', value });
  await change('captureAuthorisedPayment', 'c', 'CAPTURE', euros(900));
  await change('refundCapturedPayment', 'r', 'REFUND', euros(300));
  await change('refundOrCancelPayment', 'x', 'CANCEL_OR_REFUND');
  assert.deepEqual(await ledger(reference), [
    ['authorize', 4900],
    ['capture', 900],
    ['void', 4000],
    ['refund', 300],
    ['reverse', 600],
  ]);
  passed('capture, refund and reversal, accepted and told');
}

async function strangersAreTurnedAway() {
  const stranger = apiWith('AQE_stranger');
  const asked = stranger.PaymentsApi.payments(payment(order('stranger'), card('x')));
  await assert.rejects(asked, (why) => why.statusCode === 401);
  passed('a request with another key is refused');
}

async function forgeriesAreSeen() {
  const reference = order('note');
  await pay(reference, card(reference));
  const item = await told(reference, 'AUTHORISATION');
  for (const [name, value] of [
    ['amount', { currency: 'EUR', value: 1 }],
    ['merchantReference', `${reference}x`],
    ['success', 'false'],
  ]) {
    assert.equal(validator.validateHMAC({ ...item, [name]: value }, given.hmac_key), false, name);
  }
  passed('an altered notification is not believed');
  const dial = await setFault({ operation: 'notify', fault: 'bad_signature' });
  const other = order('spoiled');
  await pay(other, card(other));
  const spoiled = await listener.heard(`${other} AUTHORISATION`);
  assert.equal(validator.validateHMAC(spoiled, given.hmac_key), false);
  await clearFault(dial);
  passed('nor is one that the fake signs wrongly when it is told to');
}

function pay(reference, more) {
  return api.PaymentsApi.payments(payment(reference, more), { idempotencyKey: reference });
}

function payment(reference, more) {
  return {
    merchantAccount: given.merchant_account,
    amount: { currency: 'EUR', value: 4900 },
    reference,
    returnUrl: 'https://shop.example/',
    captureDelayHours: 0,
    ...more,
  };
}

function card(cavv) {
  return {
    paymentMethod: {
      type: 'scheme',
      number: '4900000000001111',
      expiryMonth: '12',
      expiryYear: '2099',
      brand: 'applepay',
    },
    mpiData: { cavv, eci: '05', authenticationResponse: 'Y', directoryResponse: 'Y' },
  };
}

function stored(storedPaymentMethodId) {
  return {
    paymentMethod: { type: 'scheme', storedPaymentMethodId },
    shopperReference: 'shopper-1',
    shopperInteraction: 'ContAuth',
    recurringProcessingModel: 'CardOnFile',
  };
}

// A notification whose signature the SDK has verified.
async function told(reference, event) {
  const item = await listener.heard(`${reference} ${event}`);
  assert.equal(validator.validateHMAC(item, given.hmac_key), true, event);
  return item;
}

// What the SDK would send to Adyen goes to this machine, with the SDK's own path and body.
async function carry(endpoint, json, config, isApiRequired, options = {}) {
  const url = given.api + new URL(endpoint).pathname;
  const headers = { 'content-type': 'application/json', 'x-api-key': config.apiKey };
  if (given.key) headers['x-interlock-key'] = given.key;
  if (options.idempotencyKey) headers['idempotency-key'] = options.idempotencyKey;
  const answer = await fetch(url, { method: options.method ?? 'POST', headers, body: json });
  const text = await answer.text();
  if (!answer.ok) throw Object.assign(new Error(text), { statusCode: answer.status });
  return text;
}

// Each item of a notification, by the merchant's number and by what it tells.
function read(text) {
  const items = JSON.parse(text).notificationItems.map((one) => one.NotificationRequestItem);
  const heard = items.map((item) => [`${item.merchantReference} ${item.eventCode}`, item]);
  return { body: '[accepted]', heard };
}
