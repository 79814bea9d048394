// An HTTP server of Node: its parser is llhttp, whose version it prints, and its port. Answers 200 when a request has
// come whole.
import http from "node:http";

const server = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => response.end());
});
server.on("upgrade", (request, socket) => socket.end("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
server.on("connect", (request, socket) => socket.end("HTTP/1.1 200 OK\r\n\r\n"));
server.listen(0, "127.0.0.1", () => {
  console.log(process.versions.llhttp);
  console.log(server.address().port);
});
