// The reference library of Standard Webhooks against the messages that the proxy tells merchants.
//
// It verifies each message as a merchant would, and must refuse it when a byte is changed, when
// another key signed it, and when it is too old.
//
//   node hooks.mjs '{"key":"whsec_...","other":"whsec_...","messages":[{"body":TEXT,"headers":{}}]}'
//
// WEBHOOKS is the folder of the package `standardwebhooks`. The last line is one JSON object.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

import { conclude, given, passed } from './script.mjs';

const require = createRequire(import.meta.url);
const { Webhook } = require(process.env.WEBHOOKS);
const ours = new Webhook(given.key);
const strange = new Webhook(given.other);

for (const { body, headers } of given.messages) {
  const read = ours.verify(body, headers);
  assert.equal(read.id, headers['webhook-id']);
  assert.match(read.type, /^(payment|refund)\.[a-z_]+$/);
  assert.ok(!Number.isNaN(Date.parse(read.timestamp)));
  assert.equal(typeof read.data.id, 'string');
  assert.throws(() => ours.verify(`${body} `, headers), 'a changed body');
  assert.throws(() => ours.verify(body, { ...headers, 'webhook-id': 'evt_other' }), 'another id');
  assert.throws(() => strange.verify(body, headers), 'another key');
  const old = String(Number(headers['webhook-timestamp']) - 3600);
  assert.throws(() => ours.verify(body, { ...headers, 'webhook-timestamp': old }), 'another time');
  passed(read.type);
}

conclude();
