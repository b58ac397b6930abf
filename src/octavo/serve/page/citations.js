/**
 * Numbered citations: buttons in the place of an answer's marks, a list of sources below it, and the passage highlighted
 * in its document.
 */

import { h, iconButton } from "./dom.js";
import { documentText } from "./grounded.js";
import { closeFromOutside } from "./settings.js";

/** @typedef {import("./grounded.js").Citation} Citation */

/**
 * Make the marks of an answer buttons. Marks and citations come in one order.
 * @param {HTMLElement} body the rendered answer; what is a button already stays
 * @param {Citation[]} citations
 */
export function linkMarks(body, citations) {
  body.normalize(); // brackets come as nodes of their own
  let next = body.querySelectorAll("button.mark").length;
  const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
  const texts = /** @type {Text[]} */ ([]);
  for (let node; (node = walker.nextNode()); ) {
    if (!node.parentElement?.closest("button, code")) texts.push(/** @type {Text} */ (node));
  }
  for (const text of texts) {
    for (let rest = text, found; (found = /\[(\d+)\]/.exec(rest.data)); ) {
      const mark = rest.splitText(found.index);
      rest = mark.splitText(found[0].length);
      const citation = citations[next];
      if (!citation || citation.number !== Number(found[1])) continue;
      next++;
      mark.replaceWith(markButton(citation));
    }
  }
}

/** @param {Citation} citation */
function markButton(citation) {
  const label = `Source ${citation.number}: ${placeOf(citation)}`;
  const onclick = () => viewer().show(citation.collection, citation.file, citation.name, citation);
  return h("button", { type: "button", class: "mark", title: placeOf(citation), "aria-label": label, onclick },
    String(citation.number));
}

/**
 * What an answer rests on, each passage once.
 * @param {Citation[]} citations
 */
export function sourceList(citations) {
  const rows = citations.map((citation) => {
    const open = h("button", { type: "button", onclick: () =>
      viewer().show(citation.collection, citation.file, citation.name, citation) },
    h("span", { class: "place" }, `${citation.number} · ${placeOf(citation)}`), h("q", {}, citation.text));
    return h("li", {}, open);
  });
  return h("section", { class: "sources", "aria-label": "Sources" }, h("ol", {}, ...rows));
}

/** Where a citation is, in words. @param {Citation} citation */
export function placeOf({ name, page, line }) {
  if (page !== null) return `${name}, page ${page}`;
  return line === null ? name : `${name}, line ${line}`;
}

class Viewer {
  #title = h("h2", { id: "passage-title" });
  #place = h("p", { class: "hint" });
  #text = h("div", { class: "text-of", tabIndex: 0, role: "document", "aria-labelledby": "passage-title" });
  #dialog;
  #asked = 0;

  constructor() {
    const close = iconButton("close", "Close the document", () => this.#dialog.close());
    this.#dialog = h("dialog", { id: "passage", "aria-labelledby": "passage-title" },
      h("div", { class: "row" }, this.#title, close), this.#place, this.#text);
    closeFromOutside(this.#dialog);
    document.body.append(this.#dialog);
  }

  /**
   * @param {string} collection
   * @param {string} file
   * @param {string} name
   * @param {Citation | null} citation what to highlight
   */
  async show(collection, file, name, citation) {
    const asked = ++this.#asked;
    this.#title.textContent = name;
    this.#place.textContent = "Opening …";
    this.#text.replaceChildren();
    if (!this.#dialog.open) this.#dialog.showModal();
    let text = "";
    try {
      text = await documentText(collection, file);
    } catch (error) {
      if (asked !== this.#asked) return;
      const { kind, message } = /** @type {import("./api.js").ApiError} */ (error);
      this.#place.textContent = kind === "refused" ? "This document is not there any more. It said:" : message;
      if (citation) this.#text.replaceChildren(h("mark", {}, citation.text));
      return;
    }
    if (asked === this.#asked) this.#fill(text, citation);
  }

  /**
   * @param {string} text
   * @param {Citation | null} citation
   */
  #fill(text, citation) {
    this.#place.textContent = "";
    if (!citation) {
      this.#text.replaceChildren(text);
      this.#text.scrollTop = 0;
      return;
    }
    const start = unitsOf(text, citation.start);
    const end = start + unitsOf(text.slice(start), citation.end - citation.start);
    if (text.slice(start, end) !== citation.text) {
      this.#place.textContent = "This document has changed since. It said:";
      this.#text.replaceChildren(h("mark", {}, citation.text));
      return;
    }
    const where = placeOf(citation).slice(citation.name.length + 2);
    const characters = `characters ${citation.start} to ${citation.end}`;
    this.#place.textContent = where ? `${where}, ${characters}` : characters;
    const mark = h("mark", { tabIndex: -1 }, text.slice(start, end));
    this.#text.replaceChildren(text.slice(0, start), mark, text.slice(end));
    mark.scrollIntoView({ block: "center" });
    mark.focus({ preventScroll: true });
  }
}

let shared = /** @type {Viewer | null} */ (null);

/** The one viewer of the page, built when it is first needed. */
export function viewer() {
  shared ??= new Viewer();
  return shared;
}

/**
 * How many units of JavaScript's strings so many characters are: the server counts code points.
 * @param {string} text
 * @param {number} characters
 */
export function unitsOf(text, characters) {
  let units = 0;
  for (let count = 0; count < characters && units < text.length; count++) {
    units += /** @type {number} */ (text.codePointAt(units)) > 0xffff ? 2 : 1;
  }
  return units;
}
