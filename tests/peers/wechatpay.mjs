// An SDK for WeChat Pay's APIv3 against one account of the sandbox.
//
// It proves that the fake speaks the protocol as WeChat Pay's merchants read it: the SDK signs our
// requests, verifies the answers over their raw text, opens what is sealed, and reads the bills.
// With `key` it goes through the proxy's native pass-through instead. The SDK signs the path that
// its base URL and its own path make, and the provider signs and verifies its own paths only; so
// the base URL stays an origin, and the SDK's seam for another transport adds the way through the
// proxy after the signature was made.
//
//   node wechatpay.mjs '{"api":ORIGIN,"prefix":PATH,"control":URL,"account":NAME,"mchid":ID,
//                        "appid":ID,"serial":HEX,"merchant_private_key":PEM,
//                        "merchant_public_key":PEM,"public_key_id":ID,"public_key":PEM,
//                        "api_v3_key":TEXT,"key":TEXT}'
//
// WECHATPAY_SDK is the folder of the package `wechatpay-axios-plugin`. The last line is one JSON
// object.

import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import http from 'node:http';
import { createRequire } from 'node:module';
import { gunzipSync } from 'node:zlib';

import {
  act,
  clearFault,
  control,
  ledger,
  listen,
  movements,
  order,
  portal,
  setFault,
  tryControl,
} from './sandbox.mjs';
import { conclude, given, passed } from './script.mjs';

const require = createRequire(import.meta.url);
const { Wechatpay, Aes, Decorator, Formatter, Hash, Rsa } = require(process.env.WECHATPAY_SDK);
const publicKey = Rsa.from(given.public_key, Rsa.KEY_TYPE_PUBLIC);

const sdkWith = (more) =>
  new Wechatpay({
    baseURL: given.api,
    mchid: given.mchid,
    serial: given.serial,
    privateKey: given.merchant_private_key,
    certs: { [given.public_key_id]: publicKey },
    // What a machine has in its environment must not lead the requests elsewhere.
    proxy: false,
    timeout: 10_000,
    transport: { request: carry },
    ...more,
  });
const sdk = sdkWith({});

const listener = await listen(read);
try {
  await qrIsPaidAskedAndClosed();
  await thePagesOrderIsSignedAndPaid();
  await barcodesAreChargedOnce();
  await barcodesAreDeclinedHonestly();
  await aBarcodeWaitsForThePassword();
  await whatMayHaveBeenTakenIsReversed();
  await refundsMoveOnce();
  await certificatesAreOpenedAndBelieved();
  await billsAddUp();
  await strangersAreTurnedAway();
  await wrongAnswersAreNotBelieved();
  await notificationsAreVerifiedAndOpened();
} catch (why) {
  // The SDK's errors carry everything, sockets and keys too.
  if (!why.isAxiosError) throw why;
  const { message, code, stack, response } = why;
  const told = `${response?.status} ${JSON.stringify(response?.data)}`;
  throw new Error(`${message} (${code}): ${told}\n${stack}`);
} finally {
  listener.stop();
  await signsWith('public_key');
}
conclude();

async function qrIsPaidAskedAndClosed() {
  const number = order('qr');
  const made = await sdk.v3.pay.transactions.native.post(bill(number, 8888));
  assert.match(made.data.code_url, /^weixin:\/\/wxpay\/bizpayurl/);
  assert.equal((await query(number)).trade_state, 'NOTPAY');
  assert.deepEqual(await ledger(number), []);
  await act({ qr_code: made.data.code_url, act: 'pay' });
  const paid = await query(number);
  assert.equal(paid.trade_state, 'SUCCESS');
  assert.deepEqual([paid.trade_type, paid.amount.total, paid.appid, paid.mchid], [
    'NATIVE',
    8888,
    given.appid,
    given.mchid,
  ]);
  assert.equal(paid.attach, 'Tea & cake/两杯 100%+');
  const { data: same } = await sdk.v3.pay.transactions.id['{transaction_id}'].get({
    params: { mchid: given.mchid },
    transaction_id: paid.transaction_id,
  });
  assert.deepEqual(same, paid);
  assert.deepEqual(await ledger(number), [['charge', 8888]]);
  passed('native, paid by the shopper, and asked for by both numbers');

  const late = close(number);
  await refused(late, 400, 'ORDER_PAID');
  const other = order('closed');
  const offer = await sdk.v3.pay.transactions.native.post(bill(other, 500));
  const closed = await close(other);
  assert.deepEqual([closed.status, closed.data], [204, '']);
  assert.equal((await query(other)).trade_state, 'CLOSED');
  const turnedAway = await tryControl('POST', '/customers/act', {
    account: given.account,
    qr_code: offer.data.code_url,
    act: 'pay',
  });
  assert.equal(turnedAway.status, 409);
  assert.deepEqual(await ledger(other), []);
  await refused(query(order('nobody')), 404, 'ORDER_NOT_EXIST');
  passed('close of an unpaid order, and of a paid one');
}

