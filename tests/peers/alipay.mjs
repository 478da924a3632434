// Alipay's own SDK for Node against one account of the sandbox.
//
// It proves that the fake speaks the protocol as Alipay's customers read it: the SDK signs our
// requests, verifies the answers over their raw text, and verifies what the fake notifies. With
// `key` it goes through the proxy's native pass-through instead, and only its address differs; the
// process adds the merchant's key to what it sends. The SDK writes `timestamp` in the zone of the
// process, so TZ must be Asia/Shanghai.
//
//   TZ=Asia/Shanghai node alipay.mjs '{"gateway":URL,"control":URL,"account":NAME,"app_id":ID,
//                                      "app_private_key":PEM,"alipay_public_key":PEM,"key":TEXT}'
//
// ALIPAY_SDK is the folder of the package `alipay-sdk`. The last line is one JSON object.

import assert from 'node:assert/strict';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { act, clearFault, ledger, listen, order, setFault } from './sandbox.mjs';
import { conclude, given, passed } from './script.mjs';

const entry = path.join(process.env.ALIPAY_SDK, 'dist', 'esm', 'index.js');
const { AlipaySdk } = await import(pathToFileURL(entry).href);

assert.equal(process.env.TZ, 'Asia/Shanghai', 'TZ must be Asia/Shanghai');
if (given.key) {
  const urllib = path.join(process.env.ALIPAY_SDK, '..', 'urllib', 'dist', 'esm', 'index.js');
  const { Agent, setGlobalDispatcher } = await import(pathToFileURL(urllib).href);
  const proves = (dispatch) => (options, handler) => {
    const headers = { ...options.headers, 'x-interlock-key': given.key };
    return dispatch({ ...options, headers }, handler);
  };
  setGlobalDispatcher(new Agent().compose(proves));
}

const sdkWith = (more) =>
  new AlipaySdk({
    appId: given.app_id,
    privateKey: given.app_private_key,
    alipayPublicKey: given.alipay_public_key,
    gateway: `${given.gateway}/gateway.do`,
    keyType: 'PKCS8',
    timeout: 10_000,
    ...more,
  });
const sdk = sdkWith({});

const listener = await listen(read);
try {
  await qrIsPaidAskedAndRefunded();
  await barcodeIsPaidOnceAndDeclinedHonestly();
  await scannedQrIsClosed();
  await strangersAreTurnedAway();
  await wrongAnswersAreNotBelieved();
  await notificationsAreVerified();
} finally {
  listener.stop();
}
conclude();

