// The page: health, numbers, and a console. All that comes from elsewhere is put in as text, never as HTML.
import { Connection } from "./connection.js";

const STATISTICS = "system:stats";
/** What a chart shows: the last minute at first, and then more until it is this many. */
const MINUTES_MAX = 5;
/** Entries of the console; the oldest go first. */
const LOG_MAX = 200;
/** Entries that are drawn at a time, at most so often; of more, the newest are. */
const BURST_MAX = 20;
const DRAW_MS = 250;
const TEXT_MAX = 2_000;
const HEALTH_MS = 10_000;
/** Without numbers for so long, those that stand there are old. */
const STALE_MS = 3_500;

const $ = (id) => document.getElementById(id);
const withAuth = document.documentElement.dataset.auth === "required";

/** An element with attributes and children; a child that is no element is text. */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Numbers as people read them.
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const count = (n) => (n >= 1e5 ? compact.format(n) : n >= 100 || Number.isInteger(n) ? whole.format(n) : tenth.format(n));
const many = (n, thing) => `${count(n)} ${thing}${n === 1 ? "" : "s"}`;
const milliseconds = (ms) => (ms >= 1_000 ? [(ms / 1_000).toFixed(1), "s"] : [ms >= 10 ? ms.toFixed(0) : ms.toPrecision(2), "ms"]);
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1_024 && at < units.length - 1) [n, at] = [n / 1_024, at + 1];
  return [at > 0 && n < 10 ? n.toFixed(1) : n.toFixed(0), units[at]];
}
function duration(seconds) {
  const parts = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];
  const [word, size] = parts.find(([, size]) => seconds >= size) ?? parts.at(-1);
  return many(Math.floor(seconds / size), word);
}

// Health: asked over HTTP, so that it is there before any token and when the WebSocket is not.
const CHECKS = {
  websocket: "WebSocket", redis: "Redis", pools: "Application", metrics: "Metrics", accepting: "New clients",
  capacity: "Room", certificate: "Certificate", bus: "Between nodes",
};
const GOOD = new Set(["passing", "valid"]);
const IDLE = new Set(["disabled"]);
let healthy = false;

async function askHealth() {
  const get = async (path) => {
    const answer = await fetch(path, { cache: "no-store", headers: { accept: "application/json" }, signal: AbortSignal.timeout(5_000) });
    return answer.json();
  };
  try {
    const [health, ready] = await Promise.all([get("health"), get("ready")]);
    healthy = health.status === "healthy";
    const isReady = ready.status === "ready";
    const state = healthy && isReady ? "good" : "warn";
    const doing = !healthy ? "Stopping" : isReady ? "Healthy, and ready for clients" : "Healthy, but not ready for new clients";
    say("health", `${doing}. Up for ${duration(health.metrics.uptime_seconds)}.`, state);
    const named = [health.server, ready.node && `node ${ready.node}`].filter((name) => name && name !== "mahavishnu");
    $("name").textContent = named.map((name) => ` · ${name}`).join("");
    document.title = named[0] ? `${named[0]} · Mahavishnu` : "Mahavishnu";
    const checks = Object.entries({ ...health.checks, ...ready.checks }).filter(([, word]) => typeof word === "string");
    $("checks").replaceChildren(...checks.map(([name, word]) => {
      const state = GOOD.has(word) ? "good" : IDLE.has(word) ? "idle" : "warn";
      return make("li", { "data-state": state }, make("span", {}, CHECKS[name] ?? name), ` ${word}`);
    }));
  } catch {
    healthy = false;
    say("health", "The server does not answer.", "bad");
    $("checks").replaceChildren();
  }
}

/** Says something, once: a screen reader repeats what is set again. */
function say(id, text, state) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
  if (state) element.dataset.state = state;
}

// Charts: a line of plain SVG, drawn anew once a second. A library would be larger than all of this page.
class Card {
  #points = [];
  #parts;

  constructor(title, series = 1) {
    const paths = Array.from({ length: series }, (_, at) => make("path", at ? { class: "second" } : {}));
    const area = make("path", { class: "area" });
    this.#parts = { value: make("p", { class: "value" }, "–"), hint: make("p", { class: "hint" }), area, paths };
    const line = make("line", { x1: 0, x2: 300, y1: 47.5, y2: 47.5 });
    this.#parts.svg = make("svg", { viewBox: "0 0 300 48", preserveAspectRatio: "none", role: "img", "aria-label": `${title}: no chart yet` }, line, area, ...paths);
    this.#parts.title = title;
    const { value, hint, svg } = this.#parts;
    $("cards").append(make("div", { class: "card" }, make("h3", {}, title), value, hint, svg));
  }

