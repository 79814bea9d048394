// One node of a Socket.IO server with one of its Redis adapters, as its documentation shows it.
//
//   node socketio.mjs PORT REDIS_PORT pubsub|streams
import { createServer } from "node:http";
import { createAdapter as pubsub } from "@socket.io/redis-adapter";
import { createAdapter as streams } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, redisPort, kind] = process.argv.slice(2);
const connect = async () => {
  const client = createClient({ url: `redis://127.0.0.1:${redisPort}` });
  client.on("error", () => {}); // It connects again by itself.
  await client.connect();
  return client;
};
const adapter = kind === "streams" ? streams(await connect()) : pubsub(await connect(), await connect());
const http = createServer((request, response) => response.end("ok"));
const io = new Server(http, {
  adapter,
  // Only the streams adapter can restore a connection's state.
  ...(kind === "streams" && { connectionStateRecovery: { maxDisconnectionDuration: 120_000 } }),
});
io.on("connection", (socket) => {
  socket.on("join", (room, done) => (socket.join(room), done()));
  socket.on("publish", (room, message, done) => {
    io.to(room).emit("message", message);
    done();
  });
});
process.on("unhandledRejection", () => {});
http.listen(Number(port), "127.0.0.1", () => console.log("ready"));
