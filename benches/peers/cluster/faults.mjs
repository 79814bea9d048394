// Three nodes and one Redis under load, and something breaks: what is lost, doubled, out of order, and for how long it is
// silent. The same load and the same faults for each system; scripts/bench-faults runs it and says how.
//
//   node faults.mjs SYSTEM FAULT [--subscribers 60] [--publishers 10] [--rate 20] [--seconds 20]
//
// Prints one JSON object. Only what a publisher was told is published counts as lost if a subscriber never gets it. A
// message that was given up by its publisher, because no answer came, is not repeated, by none of the systems.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { SocketIo } from "./clients/socketio.mjs";
import { Mahavishnu } from "./clients/mahavishnu.mjs";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    subscribers: { type: "string", default: "60" },
    publishers: { type: "string", default: "10" },
    rate: { type: "string", default: "20" },
    seconds: { type: "string", default: "20" },
  },
});
const [system, fault] = positionals;
const [subscribers, publishers, rate, seconds] = ["subscribers", "publishers", "rate", "seconds"].map((name) => Number(values[name]));
const NODES = 3;
// How long a publisher waits for an answer, and subscribers at the end for what is still to come.
const ANSWER_MS = 10_000;
const QUIET_MS = 3_000;
const END_MS = 40_000;

const directory = mkdtempSync(join(tmpdir(), "faults-"));
const children = new Set();

function run(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"], ...options });
  child.stdout.resume();
  child.on("error", () => {});
  children.add(child);
  child.on("exit", () => children.delete(child));
  return child;
}

const freePort = () =>
  new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

async function until(what, condition, ms = 30_000) {
  const end = Date.now() + ms;
  while (Date.now() < end) {
    if (await condition()) return;
    await sleep(50);
  }
  throw new Error(`not in time: ${what}`);
}