async function qrIsPaidAskedAndRefunded() {
  const number = order('qr');
  const made = await call('precreate', { ...bill(number, '88.88'), subject: 'Tea & cake/两杯' });
  assert.equal(made.code, '10000');
  assert.match(made.qrCode, /^https:\/\//);
  const unscanned = await call('query', { out_trade_no: number });
  assert.equal(unscanned.subCode, 'ACQ.TRADE_NOT_EXIST');
  await act({ qr_code: made.qrCode, act: 'pay' });
  const asked = await call('query', { out_trade_no: number });
  assert.equal(asked.tradeStatus, 'TRADE_SUCCESS');
  assert.equal(asked.totalAmount, '88.88');
  passed('precreate, pay by the shopper, query');

  const part = { out_trade_no: number, refund_amount: '8.88', out_request_no: `${number}r1` };
  const first = await call('refund', part);
  assert.deepEqual([first.code, first.fundChange, first.refundFee], ['10000', 'Y', '8.88']);
  const again = await call('refund', part);
  assert.deepEqual([again.code, again.fundChange, again.refundFee], ['10000', 'N', '8.88']);
  const known = await call('fastpay.refund.query', {
    out_trade_no: number,
    out_request_no: `${number}r1`,
  });
  assert.equal(known.refundStatus, 'REFUND_SUCCESS');
  assert.equal(known.refundAmount, '8.88');
  assert.deepEqual(await ledger(number), [
    ['charge', 8888],
    ['refund', 888],
  ]);
  passed('refund, the same refund again, refund query');
}

async function barcodeIsPaidOnceAndDeclinedHonestly() {
  const number = order('bar');
  const pay = (out_trade_no, auth_code) =>
    call('pay', { ...bill(out_trade_no, '12.30'), scene: 'bar_code', auth_code });
  const paid = await pay(number, '280000000000000001');
  assert.deepEqual([paid.code, paid.totalAmount], ['10000', '12.30']);
  const again = await pay(number, '280000000000000001');
  assert.equal(again.tradeNo ?? paid.tradeNo, paid.tradeNo);
  assert.deepEqual(await ledger(number), [['charge', 1230]]);
  const declined = await pay(order('poor'), '280000000000000003');
  assert.equal(declined.subCode, 'ACQ.BUYER_BALANCE_NOT_ENOUGH');
  passed('barcode pay, once, and declined');
}

async function scannedQrIsClosed() {
  const number = order('close');
  const made = await call('precreate', bill(number, '5.00'));
  const before = await call('close', { out_trade_no: number });
  assert.equal(before.subCode, 'ACQ.TRADE_NOT_EXIST');
  await act({ qr_code: made.qrCode, act: 'scan' });
  const closed = await call('close', { out_trade_no: number });
  assert.equal(closed.code, '10000');
  const asked = await call('query', { out_trade_no: number });
  assert.equal(asked.tradeStatus, 'TRADE_CLOSED');
  assert.deepEqual(await ledger(number), []);
  passed('close of a scanned QR');
}

async function strangersAreTurnedAway() {
  const { generateKeyPairSync } = await import('node:crypto');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  const stranger = sdkWith({ privateKey: pem });
  const told = await stranger.exec('alipay.trade.query', {
    bizContent: { out_trade_no: order('stranger') },
  });
  assert.equal(told.subCode, 'isv.invalid-signature');
  passed('a request signed by another key is refused');
}

async function wrongAnswersAreNotBelieved() {
  const number = order('forged');
  const id = await setFault({ operation: 'inquire', fault: 'bad_signature' });
  await assert.rejects(call('query', { out_trade_no: number }), /验签失败|sign/i);
  await clearFault(id);
  const asked = await call('query', { out_trade_no: number });
  assert.equal(asked.subCode, 'ACQ.TRADE_NOT_EXIST');
  passed('an answer with a wrong signature is refused');
}

async function notificationsAreVerified() {
  const number = order('note');
  const notified = { notify_url: listener.url };
  const made = await call('precreate', bill(number, '66.06'), notified);
  await act({ qr_code: made.qrCode, act: 'pay' });
  const note = await listener.heard(number);
  assert.equal(note.trade_status, 'TRADE_SUCCESS');
  assert.equal(note.total_amount, '66.06');
  assert.equal(sdk.checkNotifySignV2(note), true);
  passed('a notification is verified');

  for (const [name, value] of [
    ['total_amount', '660.60'],
    ['out_trade_no', `${number}x`],
    ['trade_status', 'TRADE_CLOSED'],
  ]) {
    assert.equal(sdk.checkNotifySignV2({ ...note, [name]: value }), false, name);
  }
  const { total_amount: _, ...without } = note;
  assert.equal(sdk.checkNotifySignV2(without), false);
  passed('an altered notification is not');

  const id = await setFault({ operation: 'notify', fault: 'bad_signature' });
  const other = order('noteforged');
  const offer = await call('precreate', bill(other, '1.00'), notified);
  await act({ qr_code: offer.qrCode, act: 'pay' });
  assert.equal(sdk.checkNotifySignV2(await listener.heard(other)), false);
  await clearFault(id);
  passed('nor is one that the fake signs wrongly when it is told to');
}

function call(method, bizContent, more = {}) {
  const params = { ...more, bizContent };
  return sdk.exec(`alipay.trade.${method}`, params, { validateSign: true });
}

function bill(out_trade_no, total_amount) {
  return { out_trade_no, total_amount, subject: 'Peer' };
}

// A notification, by the order's number.
function read(text) {
  const note = Object.fromEntries(new URLSearchParams(text));
  return { body: 'success', heard: [[note.out_trade_no, note]] };
}
