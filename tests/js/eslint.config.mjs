// What ESLint looks for in the page and in the tests of it: mistakes, not taste. `make check` runs
// it.
import js from "@eslint/js";
import globals from "globals";

const mistakes = {
  "array-callback-return": "error",
  "default-case-last": "error",
  eqeqeq: ["error", "always", { null: "ignore" }],
  "no-constructor-return": "error",
  "no-duplicate-imports": "error",
  "no-eval": "error",
  "no-implied-eval": "error",
  "no-loop-func": "error",
  "no-new-func": "error",
  "no-script-url": "error",
  "no-self-compare": "error",
  "no-shadow": "error",
  "no-template-curly-in-string": "error",
  "no-unmodified-loop-condition": "error",
  "no-unreachable-loop": "error",
  "no-unused-private-class-members": "off", // takes `this.#x ||= ...` for no use
  // `({ a, ...rest }) => rest` leaves `a` out.
  "no-unused-vars": ["error", { ignoreRestSiblings: true }],
  "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
  "no-useless-assignment": "error",
  "no-var": "error",
  "prefer-const": "error",
  "prefer-promise-reject-errors": "error",
};

export default [
  { ignores: ["web/page/static/vendor/**", "**/node_modules/**", "tests/js/types/**"] },
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: { ...js.configs.recommended.rules, ...mistakes },
  },
  { files: ["web/page/static/**"], languageOptions: { globals: globals.browser } },
  { files: ["tests/**"], languageOptions: { globals: globals.node } },
];
