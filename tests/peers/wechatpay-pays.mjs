// An SDK for WeChat Pay's APIv3 against what our plugin gives to pages and apps.
//
// What WeChat itself is handed by a page or an app is never sent by us, so no provider tells
// whether it is well formed. The SDK signs the same content; the signature is deterministic, so it
// must be the same, and the merchant's public key must verify it.
//
//   node wechatpay-pays.mjs '{"pays":[OBJECT],"appid":ID,"mchid":ID,"merchant_private_key":PEM,
//                             "merchant_public_key":PEM}'
//
// WECHATPAY_SDK is the folder of the package `wechatpay-axios-plugin`. The last line is one JSON
// object.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

import { conclude, given, passed } from './script.mjs';

const require = createRequire(import.meta.url);
const { Formatter, Rsa } = require(process.env.WECHATPAY_SDK);
const own = Rsa.from(given.merchant_private_key, Rsa.KEY_TYPE_PRIVATE);
const shown = Rsa.from(given.merchant_public_key, Rsa.KEY_TYPE_PUBLIC);

for (const pay of given.pays) {
  const { sign, ...content } = pay.paySign ? ofPage(pay) : ofApp(pay);
  const text = Formatter.joinedByLineFeed(...Object.values(content));
  assert.equal(sign, Rsa.sign(text, own));
  assert.equal(Rsa.verify(text, sign, shown), true);
  assert.equal(Rsa.verify(`${text}\n`, sign, shown), false);
  passed(pay.paySign ? 'page' : 'app');
}
conclude();

// What is signed, in the order in which it is signed.
function ofPage({ appId, timeStamp, nonceStr, package: bought, signType, paySign, ...more }) {
  assert.deepEqual(more, {});
  assert.deepEqual([appId, signType], [given.appid, 'RSA']);
  assert.match(bought, /^prepay_id=wx\w+$/);
  isRecent(timeStamp);
  return { appId, timeStamp, nonceStr, bought, sign: paySign };
}

function ofApp({ appid, partnerid, prepayid, package: bought, noncestr, timestamp, sign, ...more }) {
  assert.deepEqual(more, {});
  assert.deepEqual([appid, partnerid, bought], [given.appid, given.mchid, 'Sign=WXPay']);
  assert.match(prepayid, /^wx\w+$/);
  isRecent(timestamp);
  return { appid, timestamp, noncestr, prepayid, sign };
}

// Seconds as text: WeChat takes no number there.
function isRecent(timestamp) {
  assert.match(timestamp, /^\d{10}$/);
  assert.ok(Math.abs(Formatter.timestamp() - timestamp) < 300);
}
