/**
 * One message as it stands in the log: its text, thoughts and calls, what can be done with it, and how fast it came.
 */

import { copyButton, h, icon, iconButton } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { tokenView } from "./tokens.js";
import { CallsView } from "./calls.js";
import { linkMarks, sourceList } from "./citations.js";

/**
 * @typedef {import("./store.js").Message} Message
 * @typedef {{again(message: Message): void, edit(message: Message, text: string): void,
 *   rate(message: Message, rating: "up" | "down" | null): void, results(message: Message, texts: string[]): void,
 *   show(message: Message): void, focus(): void, tokens(message: Message): import("./api.js").Token[] | null}} Actions
 *   `focus` goes back to the composer; `tokens`: of an answer, where they were asked for
 */

export class MessageView {
  #message;
  #actions;
  #markdown;
  #body;
  #thoughts = h("div", { class: "thinking" });
  #thinking = h("details", { class: "thoughts", hidden: true }, h("summary", {}, "Thoughts"), this.#thoughts);
  #calls;
  #sources = /** @type {HTMLElement | null} */ (null);
  #note = h("p", { class: "note" });
  #error = h("div", { class: "error", role: "alert" });
  #footer = h("footer");
  #stats = h("span", { class: "stats" });
  #tokens = iconButton("tokens", "How likely each word was", () => this.#measure());

