// The subscriber of clients/js/recovering.mjs with the `ws` package, in a world where the connection breaks.
// Usage: missing_nothing.mjs WS_URL LAST [session]
//
// With `session` it keeps one, and is a member of the channel. Prints a line of JSON for each event, {"n": …, "offset": …}, and for each loss, {"lost": REASON}. Ends behind the event whose
// `n` is LAST.

import { createRequire } from "node:module";
import { follow } from "../../../clients/js/recovering.mjs";

const { WebSocket } = createRequire(process.env.TEST_MODULES)("ws");
const [url, last, keeps] = process.argv.slice(2);

const follower = follow(url, ["workflow:42"], {
  WebSocket,
  silenceMs: 300,
  backoffMs: [10, 100],
  ...(keeps ? { session: { ttl: 60 }, presence: { info: { name: "Ada" } } } : {}),
  onEvent({ event, data: { n }, offset }) {
    if (event.startsWith("presence.")) return;
    console.log(JSON.stringify({ n, offset }));
    if (n === Number(last)) follower.close();
  },
  onLost: (channel, reason) => console.log(JSON.stringify({ lost: reason })),
  onRefused: (why) => console.log(JSON.stringify({ refused: why })),
});
