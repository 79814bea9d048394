// Holds a board of Grafana against the types that its authors publish, by their compiler: the board is put into a program
// as a value of its type. The program that says "ok" only if a spoilt board is refused too.
import { createRequire } from "node:module";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const modules = process.env.TEST_MODULES;
const ts = createRequire(modules)("typescript");
const board = JSON.parse(readFileSync(process.argv[2], "utf8"));

// What only an import reads.
for (const name of Object.keys(board)) {
  if (name.startsWith("__")) delete board[name];
}

const dir = mkdtempSync(join(tmpdir(), "board-"));
symlinkSync(join(modules, "node_modules"), join(dir, "node_modules"));

/** What the compiler says of these boards. */
function check(...boards) {
  const files = boards.map((board, number) => {
    const file = join(dir, `board${number}.ts`);
    const panels = board.panels.filter((panel) => panel.type === "timeseries");
    writeFileSync(
      file,
      `import * as schema from "@grafana/schema";
import type { Options, FieldConfig } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
type Words<T> = T extends string | number ? T | \`\${T}\` : T extends (infer E)[] ? Words<E>[] : T extends object ? { [K in keyof T]: Words<T[K]> } : T;
export const board: Words<Omit<schema.Dashboard, "panels">> = ${JSON.stringify({ ...board, panels: undefined })};
export const panels: Words<schema.Panel | schema.RowPanel>[] = ${JSON.stringify(board.panels)};
export const options: Words<Options>[] = ${JSON.stringify(panels.map((panel) => panel.options))};
export const fields: Words<FieldConfig>[] = ${JSON.stringify(panels.map((panel) => panel.fieldConfig.defaults.custom))};
`,
    );
    return file;
  });
  const program = ts.createProgram(files, {
    noEmit: true,
    strict: true,
    skipLibCheck: true,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Node10,
    target: ts.ScriptTarget.ES2022,
    types: [],
  });
  return files.map((file) => {
    const source = program.getSourceFile(file);
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
    return found.map((one) => ts.flattenDiagnosticMessageText(one.messageText, "\n"));
  });
}

try {
  const spoilt = structuredClone(board);
  spoilt.panels.find((panel) => panel.type === "timeseries").fieldConfig.defaults.custom.drawStyle = "lines";
  const misspelt = structuredClone(board);
  misspelt.refesh = misspelt.refresh;
  const [said, style, name] = check(board, spoilt, misspelt);
  if (said.length > 0) console.log(said.join("\n"));
  else if (style.length === 0 || name.length === 0) console.log("spoilt boards are taken too");
  else console.log("ok");
} finally {
  rmSync(dir, { recursive: true });
}
