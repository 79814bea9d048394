// Lines of JSON as Node takes them.
//
// Usage: read_json_lines.mjs FILE COUNT

import { readFileSync } from "node:fs";

const [path, count] = process.argv.slice(2);
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lines = decoder.decode(readFileSync(path)).split("\n");
if (lines.pop() !== "") throw new Error("the last line has no end");
for (const line of lines) {
  const value = JSON.parse(line);
  if (value === null || typeof value !== "object") throw new Error(line);
}
if (lines.length !== Number(count)) throw new Error(`${lines.length} lines`);
console.log("ok");