  /**
   * @param {Message} message
   * @param {Message[]} versions the message and its siblings
   * @param {Actions} actions
   */
  constructor(message, versions, actions) {
    this.#message = message;
    this.#actions = actions;
    const mine = message.role === "user";
    this.#body = h("div", { class: mine ? "words" : "prose" });
    this.#markdown = new MarkdownView(this.#body);
    this.#calls = new CallsView((texts) => actions.results(message, texts));
    const author = { user: "You", tool: "Result", assistant: message.model || "Assistant" }[message.role];
    this.element = h("article", { class: `message ${message.role}`, "aria-label": author });
    this.element.append(h("h2", { class: mine ? "unseen" : "author" }, author), this.#thinking, this.#body);
    if (!mine) this.element.append(this.#calls.element, this.#note, this.#error);
    this.element.append(this.#footer);
    this.#fillFooter(versions);
  }

  /**
   * Show the message as it is now.
   * @param {boolean} open more text is to come
   * @param {boolean} last nothing follows it
   */
  update(open = false, last = false) {
    const { role, content, finish, error, stats, thoughts = "", calls = [] } = this.#message;
    this.element.classList.toggle("open", open);
    this.element.setAttribute("aria-busy", String(open));
    if (role !== "assistant") {
      this.#body.textContent = content;
      return;
    }
    this.#thinking.hidden = thoughts === "";
    if (this.#thoughts.textContent !== thoughts) this.#thoughts.textContent = thoughts;
    this.#calls.update(calls, !open && last && finish === "tool_calls");
    if (!this.element.classList.contains("measured")) this.#markdown.update(content, open);
    this.#cite();
    this.#tokens.hidden = open || !this.#actions.tokens(this.#message)?.length;
    const shown = content || thoughts || calls.length > 0;
    setText(this.#note, open ? (shown ? "" : "Reading …") : noteOf(finish, shown ? "said" : ""));
    this.#error.hidden = !error;
    if (error && !this.#error.hasChildNodes()) {
      const again = () => this.#actions.again(this.#message);
      const button = h("button", { type: "button", class: "text", onclick: again }, "Try again");
      this.#error.append(h("p", {}, error), button);
    }
    setText(this.#stats, stats ? describe(stats) : "");
  }

  /** Citations as buttons, and below the text what they are of. */
  #cite() {
    const { citations = [] } = this.#message;
    if (citations.length === 0) return;
    linkMarks(this.#body, citations);
    this.#sources?.remove();
    this.#sources = sourceList(citations);
    this.#body.after(this.#sources);
  }

  /** @param {Message[]} versions */
  #fillFooter(versions) {
    const message = this.#message;
    if (versions.length > 1) this.#footer.append(this.#versionSwitch(versions));
    this.#footer.append(copyButton("Copy message", () => message.content));
    if (message.role === "user") {
      this.#footer.append(iconButton("edit", "Edit message", () => this.edit()));
    } else if (message.role === "assistant") {
      this.#tokens.setAttribute("aria-pressed", "false");
      this.#footer.append(iconButton("again", "Regenerate", () => this.#actions.again(message)));
      this.#footer.append(this.#thumb("up", "Good answer"), this.#thumb("down", "Bad answer"));
      this.#footer.append(this.#tokens, this.#stats);
    }
  }

  /**
   * A rating that is pressed again is taken back.
   * @param {"up" | "down"} rating
   * @param {string} label
   */
  #thumb(rating, label) {
    const message = this.#message;
    const button = iconButton(rating, label, () => {
      this.#actions.rate(message, message.rating === rating ? null : rating);
      for (const thumb of this.#footer.querySelectorAll("[data-rating]")) show(thumb);
    });
    const show = (/** @type {Element} */ thumb) =>
      thumb.setAttribute("aria-pressed", String(thumb.getAttribute("data-rating") === message.rating));
    button.dataset.rating = rating;
    show(button);
    return button;
  }

  /** Show the tokens in the place of the text, or the text again. */
  #measure() {
    const on = this.element.classList.toggle("measured");
    this.#tokens.setAttribute("aria-pressed", String(on));
    this.element.querySelector(".tokens")?.remove();
    if (on) this.#body.after(tokenView(this.#actions.tokens(this.#message) ?? []));
    else this.#markdown.update(this.#message.content, false);
  }

  /** @param {Message[]} versions */
  #versionSwitch(versions) {
    const place = versions.indexOf(this.#message);
    const step = (/** @type {number} */ by) => () => this.#actions.show(versions[place + by]);
    const previous = iconButton("previous", "Previous version", step(-1));
    const next = iconButton("next", "Next version", step(1));
    previous.disabled = place === 0;
    next.disabled = place === versions.length - 1;
    const count = h("span", {}, h("span", { class: "unseen" }, "Version "), `${place + 1} of ${versions.length}`);
    return h("span", { class: "versions" }, previous, count, next);
  }

  /** Put an editor in the place of the text. Enter sends, Esc gives up. */
  edit() {
    if (this.element.classList.contains("editing")) return;
    const area = h("textarea", { value: this.#message.content, "aria-label": "Edit message", rows: 2 });
    const close = () => {
      this.element.classList.remove("editing");
      form.remove();
      this.#actions.focus();
    };
    const send = () => {
      const text = area.value.trim();
      if (text) this.#actions.edit(this.#message, text);
      if (text) this.#actions.focus();
    };
    const onkeydown = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    area.addEventListener("keydown", onkeydown);
    const cancel = h("button", { type: "button", class: "text", onclick: close }, "Cancel");
    const submit = h("button", { type: "button", class: "filled", onclick: send }, "Send");
    const form = h("div", { class: "editor" }, area, h("div", { class: "row" }, cancel, submit));
    this.element.classList.add("editing");
    this.#body.after(form);
    fitHeight(area);
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

/**
 * Let a text area grow with its text where the style sheet cannot.
 * @param {HTMLTextAreaElement} area
 */
export function fitHeight(area) {
  if (CSS.supports("field-sizing", "content")) return;
  const fit = () => {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight}px`;
  };
  area.addEventListener("input", fit);
  fit();
}

/**
 * The row of first questions in an empty conversation.
 * @param {HTMLElement} list
 * @param {(text: string) => void} choose
 */
export function fillIdeas(list, choose) {
  const ideas = [
    "Explain why the sky is blue to a curious child.",
    "Write a short poem about a lighthouse in winter.",
    "Show me how to reverse a list in Python.",
    "Give me three tips for a good night’s sleep.",
  ];
  list.append(...ideas.map((text) =>
    h("li", {}, h("button", { type: "button", onclick: () => choose(text) }, h("span", {}, text), icon("next")))));
}

/**
 * @param {string | undefined} finish
 * @param {string} content
 */
function noteOf(finish, content) {
  if (finish === "cancelled") return "Stopped.";
  if (finish === "length") return "The answer reached its greatest length.";
  return finish === "stop" && content === "" ? "The model had nothing to say." : "";
}

/** @param {import("./store.js").Stats} stats */
function describe({ tokens, prompt, firstToken, speed, context }) {
  const number = new Intl.NumberFormat("en");
  const used = number.format(prompt + tokens);
  return [
    speed === null ? "" : `${speed < 100 ? speed.toFixed(1) : Math.round(speed)} tokens/s`,
    `first token ${firstToken.toFixed(2)} s`,
    prompt === 0 ? "" : context ? `context ${used} of ${number.format(context)}` : `context ${used} tokens`,
  ].filter(Boolean).join(" · ");
}

/**
 * @param {HTMLElement} element
 * @param {string} text empty hides it
 */
function setText(element, text) {
  element.hidden = text === "";
  if (element.textContent !== text) element.textContent = text;
}
