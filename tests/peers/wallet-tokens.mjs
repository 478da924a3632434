// Two libraries that merchants open wallets' tokens with, against tokens that are made here.
//
// Whoever makes tokens for tests and whoever opens them could agree on the same mistake, so a
// library that nobody here wrote opens them too. These check no signature, no chain, no time, and
// Apple's not even the tag of what is sealed: what they prove is that keys are agreed on, derived
// and used as the wallets say, and that what lies inside has the wallets' own names.
//
//   node wallet-tokens.mjs '{"apple":[{"token":JSON,"private_key":PEM,"merchant_id":TEXT,
//                                      "certificate":PEM,"inside":{...}}],
//                            "google":[{"token":JSON,"private_key":PEM,"inside":{...}}]}'
//
// Apple's needs one of `merchant_id` and `certificate`, and a token of RSA_v1 neither. `inside` has
// any of number, expiry_month, expiry_year, cryptogram, eci, and Apple's amount and currency (a
// number, as on the wire). PEERS is the folder of the packages. The last line is one JSON object.

import assert from 'node:assert/strict';
import { createHash, createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { createRequire } from 'node:module';
import path from 'node:path';

import { conclude, given, passed } from './script.mjs';

const require = createRequire(path.join(process.env.PEERS, 'package.json'));
const { ApplePaymentTokenContext } = require('@basis-theory/apple-pay-js');
const { GooglePaymentMethodTokenContext } = require('@basis-theory/google-pay-js');
const forge = require('node-forge');

// Where Apple's certificates of merchants name the merchant.
const MERCHANT_ID = '1.2.840.113635.100.6.32';

for (const one of given.apple ?? []) {
  const token = read(one.token);
  const paymentData = token.paymentData ?? token;
  const opened = appleWith(one, one.private_key).decrypt(paymentData);
  compare(inApple(opened), one.inside);
  assert.throws(() => appleWith(one, strangersKey(one.private_key)).decrypt(paymentData));
  passed(`apple_pay ${paymentData.version}`);
}
for (const one of given.google ?? []) {
  const token = read(one.token);
  compare(inGoogle(googleWith(one.private_key).decrypt(token)), one.inside);
  assert.throws(() => googleWith(strangersKey(one.private_key)).decrypt(token));
  const signed = JSON.parse(token.signedMessage);
  const altered = { ...signed, tag: createHash('sha256').digest('base64') };
  const forged = { ...token, signedMessage: JSON.stringify(altered) };
  assert.throws(() => googleWith(one.private_key).decrypt(forged));
  passed(`google_pay ${token.protocolVersion}`);
}
conclude();

function appleWith({ merchant_id: name, certificate }, key) {
  const certificatePem = Buffer.from(certificate ?? certificateOf(name ?? 'nobody'));
  const privateKeyPem = keyOf(key, 'pkcs8');
  return new ApplePaymentTokenContext({ merchants: [{ certificatePem, privateKeyPem }] });
}

function googleWith(key) {
  const privateKeyPem = keyOf(key, 'sec1');
  return new GooglePaymentMethodTokenContext({ merchants: [{ privateKeyPem }] });
}

function inApple(opened) {
  const [, year, month] = opened.applicationExpirationDate.match(/^(\d\d)(\d\d)\d\d$/);
  return {
    number: opened.applicationPrimaryAccountNumber,
    expiry_month: Number(month),
    expiry_year: 2000 + Number(year),
    cryptogram: opened.paymentData.onlinePaymentCryptogram,
    eci: opened.paymentData.eciIndicator,
    amount: opened.transactionAmount,
    currency: opened.currencyCode,
  };
}

function inGoogle({ paymentMethodDetails: card }) {
  return {
    number: card.pan,
    expiry_month: card.expirationMonth,
    expiry_year: card.expirationYear,
    cryptogram: card.cryptogram,
    eci: card.eciIndicator,
  };
}

function compare(opened, inside = {}) {
  assert.ok(/^\d{12,19}$/.test(opened.number), 'no number of a card');
  for (const [name, value] of Object.entries(inside)) {
    assert.ok(name in opened, `not a name of what is inside: ${name}`);
    assert.equal(opened[name], value, name);
  }
}

// The token as the merchant has it, or as text.
function read(token) {
  return typeof token === 'string' ? JSON.parse(token) : token;
}

// The libraries differ in the forms of a key that they read.
function keyOf(pem, type) {
  const key = createPrivateKey(pem);
  return key.export({ type: key.asymmetricKeyType === 'ec' ? type : 'pkcs8', format: 'pem' });
}

function strangersKey(pem) {
  const kind = createPrivateKey(pem).asymmetricKeyType;
  const { privateKey } = generateKeyPairSync(kind, { namedCurve: 'P-256', modulusLength: 2048 });
  return privateKey.export({ type: 'pkcs8', format: 'pem' });
}

// The library wants a certificate, and reads nothing of it but the merchant that it names.
function certificateOf(merchant) {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = (key, type) => key.export({ type, format: 'pem' });
  const { asn1, pki } = forge;
  const hash = createHash('sha256').update(merchant).digest('hex');
  const named = asn1.create(asn1.Class.UNIVERSAL, asn1.Type.UTF8, false, hash);
  const certificate = pki.createCertificate();
  certificate.publicKey = pki.publicKeyFromPem(pem(publicKey, 'spki'));
  certificate.validity.notAfter = new Date(Date.now() + 3_600_000);
  certificate.setExtensions([{ id: MERCHANT_ID, value: asn1.toDer(named).getBytes() }]);
  certificate.sign(pki.privateKeyFromPem(pem(privateKey, 'pkcs8')), forge.md.sha256.create());
  return pki.certificateToPem(certificate);
}
