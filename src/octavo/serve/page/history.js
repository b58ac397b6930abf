/**
 * The list of conversations: by day, with search; open, rename, delete, export, import.
 */

import { h, iconButton } from "./dom.js";

/**
 * @typedef {import("./store.js").Conversation} Conversation
 * @typedef {{open(id: string): void, rename(id: string): void, remove(id: string): void}} Actions
 */

/**
 * Fill the list.
 * @param {HTMLElement} place
 * @param {Conversation[]} conversations newest first
 * @param {string | null} current the id of the one shown
 * @param {Actions} actions
 */
export function fillHistory(place, conversations, current, actions) {
  const groups = /** @type {Map<string, Conversation[]>} */ (new Map());
  for (const conversation of conversations) {
    const day = dayOf(conversation.updated);
    groups.set(day, [...(groups.get(day) ?? []), conversation]);
  }
  const sections = [...groups].flatMap(([day, group]) => [
    h("h2", {}, day),
    h("ul", {}, ...group.map((conversation) => entry(conversation, conversation.id === current, actions))),
  ]);
  place.replaceChildren(...sections);
}

/**
 * @param {Conversation} conversation
 * @param {boolean} current
 * @param {Actions} actions
 */
function entry({ id, title }, current, actions) {
  const open = h("button", { type: "button", class: "entry", title, onclick: () => actions.open(id) }, title);
  if (current) open.setAttribute("aria-current", "page");
  const rename = iconButton("edit", `Rename “${title}”`, () => actions.rename(id));
  const remove = iconButton("remove", `Delete “${title}”`, () => actions.remove(id));
  return h("li", {}, open, rename, remove);
}

/** @param {number} time */
function dayOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const days = Math.ceil((midnight - time) / 86_400_000);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  return days <= 7 ? "Last seven days" : "Earlier";
}

/**
 * Hand a text to the reader as a file.
 * @param {string} name
 * @param {string} text
 */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000); // the browser reads it after the click
}
