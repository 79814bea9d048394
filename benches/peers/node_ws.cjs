// Node with the package ws: a loop over the subscribers, as its documentation shows.
//
//   NODE_PATH=.../node_modules node benches/peers/node_ws.cjs --port PORT [--echo]

const { WebSocket, WebSocketServer } = require("ws");

const echo = process.argv.includes("--echo");
const port = Number(process.argv[process.argv.indexOf("--port") + 1]);

const subscribers = new Set();
const server = new WebSocketServer({
  host: "127.0.0.1",
  port,
  backlog: 4096,
  perMessageDeflate: false,
  maxPayload: 64 << 20,
});

server.on("connection", (ws, request) => {
  ws.on("error", () => ws.terminate());
  if (echo) {
    ws.on("message", (data, binary) => ws.send(data, { binary }));
  } else if (request.url === "/sub") {
    subscribers.add(ws);
    ws.on("close", () => subscribers.delete(ws));
  } else if (request.url === "/pub") {
    ws.on("message", (data, binary) => {
      for (const subscriber of subscribers) {
        if (subscriber.readyState === WebSocket.OPEN) subscriber.send(data, { binary });
      }
    });
  }
});
