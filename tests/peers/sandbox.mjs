// The sandbox as every provider's script sees it: its control, its ledger, and a merchant's own
// address for what it notifies.
//
// Of what a script is given, `control` is the sandbox's own URL, and `account` the account that it
// is about.

import assert from 'node:assert/strict';
import http from 'node:http';

import { given } from './script.mjs';

// How long a notification may take to come.
const PATIENCE_MS = 10_000;

// A number that no payment had before, and that every provider takes.
export function order(kind) {
  return `${kind}${Date.now()}${Math.floor(Math.random() * 1e6)}`;
}

export async function tryControl(method, path, body) {
  const answer = await fetch(given.control + path, {
    method,
    headers: { 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  return { status: answer.status, body: await answer.json() };
}

export async function control(method, path, body) {
  const answer = await tryControl(method, path, body);
  assert.equal(answer.status, 200, `${method} ${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

// What happens at the provider by itself, without a request of the merchant's.
export function portal(what) {
  return control('POST', '/portal', { account: given.account, ...what });
}

// What the shopper does.
export function act(what) {
  return control('POST', '/customers/act', { account: given.account, ...what });
}

// Turns a dial of the account; answers its number.
export async function setFault(fault) {
  return (await control('POST', '/faults', { account: given.account, ...fault })).id;
}

export function clearFault(id) {
  return control('DELETE', `/faults/${id}`);
}

export function movements() {
  return control('GET', `/ledger?account=${given.account}`);
}

// What moved of one payment, in order.
export async function ledger(reference) {
  const all = await movements();
  return all.filter((m) => m.reference === reference).map((m) => [m.kind, m.amount]);
}

// Receives notifications as a merchant would, at `port` or at any. `read` is given the text and the
// headers of one, and answers what to say to it and what is heard, by name.
export async function listen(read, port = 0) {
  const seen = new Map();
  const waiting = new Map();
  const server = http.createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const { status = 200, body, heard } = read(text, request.headers);
    response.writeHead(status).end(body);
    for (const [name, message] of heard) {
      seen.set(name, message);
      waiting.get(name)?.(message);
    }
  });
  await new Promise((ready) => server.listen(port, '127.0.0.1', ready));
  const heard = (name) =>
    new Promise((found, missing) => {
      if (seen.has(name)) return found(seen.get(name));
      waiting.set(name, found);
      setTimeout(() => missing(new Error(`no notification: ${name}`)), PATIENCE_MS).unref();
    });
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${server.address().port}/notify`, heard, stop };
}
