/**
 * What a screen reader hears: an answer sentence by sentence, through a polite live region.
 *
 * The log itself is not live, since a reader would start anew at every token.
 */

import { h } from "./dom.js";

const KEPT = 5; // sentences that stay in the region; older ones have been read

export class Speaker {
  #pending = "";
  #fenced = false;

  /** @param {HTMLElement} region */
  constructor(region) {
    this.region = region;
  }

  /** Say a text at once. @param {string} text */
  say(text) {
    const words = text.replace(/[*_`~#>|]+/g, "").replace(/\]\(\S*\)/g, "").replace(/[[\]]/g, "").trim();
    if (words === "") return;
    this.region.append(h("p", {}, words));
    while (this.region.childElementCount > KEPT) this.region.firstElementChild?.remove();
  }

  /** Take in more of an answer, and say the sentences that it completes. @param {string} text */
  add(text) {
    this.#pending += text;
    const parts = this.#pending.split(/(?<=[.!?…。！？:]["'”’)*_]*\s)|(?<=\n)/);
    this.#pending = parts.pop() ?? "";
    parts.forEach((part) => this.#sentence(part));
  }

  /** The answer is complete: say the rest. */
  finish() {
    this.#sentence(this.#pending);
    this.#pending = "";
    this.#fenced = false;
  }

  /** Code is announced, not read aloud: the reader can go to it. @param {string} part */
  #sentence(part) {
    if (/^\s*(```|~~~)/.test(part)) {
      this.#fenced = !this.#fenced;
      if (this.#fenced) this.say("Code follows.");
    } else if (!this.#fenced) {
      this.say(part);
    }
  }
}