async function thePagesOrderIsSignedAndPaid() {
  const number = order('page');
  const made = await sdk.v3.pay.transactions.jsapi.post({
    ...bill(number, 990),
    payer: { openid: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o' },
  });
  const params = {
    appId: given.appid,
    timeStamp: `${Formatter.timestamp()}`,
    nonceStr: Formatter.nonce(),
    package: `prepay_id=${made.data.prepay_id}`,
  };
  const text = Formatter.joinedByLineFeed(...Object.values(params));
  const sign = Rsa.sign(text, Rsa.from(given.merchant_private_key, Rsa.KEY_TYPE_PRIVATE));
  const own = Rsa.from(given.merchant_public_key, Rsa.KEY_TYPE_PUBLIC);
  assert.equal(Rsa.verify(text, sign, own), true);
  assert.equal(Rsa.verify(text.replace('prepay_id=', 'prepay_id=x'), sign, own), false);
  await act({ order: params.package, act: 'pay' });
  const paid = await query(number);
  assert.deepEqual([paid.trade_state, paid.trade_type], ['SUCCESS', 'JSAPI']);
  assert.equal(paid.payer.openid, 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o');
  assert.deepEqual(await ledger(number), [['charge', 990]]);
  passed("jsapi, with the page's own signature");
}

async function barcodesAreChargedOnce() {
  const number = order('bar');
  const { data: paid } = await pay(number, '01');
  assert.deepEqual([paid.trade_state, paid.trade_type], ['SUCCESS', 'MICROPAY']);
  await refused(pay(number, '01'), 400, 'ORDER_PAID');
  assert.deepEqual(await ledger(number), [['charge', 1230]]);
  const coupon = order('coupon');
  const { data: cheaper } = await pay(coupon, '09');
  assert.deepEqual([cheaper.amount.total, cheaper.amount.payer_total], [1230, 1229]);
  assert.equal(cheaper.promotion_detail[0].amount, 1);
  assert.deepEqual(await ledger(coupon), [['charge', 1230]]);
  passed('a barcode, the same again, and with a coupon');

  const lost = order('lost');
  await refused(pay(lost, '06'), 500, 'SYSTEM_ERROR');
  assert.equal((await query(lost)).trade_state, 'SUCCESS');
  await refused(pay(lost, '06'), 400, 'ORDER_PAID');
  assert.deepEqual(await ledger(lost), [['charge', 1230]]);
  passed('a barcode that was charged and answered as an error');
}

async function barcodesAreDeclinedHonestly() {
  const poor = order('poor');
  await refused(pay(poor, '03'), 403, 'NOT_ENOUGH');
  assert.equal((await query(poor)).trade_state, 'NOTPAY');
  const stale = order('stale');
  await refused(pay(stale, '05'), 400, 'AUTH_CODE_EXPIRED');
  await refused(query(stale), 404, 'ORDER_NOT_EXIST');
  const odd = order('odd');
  const why = await refused(pay(odd, '01', { payer: { auth_code: '28' } }), 400, 'PARAM_ERROR');
  assert.equal(why.detail.field, '/payer/auth_code');
  for (const number of [poor, stale, odd]) assert.deepEqual(await ledger(number), []);
  passed('barcodes that are declined');
}

async function aBarcodeWaitsForThePassword() {
  for (const [ending, status, member] of [
    ['02', 200, 'trade_state'],
    ['12', 202, 'code'],
  ]) {
    const number = order('asks');
    const asked = await pay(number, ending);
    assert.deepEqual([asked.status, asked.data[member]], [status, 'USERPAYING']);
    assert.equal((await query(number)).trade_state, 'USERPAYING');
    assert.deepEqual(await ledger(number), []);
    await act({ op_id: number, act: 'pay' });
    assert.equal((await query(number)).trade_state, 'SUCCESS');
    assert.deepEqual(await ledger(number), [['charge', 1230]]);
  }
  passed('a barcode that waits for the password, told in both forms');
}

async function whatMayHaveBeenTakenIsReversed() {
  for (const [ending, state, moved] of [
    ['01', 'SUCCESS', true],
    ['07', 'PAYERROR', true],
    ['08', 'PAYERROR', false],
  ]) {
    const number = order('undo');
    const { data: made } = await pay(number, ending);
    assert.equal(made.trade_state, state);
    for (const _ of ['once', 'again']) {
      const { data: undone } = await reverse(number);
      assert.deepEqual([undone.out_trade_no, undone.mchid], [number, given.mchid]);
    }
    assert.equal((await query(number)).trade_state, 'REVOKED');
    const both = [
      ['charge', 1230],
      ['reverse', 1230],
    ];
    assert.deepEqual(await ledger(number), moved ? both : []);
  }
  const scanned = order('noundo');
  await sdk.v3.pay.transactions.native.post(bill(scanned, 100));
  await refused(reverse(scanned), 400, 'INVALID_REQUEST');
  passed('reverse, twice, of what was taken and what was not');
}

async function refundsMoveOnce() {
  const number = order('back');
  await pay(number, '01');
  const refund = (suffix, amount, more) =>
    sdk.v3.refund.domestic.refunds.post({
      out_trade_no: number,
      out_refund_no: `${number}${suffix}`,
      amount: { refund: amount, total: 1230, currency: 'CNY' },
      notify_url: listener.url,
      ...more,
    });
  const { data: first } = await refund('r1', 230);
  assert.deepEqual([first.amount.refund, first.amount.payer_refund], [230, 230]);
  assert.match(first.status, /^(PROCESSING|SUCCESS)$/);
  const { data: again } = await refund('r1', 230);
  assert.equal(again.refund_id, first.refund_id);
  await refused(refund('r1', 231), 400, 'INVALID_REQUEST');
  assert.equal(await toldOf(`${number}r1`), 'SUCCESS');
  const { data: known } = await refundQuery(`${number}r1`);
  assert.deepEqual([known.status, known.refund_id], ['SUCCESS', first.refund_id]);
  assert.equal((await query(number)).trade_state, 'REFUND');
  assert.deepEqual(await ledger(number), [
    ['charge', 1230],
    ['refund', 230],
  ]);
  passed('refund, the same again, and refund query');

  await refused(refund('r2', 1001), 400, 'INVALID_REQUEST');
  await refused(refund('r3', 400, { reason: 'not_enough' }), 403, 'NOT_ENOUGH');
  await refund('r3', 400, { reason: 'not_enough' });
  assert.equal(await toldOf(`${number}r3`), 'SUCCESS');
  await refund('r4', 600, { reason: 'closed' });
  assert.equal(await toldOf(`${number}r4`), 'CLOSED');
  assert.equal((await refundQuery(`${number}r4`)).data.status, 'CLOSED');
  await refused(refundQuery(`${number}r2`), 404, 'RESOURCE_NOT_EXISTS');
  assert.deepEqual(await ledger(number), [
    ['charge', 1230],
    ['refund', 230],
    ['refund', 400],
  ]);
  passed('refunds that are refused, late, or come to nothing');
}

async function certificatesAreOpenedAndBelieved() {
  // The way to the first certificates: they are opened, and then verify the answer they came in.
  await signsWith('current');
  const pems = {};
  const learning = sdkWith({ certs: { none: undefined } });
  const usual = learning.client.v3.defaults.transformResponse;
  const certs = {};
  const open = (text) => {
    for (const { serial_no: serial, encrypt_certificate: sealed } of JSON.parse(text).data) {
      const { ciphertext, nonce, associated_data: aad } = sealed;
      pems[serial] = Aes.AesGcm.decrypt(ciphertext, given.api_v3_key, nonce, aad);
      certs[serial] = Rsa.from(pems[serial], Rsa.KEY_TYPE_PUBLIC);
    }
    return text;
  };
  await rejectedFor(learning.v3.certificates.get(), 'EV3_RES_HEADER_PLATFORM_SERIAL');
  const { data } = await learning.v3.certificates.get({
    transformResponse: [open, Decorator.responseVerifier(certs), ...usual.slice(1)],
  });
  assert.ok(data.data.length > 0);
  for (const { serial_no: serial } of data.data) {
    const { serialNumber } = new X509Certificate(pems[serial]);
    assert.equal(serialNumber, serial);
  }
  const believing = sdkWith({ certs });
  const first = await believing.v3.certificates.get();
  assert.equal(first.headers['wechatpay-serial'], data.data[0].serial_no);
  passed('the certificates are opened, and verify the answers');

  const next = data.data.length > 1 ? ['next'] : [];
  const serials = new Set();
  for (const identity of ['current', ...next]) {
    await signsWith(identity);
    const answer = await believing.v3.certificates.get();
    serials.add(answer.headers['wechatpay-serial']);
    await rejectedFor(sdk.v3.certificates.get(), 'EV3_RES_HEADER_PLATFORM_SERIAL');
  }
  assert.deepEqual([...serials].sort(), Object.keys(certs).sort());
  const headers = { 'Wechatpay-Serial': given.public_key_id };
  await sdk.v3.certificates.get({ headers });
  await rejectedFor(
    believing.v3.certificates.get({ headers }),
    'EV3_RES_HEADER_PLATFORM_SERIAL',
  );
  await signsWith('public_key');
  await sdk.v3.certificates.get();
  passed('whoever signs is known by name: certificates, and the public key when asked for');
}

async function billsAddUp() {
  const number = order('bill');
  await pay(number, '01');
  const { success_time: paid } = await query(number);
  const date = paid.slice(0, 10);
  const { data: told } = await sdk.v3.bill.tradebill.get({ params: { bill_date: date } });
  assert.equal(told.hash_type, 'SHA1');
  const bytes = await download(told);
  assert.equal(Hash.sha1(bytes), told.hash_value);
  const { rows, summary } = Formatter.castCsvBill(bytes);
  assert.equal(Number(summary['总交易单数']), rows.length);
  const [row, ...more] = rows.filter((one) => one['商户订单号'] === number);
  assert.deepEqual([row['订单金额'], row['交易状态'], more.length], ['12.30', 'SUCCESS', 0]);
  const all = await movements();
  const inBeijing = (at) => new Date(Date.parse(at) + 8 * 3_600_000).toISOString().slice(0, 10);
  const ofDay = all.filter((m) => inBeijing(m.at) === date);
  const taken = ofDay.filter((m) => m.kind === 'charge').map((m) => m.amount);
  const fen = taken.reduce((sum, amount) => sum + amount, 0);
  assert.equal(Math.round(Number(summary['订单总金额']) * 100), fen);
  assert.equal(rows.length, ofDay.length);
  passed('the bill of trades has its digest and every movement');

  const { data: packed } = await sdk.v3.bill.tradebill.get({
    params: { bill_date: date, tar_type: 'GZIP' },
  });
  const unpacked = gunzipSync(await download(packed));
  assert.equal(Hash.sha1(unpacked), packed.hash_value);
  assert.deepEqual(Formatter.castCsvBill(unpacked).summary, summary);
  const { data: funds } = await sdk.v3.bill.fundflowbill.get({ params: { bill_date: date } });
  const flow = await download(funds);
  assert.equal(Hash.sha1(flow), funds.hash_value);
  const sheet = Formatter.castCsvBill(flow);
  assert.equal(Number(sheet.summary['资金流水总笔数']), sheet.rows.length);
  const income = sheet.rows.filter((one) => one['业务凭证号'] === number);
  assert.equal(income[0]['收支金额(元)'], '12.30');
  await refused(
    sdk.v3.bill.tradebill.get({ params: { bill_date: '2020-01-01' } }),
    400,
    'NO_STATEMENT_EXIST',
  );
  passed('a packed bill, the bill of funds, and a day without any');
}

async function strangersAreTurnedAway() {
  const number = order('stranger');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const stranger = sdkWith({ privateKey });
  await refused(stranger.v3.pay.transactions.native.post(bill(number, 1)), 401, 'SIGN_ERROR');
  const unknown = sdkWith({ serial: given.serial.replace(/^./, 'F') });
  await refused(unknown.v3.pay.transactions.native.post(bill(number, 1)), 401, 'SIGN_ERROR');
  const codepay = stranger.v3.pay.transactions.codepay;
  await refused(codepay.post(barcode(number, '01')), 401, 'SIGN_ERROR');
  await refused(query(number), 404, 'ORDER_NOT_EXIST');
  assert.deepEqual(await ledger(number), []);
  passed('a request signed by another key, or for another certificate, is refused');
}

async function wrongAnswersAreNotBelieved() {
  const number = order('forged');
  const dial = await setFault({ operation: 'authorize', fault: 'bad_signature' });
  await rejectedFor(pay(number, '01'), 'EV3_RES_HEADER_SIGNATURE_DIGEST');
  await clearFault(dial);
  assert.deepEqual(await ledger(number), [['charge', 1230]]);
  const other = await setFault({ operation: 'inquire', fault: 'bad_signature' });
  await rejectedFor(query(number), 'EV3_RES_HEADER_SIGNATURE_DIGEST');
  await clearFault(other);
  assert.equal((await query(number)).trade_state, 'SUCCESS');
  const { publicKey: mistaken } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const deceived = sdkWith({ certs: { [given.public_key_id]: mistaken } });
  const asked = deceived.v3.pay.transactions['out-trade-no'][number];
  await rejectedFor(
    asked.get({ params: { mchid: given.mchid } }),
    'EV3_RES_HEADER_SIGNATURE_DIGEST',
  );
  passed('an answer whose signature does not fit is not believed, though it charged');
}

async function notificationsAreVerifiedAndOpened() {
  const number = order('note');
  const made = await sdk.v3.pay.transactions.native.post(bill(number, 6606));
  await act({ qr_code: made.data.code_url, act: 'pay' });
  const { note, text, headers } = await listener.heard(number);
  assert.deepEqual(note, await query(number));
  const { event_type: event, resource } = JSON.parse(text);
  assert.deepEqual([event, resource.original_type], ['TRANSACTION.SUCCESS', 'transaction']);
  passed('a notification is verified, opened, and says what a query says');

  assert.equal(isGenuine(text, headers), true);
  assert.equal(isGenuine(text.replace('SUCCESS', 'CLOSED '), headers), false);
  const later = { ...headers, 'wechatpay-timestamp': `${+headers['wechatpay-timestamp'] + 1}` };
  assert.equal(isGenuine(text, later), false);
  const { ciphertext, nonce, associated_data: aad } = resource;
  const opened = (secret, associated) =>
    Aes.AesGcm.decrypt(ciphertext, secret, nonce, associated);
  assert.deepEqual(JSON.parse(opened(given.api_v3_key, aad)), note);
  assert.throws(() => opened(given.api_v3_key, `${aad}x`));
  assert.throws(() => opened('x'.repeat(32), aad));
  passed('an altered notification is not, nor does another key open it');

  const before = await probes();
  const dial = await setFault({ operation: 'notify', fault: 'bad_signature' });
  const other = order('probed');
  const offer = await sdk.v3.pay.transactions.native.post(bill(other, 100));
  await act({ qr_code: offer.data.code_url, act: 'pay' });
  await listener.heard(other);
  await clearFault(dial);
  const after = await probes();
  assert.deepEqual(after, { refused: before.refused + 1, taken: 0 });
  passed('a probe with a false signature is refused, and the good one follows');
}

function bill(out_trade_no, total) {
  return {
    appid: given.appid,
    mchid: given.mchid,
    description: 'Tea & cake/两杯',
    attach: 'Tea & cake/两杯 100%+',
    out_trade_no,
    notify_url: listener.url,
    amount: { total, currency: 'CNY' },
  };
}

function barcode(number, ending) {
  return {
    ...bill(number, 1230),
    payer: { auth_code: `1300000000000000${ending}` },
    scene_info: { store_info: { id: '0001' } },
  };
}

function pay(number, ending, more) {
  return sdk.v3.pay.transactions.codepay.post({ ...barcode(number, ending), ...more });
}

async function query(number) {
  const asked = sdk.v3.pay.transactions['out-trade-no']['{number}'];
  return (await asked.get({ params: { mchid: given.mchid }, number })).data;
}

function close(number) {
  const named = sdk.v3.pay.transactions['out-trade-no']['{number}'];
  return named.close.post({ mchid: given.mchid }, { number });
}

function reverse(number) {
  const named = sdk.v3.pay.transactions['out-trade-no']['{number}'];
  return named.reverse.post({ appid: given.appid, mchid: given.mchid }, { number });
}

function refundQuery(number) {
  return sdk.v3.refund.domestic.refunds['{number}'].get({ number });
}

// What a refund came to.
async function toldOf(number) {
  return (await listener.heard(number)).note.refund_status;
}

// The file lies where the answer says, on the provider's own host; the token alone is of it.
async function download({ download_url: url }) {
  const params = Object.fromEntries(new URL(url).searchParams);
  const answer = await sdk.v3.billdownload.file.get({ params, responseType: 'arraybuffer' });
  return answer.data;
}

// WeChat Pay's own refusal, which carries no signature; answers its body.
async function refused(asked, status, code) {
  const why = await asked.then(
    ({ data }) => assert.fail(`not refused: ${JSON.stringify(data)}`),
    (error) => error,
  );
  assert.ok(why.response, `no answer: ${why.stack}`);
  assert.deepEqual([why.response.status, why.response.data.code], [status, code]);
  assert.ok(why.response.data.message);
  return why.response.data;
}

// The SDK's own refusal of an answer.
async function rejectedFor(asked, code) {
  await assert.rejects(asked, (why) => {
    assert.equal(why.code, code, why.stack);
    return true;
  });
}

function isGenuine(text, headers) {
  assert.equal(headers['wechatpay-serial'], given.public_key_id);
  const signed = Formatter.response(
    headers['wechatpay-timestamp'],
    headers['wechatpay-nonce'],
    text,
  );
  return Rsa.verify(signed, headers['wechatpay-signature'], publicKey);
}

function signsWith(identity) {
  return portal({ act: 'signs_with', identity });
}

async function probes() {
  const { accounts } = await control('GET', '/healthz');
  const { probes_refused: refused, probes_taken: taken } = accounts[given.account];
  return { refused, taken };
}

function carry(options, done) {
  const headers = { ...options.headers };
  if (given.key) headers['X-Interlock-Key'] = given.key;
  const path = (given.prefix ?? '') + options.path;
  return http.request({ ...options, path, headers }, done);
}

// A signature that does not fit is refused; what is sealed is heard by the number of the order, or
// of the refund.
function read(text, headers) {
  if (!isGenuine(text, headers)) return { status: 401, heard: [] };
  const { ciphertext, nonce, associated_data: aad } = JSON.parse(text).resource;
  const note = JSON.parse(Aes.AesGcm.decrypt(ciphertext, given.api_v3_key, nonce, aad));
  const name = note.out_refund_no ?? note.out_trade_no;
  return { status: 204, heard: [[name, { note, text, headers }]] };
}
