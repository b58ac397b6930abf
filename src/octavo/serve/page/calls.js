/**
 * The calls of an answer: which functions, with which arguments; and, while the model waits for them, fields for their
 * results. The page never runs anything itself.
 */

import { h } from "./dom.js";

/** @typedef {import("./store.js").Call} Call */

export class CallsView {
  #give;
  #shown = "";

  /** @param {(texts: string[]) => void} give takes the results, one a call */
  constructor(give) {
    this.#give = give;
    this.element = h("div", { class: "calls", hidden: true });
  }

  /**
   * @param {Call[]} calls
   * @param {boolean} waiting whether the model waits for the results
   */
  update(calls, waiting) {
    const state = JSON.stringify([calls, waiting]);
    if (state === this.#shown) return;
    this.#shown = state;
    this.element.hidden = calls.length === 0;
    const cards = calls.map((call) => h("div", { class: "call" },
      h("p", {}, "Calls ", h("code", {}, call.name)), h("pre", {}, h("code", {}, pretty(call.arguments)))));
    this.element.replaceChildren(...cards);
    if (waiting) this.element.append(this.#form(calls));
  }

  /** @param {Call[]} calls */
  #form(calls) {
    const fields = calls.map(({ name }) => h("textarea", { rows: 1, "aria-label": `Result of ${name}` }));
    const rows = calls.map(({ name }, index) => h("label", {}, `Result of ${name}`, fields[index]));
    const onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#give(fields.map((field) => field.value));
    };
    const send = h("button", { type: "submit", class: "filled" }, calls.length > 1 ? "Give results" : "Give result");
    return h("form", { onsubmit }, ...rows, h("div", { class: "row" }, send));
  }
}

/** @param {string} text JSON, or the beginning of it */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