class Redis {
  async start(port) {
    this.port = port;
    this.child = run("redis-server", ["--port", port, "--dir", directory, "--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    await until("Redis", async () => (await this.command("ping")).includes("PONG"));
  }

  async command(...words) {
    const child = spawn("redis-cli", ["-p", this.port, ...words], { stdio: ["ignore", "pipe", "ignore"] });
    let text = "";
    child.stdout.on("data", (data) => (text += data));
    await new Promise((done) => child.on("close", done));
    return text;
  }
}

/** What a subscriber has got, in its order. */
class Received {
  order = [];
  seen = new Map();
  longest = 0;
  last = undefined;

  take(publisher, number) {
    const now = performance.now();
    if (this.last !== undefined) this.longest = Math.max(this.longest, now - this.last);
    this.last = now;
    const key = publisher * 1e9 + number;
    this.seen.set(key, (this.seen.get(key) ?? 0) + 1);
    this.order.push([publisher, number]);
  }

  /**
   * How often a publisher's later message came before an earlier one; a message that comes again is not counted twice, and of
   * one that was given up nobody expects when it comes: its publisher has gone on elsewhere.
   */
  outOfOrder(acknowledged) {
    const last = new Map();
    const known = new Set();
    let count = 0;
    for (const [publisher, number] of this.order) {
      const key = publisher * 1e9 + number;
      if (known.has(key) || !acknowledged.has(key)) continue;
      known.add(key);
      if (number < (last.get(publisher) ?? -1)) count += 1;
      last.set(publisher, Math.max(number, last.get(publisher) ?? -1));
    }
    return count;
  }
}

const faults = {
  async none() {},
  async "node killed"(nodes) {
    nodes[0].child.kill("SIGKILL");
  },
  async "node stopped 8 s"(nodes) {
    nodes[0].child.kill("SIGSTOP");
    await sleep(8_000);
    nodes[0].child.kill("SIGCONT");
  },
  async "Redis killed and started"(nodes, redis) {
    redis.child.kill("SIGKILL");
    await sleep(1_000);
    await redis.start(redis.port);
  },
  async "Redis stopped 8 s"(nodes, redis) {
    redis.child.kill("SIGSTOP");
    await sleep(8_000);
    redis.child.kill("SIGCONT");
  },
  async "connections to Redis cut"(nodes, redis) {
    for (let times = 0; times < 5; times += 1) {
      await redis.command("client", "kill", "type", "normal");
      await redis.command("client", "kill", "type", "pubsub");
      await sleep(200);
    }
  },
  async "subscribers' network cut"(nodes, redis, clients) {
    for (const client of clients) client.cut();
  },
};

async function main() {
  const kind = { mahavishnu: Mahavishnu, "socketio-pubsub": SocketIo, "socketio-streams": SocketIo }[system];
  if (!kind || !faults[fault]) throw new Error(`systems: mahavishnu socketio-pubsub socketio-streams; faults: ${Object.keys(faults).join(", ")}`);
  const redis = new Redis();
  await redis.start(await freePort());
  const nodes = [];
  for (let at = 0; at < NODES; at += 1) {
    const port = await freePort();
    nodes.push({ port, child: kind.server(run, { port, redis: redis.port, system, at, metrics: await freePort(), directory }) });
  }
  await Promise.all(nodes.map(({ port }) => until("a node", () => kind.ready(port))));
  const ports = nodes.map(({ port }) => port);
  const options = (at) => ({ ports: [...ports.slice(at % NODES), ...ports.slice(0, at % NODES)], answerMs: ANSWER_MS });

  const received = Array.from({ length: subscribers }, () => new Received());
  const listeners = await Promise.all(received.map((mine, at) => kind.subscribe(options(at), (publisher, number) => mine.take(publisher, number))));
  const senders = await Promise.all(Array.from({ length: publishers }, (_, at) => kind.publisher(options(at))));
  await sleep(500);

  const acknowledged = new Set();
  let refused = 0;
  let sent = 0;
  const sending = [];
  const end = performance.now() + seconds * 1_000;
  const load = senders.map(async (sender, publisher) => {
    for (let number = 0; performance.now() < end; number += 1) {
      sent += 1;
      const answer = sender.publish({ publisher, number }).then((ok) => (ok ? acknowledged.add(publisher * 1e9 + number) : (refused += 1)));
      sending.push(answer);
      await sleep(1_000 / rate);
    }
  });
  await sleep(4_000);
  await faults[fault](nodes, redis, listeners);
  await Promise.all(load);
  await Promise.all(sending);
  // Until everything is there, or nothing has come for some time.
  const complete = () => received.every((mine) => [...acknowledged].every((key) => mine.seen.has(key)));
  const quiet = () => received.every((mine) => mine.last === undefined || performance.now() - mine.last > QUIET_MS * 4);
  await until("the end", async () => complete() || quiet(), END_MS).catch(() => {});
  await sleep(QUIET_MS);

  const lost = received.map((mine) => [...acknowledged].filter((key) => !mine.seen.has(key)).length);
  const doubled = received.map((mine) => [...mine.seen.values()].filter((times) => times > 1).length);
  const sum = (list) => list.reduce((total, one) => total + one, 0);
  const report = {
    system,
    fault,
    sent,
    acknowledged: acknowledged.size,
    refused,
    lost: sum(lost),
    subscribers_that_lost: lost.filter(Boolean).length,
    told: sum(listeners.map((one) => one.told ?? 0)),
    doubled: sum(doubled),
    out_of_order: sum(received.map((mine) => mine.outOfOrder(acknowledged))),
    longest_silence_ms: Math.round(Math.max(...received.map((mine) => mine.longest))),
  };
  console.log(JSON.stringify(report));
}

let status = 0;
try {
  await main();
} catch (error) {
  console.error(String(error.stack ?? error));
  status = 1;
}
for (const child of children) child.kill("SIGKILL");
rmSync(directory, { recursive: true, force: true });
process.exit(status);
