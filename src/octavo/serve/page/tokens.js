/**
 * A learner's view of sampling: an answer token by token, each as strongly coloured as it was unlikely, with what else
 * might have stood there.
 */

import { h } from "./dom.js";

/** @typedef {import("./api.js").Token} Token */

/**
 * @param {Token[]} tokens
 * @returns {HTMLElement}
 */
export function tokenView(tokens) {
  const told = h("div", { class: "told", role: "status" });
  const line = h("div", { class: "line" });
  const hint = "Point at a word, or step through them with the arrow keys.";
  const tell = (/** @type {number} */ index) => {
    told.replaceChildren(...(index < 0 ? [h("p", { class: "hint" }, hint)] : alternatives(tokens[index])));
    for (const [place, part] of [...line.children].entries()) part.classList.toggle("chosen", place === index);
  };
  line.append(...tokens.map((token, index) => {
    const part = h("span", { class: "token", onmouseenter: () => tell(index) }, token.token);
    part.style.setProperty("--doubt", String(1 - Math.exp(token.logprob)));
    return part;
  }));
  let place = -1;
  line.tabIndex = 0;
  line.setAttribute("role", "application");
  line.setAttribute("aria-label", "Tokens");
  line.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    place = Math.min(Math.max(place + step, 0), tokens.length - 1);
    tell(place);
  });
  tell(-1);
  return h("div", { class: "tokens" }, line, told);
}

/** @param {Token} token */
function alternatives(token) {
  const others = token.top_logprobs.some((other) => other.token === token.token);
  const rows = others ? token.top_logprobs : [token, ...token.top_logprobs];
  return [h("ol", {}, ...rows.map((row) => {
    const share = Math.exp(row.logprob);
    const bar = h("span", { class: "bar" });
    bar.style.setProperty("--share", String(share));
    const mark = row.token === token.token ? "chosen" : "";
    return h("li", { class: mark }, h("code", {}, visible(row.token)), bar, h("span", {}, percent(share)));
  }))];
}

/** @param {number} share */
function percent(share) {
  return share < 0.001 ? "under 0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** Spaces and line ends as marks. @param {string} text */
function visible(text) {
  return text.replace(/ /g, "␣").replace(/\n/g, "↵") || "∅";
}
