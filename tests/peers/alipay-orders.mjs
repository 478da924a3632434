// Alipay's own SDK for Node against the orders that our plugin signs.
//
// A page's address and an order for the app are never sent by us, so no gateway tells whether they
// are well formed. The SDK makes the same order from the same content; RSA2 is deterministic, so
// every parameter and the signature must be the same.
//
//   node alipay-orders.mjs '{"orders":[TEXT],"app_id":ID,"app_private_key":PEM}'
//
// ALIPAY_SDK is the folder of the package `alipay-sdk`. The last line is one JSON object.

import assert from 'node:assert/strict';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { conclude, given, passed } from './script.mjs';

const entry = path.join(process.env.ALIPAY_SDK, 'dist', 'esm', 'index.js');
const { AlipaySdk } = await import(pathToFileURL(entry).href);

const sdk = new AlipaySdk({
  appId: given.app_id,
  privateKey: given.app_private_key,
  keyType: 'PKCS8',
});
for (const order of given.orders) {
  const ours = Object.fromEntries(pairs(order));
  const more = { format: ours.format, timestamp: ours.timestamp };
  if (ours.notify_url) more.notifyUrl = ours.notify_url;
  if (ours.return_url) more.returnUrl = ours.return_url;
  const bizContent = JSON.parse(ours.biz_content);
  const theirs = Object.fromEntries(pairs(sdk.sdkExecute(ours.method, { ...more, bizContent })));
  assert.deepEqual(ours, theirs, ours.method);
  passed(ours.method);
}
conclude();

// As Alipay's app reads an order: a `+` is a `+`.
function pairs(order) {
  return order.split('&').map((pair) => {
    const at = pair.indexOf('=');
    return [pair.slice(0, at), decodeURIComponent(pair.slice(at + 1))];
  });
}
