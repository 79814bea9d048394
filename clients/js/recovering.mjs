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

// Closes after which it is no use to come again with the same token: docs/protocol.md, close codes.
const FINAL = new Set([1002, 1007, 1008, 1009]);
// Errors of a server that is busy.
const LATER = new Set(["RATE_LIMIT_EXCEEDED", "SERVER_ERROR"]);

/**
 * Options besides those above: `token`; `positions`, `{channel: {epoch, offset, id}}`; `onRefused(why)`, when coming again is no
 * use; `onState(connected)`; `silenceMs`, after how long without a message the server is asked whether it is there, and after
 * how long without an answer the connection counts as broken: a browser does not tell when the network is gone; `backoffMs`,
 * first and longest pause between attempts; `WebSocket`, where it is no global.
 */
export function follow(url, channels, options) {
  const { onEvent, onLost, onRefused, onState, token, silenceMs = 20_000, backoffMs = [100, 10_000] } = options;
  const { WebSocket = globalThis.WebSocket, positions = {} } = options;
  let socket, alarm, asked, ended = false, delay = backoffMs[0];

  const request = (event, id, data) => socket.send(JSON.stringify({ type: "request", event, id, data }));

  function connect() {
    clearTimeout(alarm);
    const mine = (socket = new WebSocket(url));
    mine.onopen = () => token && request("auth", "auth", { token });
    mine.onmessage = ({ data }) => socket === mine && (listen(), hear(JSON.parse(data)));
    mine.onclose = ({ code, reason }) => socket === mine && lose(FINAL.has(code) ? reason || String(code) : null);
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
    old?.close();
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

  function hear(message) {
    if (message.type === "error") lose(LATER.has(message.error_code) ? null : message.error_message);
    else if (message.event === "session.created") {
      channels.forEach((channel) => request("subscribe", channel, wish(channel)));
      onState?.(true);
    } else if (message.type === "response" && message.event === "subscribe") subscribed(message.data);
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
