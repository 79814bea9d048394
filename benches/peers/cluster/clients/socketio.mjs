// Socket.IO's own client, connecting to the next node when the present one is gone.
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";

const server = fileURLToPath(new URL("../socketio.mjs", import.meta.url));

function connect({ ports }) {
  let at = 0;
  const socket = io(`http://127.0.0.1:${ports[0]}`, { transports: ["websocket"], reconnectionDelay: 100, reconnectionDelayMax: 1_000, timeout: 2_000, forceNew: true });
  socket.io.on("reconnect_attempt", () => {
    at += 1;
    socket.io.uri = `http://127.0.0.1:${ports[at % ports.length]}`;
  });
  return socket;
}

const connected = (socket) => new Promise((done) => socket.once("connect", done));

export const SocketIo = {
  server: (run, { port, redis, system }) => run("node", [server, port, redis, system.split("-")[1]]),

  async ready(port) {
    return fetch(`http://127.0.0.1:${port}/`).then(
      ({ ok }) => ok,
      () => false,
    );
  },

  async subscribe(options, take) {
    const socket = connect(options);
    const me = { told: 0, cut: () => socket.io.engine?.close() };
    socket.on("message", ({ publisher, number }) => take(publisher, number));
    await connected(socket);
    await socket.emitWithAck("join", "room");
    socket.on("connect", () => {
      if (socket.recovered) return;
      // The client can tell that it may have missed something.
      me.told += 1;
      socket.emit("join", "room", () => {});
    });
    return me;
  },

  async publisher(options) {
    const socket = connect(options);
    await connected(socket);
    return {
      publish: (message) =>
        socket.connected
          ? socket
              .timeout(options.answerMs)
              .emitWithAck("publish", "room", message)
              .then(
                () => true,
                () => false,
              )
          : Promise.resolve(false),
    };
  },
};
