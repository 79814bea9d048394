// A subscriber that misses nothing: it connects again by itself, and goes on where it was. For browsers, and for Node with
// the package `ws` (or Node 22, which has a WebSocket of its own).
//
//   const follower = follow("wss://example.org/", ["workflow:42"], {
//     onEvent: (message) => console.log(message.offset, message.event, message.data),
//     onLost: (channel, reason) => {}, // the server could not give what came in between: read the state anew
//   });
//
// Events come in the order in which they were published, each once, over breaks of the connection too. `follower.positions`
// says where each channel stands; store it with what you made of the events, and give it as `positions` after a reload of
// the page or a restart of the program. See docs/history.md.
//
// With `session: {}` the server keeps what is subscribed to while the connection is gone: many channels come back by one
// message, and who is a member of a channel (`presence: true`) stays one, unnoticed by others, for `session: { ttl: seconds }`
// at most.

// Closes after which it is no use to come again with the same token: docs/protocol.md, close codes.
const FINAL = new Set([1002, 1007, 1008, 1009]);
// Errors of a server that is busy.
const LATER = new Set(["RATE_LIMIT_EXCEEDED", "SERVER_ERROR"]);
// A close by which a session does not end: any code from 3000 to 4999.
const BACK_SOON = 4000;
// Requests about the session, by their ids.
const KEEP = "keep the session";
const RESUME = "resume the session";

/**
 * Options besides those above: `token`; `positions`, `{channel: {epoch, offset, id}}`; `onRefused(why)`, when coming again is no
 * use; `onState(connected)`; `silenceMs`, after how long without a message the server is asked whether it is there, and after
 * how long without an answer the connection counts as broken: a browser does not tell when the network is gone; `backoffMs`,
 * first and longest pause between attempts; `WebSocket`, where it is no global; `session`, an object that is kept up to date:
 * its `name` is a secret, by which whoever is the same user has the session, which ends with `close()`; `presence`, what
 * `subscribe` takes: then `onEvent` hears who comes and goes as well, as `presence.…` events.
 */
export function follow(url, channels, options) {
  const { onEvent, onLost, onRefused, onState, token, silenceMs = 20_000, backoffMs = [100, 10_000] } = options;
  const { WebSocket = globalThis.WebSocket, positions = {}, session, presence } = options;
  let socket, alarm, asked, ended = false, delay = backoffMs[0];

  const request = (event, id, data) => socket.send(JSON.stringify({ type: "request", event, id, data }));

  function connect() {
    clearTimeout(alarm);
    const mine = (socket = new WebSocket(url));
    mine.onopen = () => token && request("auth", "auth", { token });
    mine.onmessage = ({ data }) => socket === mine && (listen(), hear(JSON.parse(data)));
    mine.onclose = ({ code, reason }) => {
      const final = FINAL.has(code) || reason === "Resumed elsewhere";
      if (socket === mine) lose(final ? reason || String(code) : null);
    };
    mine.onerror = () => {}; // Its close follows.
    listen();
  }

  /** Something came: the server is there, and asked again only after another silence. */
  function listen() {
    asked = false;
    clearTimeout(alarm);
    alarm = setTimeout(silence, silenceMs);
  }

  function silence() {
    if (asked || socket.readyState !== 1) return lose(null);
    asked = true;
    socket.send(JSON.stringify({ type: "ping", id: "alive" }));
    alarm = setTimeout(silence, silenceMs);
  }

  /** This connection is over. */
  function lose(refused) {
    const old = socket;
    socket = undefined;
    old?.close(BACK_SOON);
    clearTimeout(alarm);
    onState?.(false);
    if (refused !== null) return end(refused);
    if (ended) return;
    // All clients of a server that was started again must not come at one moment.
    alarm = setTimeout(connect, Math.random() * delay);
    delay = Math.min(delay * 2, backoffMs[1]);
  }

  function end(refused) {
    ended = true;
    globalThis.removeEventListener?.("online", online);
    onRefused?.(refused);
  }

  /** Asks for what is to be heard. */
  function begin() {
    if (session?.name) {
      const known = channels.filter((channel) => positions[channel]).map((channel) => [channel, positions[channel]]);
      return request("resume_session", RESUME, { session: session.name, positions: Object.fromEntries(known) });
    }
    if (session) request("keep_session", KEEP, session.ttl ? { ttl: session.ttl } : {});
    channels.forEach(subscribe);
  }

  function subscribe(channel) {
    request("subscribe", channel, presence ? { ...wish(channel), presence } : wish(channel));
  }

  function resumed({ subscriptions }) {
    const answers = subscriptions.filter(({ error }) => !error);
    answers.forEach(subscribed);
    const there = new Set(answers.map(({ channel }) => channel));
    channels.filter((channel) => !there.has(channel)).forEach(subscribe);
  }

  function fail({ error_code: code, error_message: text, correlation_id: id }) {
    if (id === KEEP) return; // Then without: positions are enough to miss nothing.
    if (code !== "SESSION_UNKNOWN") return lose(LATER.has(code) ? null : text);
    delete session.name; // Away for too long, or another server.
    begin();
  }

  function hear(message) {
    if (message.type === "error") fail(message);
    else if (message.event === "session.created") {
      begin();
      onState?.(true);
    } else if (message.type === "response" && message.event === "subscribe") subscribed(message.data);
    else if (message.type === "response" && message.event === "resume_session") resumed(message.data);
    else if (message.type === "response" && message.event === "keep_session") session.name = message.data.session;
    // Too slow, and some were left out: they are fetched as after a break.
    else if (message.event === "channel.gap") lose(null);
    else if (message.type === "event" && channels.includes(message.room)) {
      onEvent(message);
      const position = positions[message.room];
      if (position && "offset" in message) Object.assign(position, { offset: message.offset, id: message.id });
    }
  }

  function wish(channel) {
    const recover = positions[channel];
    return recover ? { channel, recover } : { channel, positions: true };
  }

  /** Notes where a channel stands. */
  function subscribed({ channel, epoch, offset, recovered, reason = "off" }) {
    delay = backoffMs[0];
    // What was missed comes next, from where we stand.
    if (recovered) return;
    const before = positions[channel];
    if (epoch) positions[channel] = { epoch, offset };
    if (before) onLost?.(channel, reason);
  }

  /** The network is back, says the browser: no need to wait for the next attempt. */
  const online = () => !ended && (socket ? lose(null) : connect());
  globalThis.addEventListener?.("online", online);
  connect();

  return {
    positions,
    close() {
      ended = true;
      globalThis.removeEventListener?.("online", online);
      clearTimeout(alarm);
      const last = socket;
      socket = undefined;
      last?.close(1000);
    },
  };
}
