// A subscriber and a publisher with the `ws` package.
// Usage: dialogue.mjs WS_URL HTTP_URL [TOKEN]

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { WebSocket } = createRequire(process.env.TEST_MODULES)("ws");
const [url, http, token] = process.argv.slice(2);

/** A client whose messages can be awaited one by one. */
function open(headers = {}) {
  const socket = new WebSocket(url, { headers });
  const heard = [];
  const waiting = [];
  socket.on("message", (text, binary) => {
    assert.equal(binary, false);
    const message = JSON.parse(text);
    const next = waiting.shift();
    next ? next(message) : heard.push(message);
  });
  const closed = new Promise((resolve) => socket.on("close", (code, reason) => resolve([code, String(reason)])));
  const opened = new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
  return {
    opened,
    closed,
    close: () => socket.close(1000),
    send: (message) => socket.send(JSON.stringify(message)),
    next: () => (heard.length ? Promise.resolve(heard.shift()) : new Promise((resolve) => waiting.push(resolve))),
    pong: (payload) => new Promise((resolve) => socket.once("pong", resolve).ping(payload)),
  };
}

async function login(client) {
  await client.opened;
  if (token) {
    client.send({ type: "request", id: "a", event: "auth", data: { token } });
    assert.equal((await client.next()).data.status, "authenticated");
  }
  assert.equal((await client.next()).event, "session.created");
  return client;
}

const reader = await login(open());
reader.send({ type: "request", id: "s", event: "subscribe", data: { channel: "workflow:42" } });
const subscribed = await reader.next();
assert.equal(subscribed.correlation_id, "s");
assert.equal(subscribed.data.status, "subscribed");

for (let n = 0; n < 50; n++) {
  const data = { n, text: "größer ☃ 𝄞", long: "x".repeat(n * 1000) };
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const body = JSON.stringify({ channel: "workflow:42", event: "workflow.started", data });
  const answer = await fetch(`${http}/publish`, { method: "POST", headers, body });
  assert.equal(answer.status, 200);
  assert.equal((await answer.json()).subscribers, 1);
  const event = await reader.next();
  assert.equal(event.event, "workflow.started");
  assert.deepEqual(event.data, data);
}
assert.equal(String(await reader.pong("payload")), "payload");

if (token) {
  const wrong = open();
  await wrong.opened;
  wrong.send({ type: "request", event: "auth", data: { token: "x.y.z" } });
  assert.equal((await wrong.next()).error_code, "AUTH_FAILED");
  assert.deepEqual(await wrong.closed, [1008, "Authentication failed"]);
  const byHeader = open({ authorization: `Bearer ${token}` });
  assert.equal((await byHeader.next()).data.authenticated, true);
  byHeader.close();
}

reader.close();
assert.deepEqual(await reader.closed, [1000, ""]);
console.log("ok");
