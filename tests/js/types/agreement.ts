// Does tokenwire.d.ts say of tokenwire.js what is so? tsc answers; `make check` asks it.
// The links in this folder have names that make tsc read the module itself, not its declarations.
import * as declared from "./tokenwire.js";
import * as written from "./written.js";

/** Everything that is declared is exported, and is of the declared type. */
export const module: typeof declared = written;

type Undeclared = Exclude<keyof typeof written, keyof typeof declared>;

/** Nothing else is exported. */
export const undeclared: [Undeclared] extends [never] ? "nothing" : Undeclared = "nothing";

/** `type` tells the parts of a message apart. */
export function textOf(part: declared.Part): string {
  switch (part.type) {
    case "text":
    case "reasoning":
      return part.text;
    case "tool_call":
      return part.input;
    case "source":
    case "file":
      return part.url ?? "";
    default:
      return "";
  }
}
