// The page's connection to its server: comes back by itself, and goes on in every channel where it was (docs/protocol.md).

/** The pause before the first attempt to come back, and the longest one. */
const BACKOFF_MS = [250, 5_000];
/** A handshake that takes longer has failed. */
const OPEN_MS = 10_000;
/** After so long without a word the server is asked whether it is there, and after as long again it is not. */
const SILENCE_MS = 5_000;

/**
 * `url`: where. `on`: what is told.
 * `state(word, detail)`: "connecting", "open", "away" with `{ inMs, opened }`, or "token" with why, when it takes another one.
 * `event(message)`: an event of a channel. `note(channel, text)`: something about one. `expiring(seconds)`: the token, soon.
 */
export class Connection {
  #url;
  #on;
  #token = null;
  #socket = null;
  #timer;
  #delay = BACKOFF_MS[0];
  #opened = false;
  #asked = false;
  #next = 1;
  /** What waits for an answer: by id, what is called with it. */
  #waiting = new Map();
  /** Channels that are wanted, and where each stands: null until it is known. */
  #channels = new Map();

  constructor(url, on) {
    this.#url = url;
    this.#on = on;
  }

  /** Connects, with a token if the server wants one. */
  start(token = null) {
    this.#token = token;
    this.#delay = BACKOFF_MS[0];
    this.#connect();
  }

  get channels() {
    return [...this.#channels.keys()];
  }

  /** Resolves with the answer's `data`; rejects with an error that has the server's words and its `code`. */
  request(event, data) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) return reject(new Error("There is no connection."));
      const id = String(this.#next++);
      this.#waiting.set(id, (answer) => {
        if (answer?.type === "response") return resolve(answer.data);
        const error = new Error(answer?.error_message ?? "The connection was lost before the answer came.");
        error.code = answer?.error_code ?? null;
        reject(error);
      });
      this.#send({ type: "request", event, id, data });
    });
  }

  /** Subscribes, now and whenever the connection comes back, until it is refused or `leave`. */
  async join(channel) {
    const position = this.#channels.get(channel) ?? null;
    this.#channels.set(channel, position);
    const wish = position ? { recover: position } : { positions: true };
    try {
      const { epoch, offset, recovered, reason, missed } = await this.request("subscribe", { channel, ...wish });
      if (!this.#channels.has(channel)) return;
      // What was missed comes next, and each event says how far it is by then.
      if (recovered !== true) this.#channels.set(channel, epoch ? { epoch, offset } : null);
      if (recovered === true && missed > 0) this.#on.note(channel, `caught up with ${missed} missed`);
      if (recovered === false) this.#on.note(channel, `came back; what was published meanwhile is not kept (${reason})`);
    } catch (error) {
      if (error.code) this.#channels.delete(channel);
      throw error;
    }
  }

  /** Puts another token of the same user in the place of the one that it came with. */
  async renew(token) {
    await this.request("refresh_token", { token });
    this.#token = token;
  }

  leave(channel) {
    this.#channels.delete(channel);
    return this.request("unsubscribe", { channel });
  }

  /** The server has gone silent though it should have said something: another attempt. */
  restart() {
    this.#socket?.close(4000);
    this.#lost(4000);
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#on.state("connecting");
    this.#opened = false;
    const socket = (this.#socket = new WebSocket(this.#url));
    const mine = (handler) => (event) => socket === this.#socket && handler(event);
    socket.onopen = mine(() => {
      this.#listen();
      if (this.#token) {
        this.request("auth", { token: this.#token }).catch((error) => error.code && this.#refused(error.message));
      }
    });
    socket.onmessage = mine(({ data }) => {
      this.#listen();
      this.#hear(JSON.parse(data));
    });
    socket.onclose = mine(({ code, reason }) => this.#lost(code, reason));
    this.#timer = setTimeout(() => this.restart(), OPEN_MS);
  }

  #listen() {
    this.#asked = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#silence(), SILENCE_MS);
  }

  #silence() {
    if (this.#asked) return this.restart();
    this.#asked = true;
    this.#send({ type: "ping", id: "alive" });
    this.#timer = setTimeout(() => this.#silence(), SILENCE_MS);
  }

  #hear(message) {
    const { type, event, data, correlation_id: id, room } = message;
    if (type === "response" || type === "error") {
      const answer = this.#waiting.get(id);
      this.#waiting.delete(id);
      answer?.(message);
    } else if (event === "session.created") {
      this.#opened = true;
      this.#delay = BACKOFF_MS[0];
      this.#on.state("open", data);
      for (const channel of this.#channels.keys()) {
        this.join(channel).catch((error) => error.code && this.#on.note(channel, error.message));
      }
    } else if (event === "session.token_expiring") {
      this.#on.expiring(data.expires_in);
    } else if (event === "channel.gap") {
      this.#on.note(room, `lost ${data.lost ?? "some"}: this page did not keep up`);
      if (data.epoch) this.#channels.set(room, { epoch: data.epoch, offset: data.offset });
    } else if (event === "channel.withdrawn") {
      this.#channels.delete(room);
      this.#on.note(room, "is no longer permitted");
    } else if (type === "event" && room) {
      const position = this.#channels.get(room);
      if (position && message.offset) position.offset = message.offset;
      this.#on.event(message);
    }
  }

  #refused(why) {
    const socket = this.#socket;
    this.#drop();
    this.#token = null;
    socket?.close();
    this.#on.state("token", why);
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#socket = null;
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const answer of waiting) answer(null);
  }

  #lost(code, reason) {
    const opened = this.#opened;
    this.#drop();
    // The server has ended it and will not have it back with the same token.
    if (code === 1008 && this.#token) return this.#refused(reason || "The server has ended the connection.");
    // Not all pages that one restart has cut off come at once.
    const inMs = this.#delay * (0.5 + Math.random() / 2);
    this.#delay = Math.min(this.#delay * 2, BACKOFF_MS[1]);
    this.#on.state("away", { inMs, opened });
    this.#timer = setTimeout(() => this.#connect(), inMs);
  }
}
