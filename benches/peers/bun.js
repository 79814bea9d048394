// Bun with its native publish/subscribe.
//
//   bun benches/peers/bun.js --port PORT [--echo]

const echo = process.argv.includes("--echo");
const port = Number(process.argv[process.argv.indexOf("--port") + 1]);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port,
  fetch(request, server) {
    const role = echo ? "/echo" : new URL(request.url).pathname;
    return server.upgrade(request, { data: { role } }) ? undefined : new Response(null, { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    maxPayloadLength: 64 << 20,
    // Above it messages are dropped: out of reach, so that all servers do the same work.
    backpressureLimit: 1 << 30,
    open(ws) {
      if (ws.data.role === "/sub") ws.subscribe("room");
    },
    message(ws, message) {
      if (ws.data.role === "/pub") server.publish("room", message);
      else if (ws.data.role === "/echo") ws.send(message);
    },
  },
});