  /** `at` in seconds; `values` for the chart, null where there is none; `shown`: number and unit; `text` of how large one is. */
  show(at, values, shown, hint, text) {
    const { value, svg, area, paths, title } = this.#parts;
    const [number, unit] = shown ?? ["–", ""];
    value.replaceChildren(number, make("small", {}, unit));
    this.#parts.hint.textContent = hint;
    this.#points.push([at, values]);
    while (this.#points[0][0] < at - MINUTES_MAX * 60) this.#points.shift();
    const span = Math.max(60, at - this.#points[0][0]), x = (when) => (((when - at) / span + 1) * 300).toFixed(1);
    const all = this.#points.flatMap(([, values]) => values).filter((value) => value !== null);
    const top = Math.max(...all, 0) || 1;
    paths.forEach((path, series) => path.setAttribute("d", this.#line(series, x, top)));
    const first = this.#line(0, x, top);
    // Filled below, if it is in one piece.
    const whole = first && first.indexOf("M", 1) < 0;
    const begin = this.#points.find(([, values]) => values[0] !== null)?.[0];
    area.setAttribute("d", whole ? `${first}L300 48L${x(begin)} 48Z` : "");
    const range = all.length ? `between ${text(Math.min(...all))} and ${text(top)}` : "nothing";
    svg.setAttribute("aria-label", `${title}, the last ${duration(span)}: ${range}`);
  }

  #line(series, x, top) {
    let path = "", last = null;
    for (const [at, values] of this.#points) {
      const value = values[series];
      if (value === null) { last = null; continue; }
      // A break where nothing was heard.
      path += `${last === null || at - last > 3 ? "M" : "L"}${x(at)} ${(46 - (value / top) * 43).toFixed(1)}`;
      last = at;
    }
    return path;
  }
}

const cards = {
  connections: new Card("Connections"),
  published: new Card("Published, per second"),
  delivered: new Card("Deliveries, per second"),
  delivery: new Card("Time to deliver", 2),
  answers: new Card("Time to answer", 2),
  refused: new Card("Refused, per second"),
  received: new Card("Messages from clients, per second"),
  traffic: new Card("Traffic, per second", 2),
  memory: new Card("Memory"),
};
const REASONS = {
  auth_failed: "Tokens refused", auth_required: "No token", auth_missing: "No token given", auth_error: "Broken authentication",
  max_connections: "Too many connections", rate_limit: "Too many messages", decode_error: "Not understood", forbidden: "Not permitted",
  send_failed: "Could not be sent", unknown_request: "Unknown requests",
};
let heard = 0;

function showNumbers(n) {
  const at = performance.now() / 1_000;
  heard = performance.now();
  $("live").classList.remove("is-stale");
  const per = (value) => (value === null ? null : [count(value), ""]);
  const text = (unit) => (value) => unit(value).join(" ");
  const { connections, messages, delivery, answers, memory, traffic, channels, slow_readers: slow, refusals, nodes } = n;
  const limit = connections.limit ? `of ${count(connections.limit)} at most` : "";
  const everywhere = nodes?.connections != null ? `, ${count(nodes.connections)} on all nodes` : "";
  cards.connections.show(at, [connections.open], [count(connections.open), ""], limit + everywhere, count);
  const { received_per_second: received, published_per_second: published, delivered_per_second: delivered, refused_per_second: refused } = messages;
  cards.published.show(at, [published], per(published), `to ${many(channels.open, "channel")} with subscribers`, count);
  cards.delivered.show(at, [delivered], per(delivered), `to ${many(channels.subscriptions, "subscription")}`, count);
  const showTimes = (card, { p50_ms: p50, p99_ms: p99 }, none) =>
    card.show(at, [p99, p50], p99 === null ? null : milliseconds(p99), p99 === null ? none : `99 of 100; half within ${text(milliseconds)(p50)}`, text(milliseconds));
  showTimes(cards.delivery, delivery, "nothing published just now");
  showTimes(cards.answers, answers, "nothing asked just now");
  cards.refused.show(at, [refused], per(refused), "and what else went wrong", count);
  cards.received.show(at, [received], per(received), "", count);
  const room = memory.limit_bytes ? `of ${text(bytes)(memory.limit_bytes)}; ` : "";
  cards.memory.show(at, [memory.resident_bytes], bytes(memory.resident_bytes), `${room}${text(bytes)(memory.queued_bytes)} wait for readers`, text(bytes));
  const { received_bytes_per_second: into, sent_bytes_per_second: out } = traffic;
  cards.traffic.show(at, [out, into], out === null ? null : bytes(out), out === null ? "" : `out; in ${text(bytes)(into)}`, text(bytes));

  $("channels-line").textContent = `${many(channels.open, "channel")} with subscribers.`;
  fill("channels", channels.patterns.map(({ pattern, published_per_second: rate, published }) =>
    [pattern, rate === null ? "–" : count(rate), count(published)]), "Nothing was published yet.");
  const silent = nodes?.silent ? `, ${nodes.silent} of them silent` : "";
  $("trouble-line").textContent = nodes ? `${many(nodes.count, "node")}${silent}.` : "";
  const trouble = [
    ["Slow readers closed", slow.closed], ["Messages dropped for slow readers", slow.dropped],
    ...refusals.map(({ reason, count }) => [REASONS[reason] ?? reason.replaceAll("_", " "), count]),
  ].filter(([, count]) => count > 0);
  fill("trouble", trouble.map(([what, n]) => [what, count(n)]), "None.");
}

function fill(id, rows, none) {
  const width = $(id).previousElementSibling.rows[0].cells.length;
  const line = ([first, ...rest]) => make("tr", {}, make("th", { scope: "row" }, first), ...rest.map((cell) => make("td", {}, cell)));
  const lines = rows.map(line);
  $(id).replaceChildren(...(lines.length ? lines : [make("tr", {}, make("td", { class: "none", colspan: width }, none))]));
}

// The console.
let paused = false, pending = [], skipped = 0, drawn = 0, drawing;

function log(kind, title, channel, body) {
  pending.push({ kind, title, channel, body, at: new Date() });
  if (pending.length > BURST_MAX) {
    pending.shift();
    skipped += 1;
  }
  // What comes alone is seen at once.
  drawing ??= setTimeout(draw, Math.max(0, drawn + DRAW_MS - performance.now()));
}

function draw() {
  drawing = undefined;
  if (paused || pending.length === 0) return;
  drawn = performance.now();
  const box = $("log");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.querySelector(":scope > .hint")?.remove();
  if (skipped) pending.unshift({ kind: "note", title: `${count(skipped)} more, too fast to show`, at: pending[0].at });
  box.append(...pending.map(({ kind, title, channel, body, at }) => {
    const entry = make("div", { class: `entry ${kind}` }, make("time", { datetime: at.toISOString() }, at.toLocaleTimeString("en-GB")));
    entry.append(make("p", {}, make("b", {}, title), ...(channel ? [" ", make("i", {}, channel)] : [])));
    if (body) entry.append(make("pre", {}, body.length > TEXT_MAX ? `${body.slice(0, TEXT_MAX)}…` : body));
    return entry;
  }));
  [pending, skipped] = [[], 0];
  while (box.children.length > LOG_MAX) box.firstElementChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function showSubscriptions() {
  const wanted = connection.channels.filter((channel) => channel !== STATISTICS);
  $("subscriptions").replaceChildren(...wanted.map((channel) => {
    const button = make("button", { type: "button", "aria-label": `Leave ${channel}` }, "×");
    button.onclick = () => {
      connection.leave(channel).catch(() => {});
      log("note", "left", channel);
      showSubscriptions();
      $("channel").focus();
    };
    return make("li", {}, channel, button);
  }));
}

$("subscribe-form").onsubmit = async (event) => {
  event.preventDefault();
  const channel = $("channel").value.trim();
  try {
    await connection.join(channel);
    log("note", "subscribed to", channel);
  } catch (error) {
    log("error", error.message, channel);
  }
  showSubscriptions();
};

$("publish-form").onsubmit = async (event) => {
  event.preventDefault();
  const channel = $("channel").value.trim(), name = $("event").value.trim();
  let data;
  try {
    data = JSON.parse($("data").value || "{}");
  } catch {
    data = null;
  }
  if (data === null || typeof data !== "object" || Array.isArray(data)) {
    return say("publish-note", "The data is no JSON object. One is written like this: {\"text\": \"Hello\"}");
  }
  try {
    const { subscribers } = await connection.request("publish", { channel, event: name, data });
    say("publish-note", `Published to ${channel}; reached ${many(subscribers, "subscriber")}.`);
  } catch (error) {
    say("publish-note", `Not published. ${error.message}`);
  }
};

$("pause").onclick = () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  draw();
};
$("clear").onclick = () => {
  [pending, skipped] = [[], 0];
  $("log").replaceChildren();
};

// Lines to try.
function showLines() {
  const http = new URL("./", location.href).href.replace(/\/$/, ""), ws = http.replace(/^http/, "ws");
  const header = withAuth ? ` -H "Authorization: Bearer $MAHAVISHNU_TOKEN"` : "";
  const body = `{"channel":"workflow:42","event":"hello","data":{"text":"Hello"}}`;
  const lines = [
    ["Subscribe", `mahavishnu subscribe --url ${ws} workflow:42`],
    ["Publish", `curl -s -H 'Content-Type: application/json'${header} -d '${body}' ${http}/publish`],
  ];
  $("lines").replaceChildren(...lines.map(([title, line]) => {
    const row = make("div", { class: "row" }, make("h3", {}, title));
    // Only pages that came by HTTPS or from this machine may.
    if (navigator.clipboard) {
      const button = make("button", { type: "button", class: "small", "aria-label": `Copy the line: ${title}` }, "Copy");
      button.onclick = async () => {
        await navigator.clipboard.writeText(line);
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = "Copy"), 2_000);
      };
      row.append(button);
    }
    return make("div", { class: "line" }, row, make("pre", {}, make("code", {}, line)));
  }));
}

// The connection, and what it means for the page.
let failures = 0;
const connection = new Connection(new URL("./", location.href).href.replace(/^http/, "ws"), {
  state(word, detail) {
    const words = { connecting: "Connecting…", open: "Live", away: "Away, trying again", token: "Needs a token" };
    if (word !== "connecting" || failures === 0) say("state", words[word], word === "open" ? "live" : word);
    if (word === "open") {
      failures = 0;
      $("gate").hidden = true;
      $("live").hidden = $("console").hidden = false;
      say("token-error", "");
      askHealth();
      if (!connection.channels.includes(STATISTICS)) watch();
    } else if (word === "away") {
      if (!detail.opened) failures += 1;
      $("live").classList.add("is-stale");
      askHealth().then(explain);
    } else if (word === "token") {
      $("gate").hidden = false;
      $("live").hidden = $("console").hidden = true;
      if (detail) say("token-error", `The server does not take this token. ${detail}`);
      $("token").value = "";
      $("token").focus();
    }
  },
  event(message) {
    if (message.room === STATISTICS) {
      if (message.event === "stats") showNumbers(message.data);
    } else {
      log("event", message.event ?? "", message.room, JSON.stringify(message.data));
    }
  },
  expiring(seconds) {
    $("gate").hidden = false;
    say("token-error", `This token expires in ${duration(seconds)}. With a fresh one the page goes on without a break.`);
  },
  note(channel, text) {
    if (channel !== STATISTICS) log("note", text, channel);
    showSubscriptions();
  },
});

async function watch() {
  const note = (text) => {
    $("live-note").hidden = !text;
    say("live-note", text);
    $("cards").hidden = $("tables").hidden = Boolean(text);
  };
  try {
    await connection.join(STATISTICS);
    note("");
  } catch (error) {
    if (error.code === "FORBIDDEN") {
      note("This token does not permit to see the numbers. One with the permission admin does, or one that the policy lets subscribe to system:stats.");
    } else if (error.code) {
      note(error.message);
    }
  }
}

/** The server answers over HTTP, but refuses this page its WebSocket: the usual reasons. */
function explain() {
  if (failures >= 3 && healthy) {
    say("state", "Refused", "bad");
    $("live").hidden = false;
    $("cards").hidden = $("tables").hidden = true;
    $("live-note").hidden = false;
    say("live-note", `The server answers, but does not let this page connect. Perhaps MAHAVISHNU_ALLOWED_ORIGINS does not name ${location.origin}, a proxy in between does not pass WebSockets on, or there are too many connections.`);
  }
}

$("token-form").onsubmit = async (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  $("console-who").textContent = "this token";
  if ($("state").dataset.state !== "live") {
    say("token-error", "");
    return connection.start(token);
  }
  // The one before is about to expire.
  $("token").value = "";
  try {
    await connection.renew(token);
    $("gate").hidden = true;
    say("token-error", "");
  } catch (error) {
    say("token-error", error.message);
  }
};

showLines();
askHealth();
setInterval(askHealth, HEALTH_MS);
setInterval(() => {
  if (heard && performance.now() - heard > STALE_MS) $("live").classList.add("is-stale");
}, 1_000);
if (withAuth) {
  say("state", "Needs a token", "token");
  $("gate").hidden = false;
} else {
  connection.start();
}
