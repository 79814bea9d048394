// The product, by the client that it offers for copying, which goes to the next node when the present one is gone.
import WebSocket from "ws";
import { follow } from "../../../../clients/js/recovering.mjs";

const CHANNEL = "workflow:faults";
const binary = process.env.MAHAVISHNU_BIN;
const silenceMs = 2_000;

/** A WebSocket that goes to one port after the other, whatever its address says. */
function rotating(ports) {
  let at = 0;
  const sockets = [];
  const kind = function () {
    const socket = new WebSocket(`ws://127.0.0.1:${ports[at % ports.length]}`, { handshakeTimeout: 2_000 });
    at += 1;
    sockets[0] = socket;
    return socket;
  };
  return { kind, cut: () => sockets[0]?.terminate() };
}

export const Mahavishnu = {
  server(run, { port, redis, metrics, at, directory }) {
    const env = {
      PATH: process.env.PATH,
      MAHAVISHNU_PORT: String(port),
      MAHAVISHNU_METRICS_PORT: String(metrics),
      MAHAVISHNU_STATE_DIR: `${directory}/node-${at}`,
      MAHAVISHNU_REDIS_HOST: "127.0.0.1",
      MAHAVISHNU_REDIS_PORT: String(redis),
      MAHAVISHNU_NODE_NAME: `node-${at}`,
      MAHAVISHNU_HISTORY: "20000/300",
      MAHAVISHNU_RECOVER_MAX: "20000",
      MAHAVISHNU_MESSAGE_RATE_LIMIT: "100000",
    };
    return run(binary, ["websocket", "start"], { env, cwd: directory });
  },

  async ready(port) {
    return fetch(`http://127.0.0.1:${port}/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  },

  async subscribe({ ports }, take) {
    const { kind, cut } = rotating(ports);
    const me = { told: 0, cut };
    let began;
    const joined = new Promise((done) => (began = done));
    const follower = follow("ws://any", [CHANNEL], {
      WebSocket: kind,
      silenceMs,
      backoffMs: [100, 1_000],
      onEvent: ({ data: { publisher, number } }) => take(publisher, number),
      onLost: () => (me.told += 1),
    });
    const look = setInterval(() => follower.positions[CHANNEL] && (clearInterval(look), began()), 20);
    await joined;
    return me;
  },

  async publisher({ ports, answerMs }) {
    let at = 0;
    let socket;
    let heard = Date.now();
    const waiting = new Map();
    const connect = () => {
      socket = new WebSocket(`ws://127.0.0.1:${ports[at % ports.length]}`, { handshakeTimeout: 2_000 });
      at += 1;
      socket.on("message", (text) => {
        heard = Date.now();
        const { id, type, correlation_id: correlation } = JSON.parse(text);
        const known = waiting.get(correlation) ?? waiting.get(id);
        known?.(type === "response");
      });
      socket.on("error", () => {});
      socket.on("close", () => {
        for (const done of waiting.values()) done(false);
        setTimeout(connect, 100);
      });
    };
    connect();
    await new Promise((done) => socket.once("open", done));
    // A node that is stopped says nothing.
    setInterval(() => waiting.size > 0 && Date.now() - heard > 5_000 && socket.terminate(), 500).unref();
    return {
      publish: (data) =>
        new Promise((done) => {
          if (socket.readyState !== WebSocket.OPEN) return done(false);
          const id = `${data.publisher}-${data.number}`;
          if (waiting.size === 0) heard = Date.now();
          const end = (ok) => {
            clearTimeout(timer);
            waiting.delete(id);
            done(ok);
          };
          const timer = setTimeout(() => end(false), answerMs);
          waiting.set(id, end);
          socket.send(JSON.stringify({ type: "request", event: "publish", id, data: { channel: CHANNEL, event: "workflow.updated", data } }));
        }),
    };
  },
};
